"""Heads: the linear head equals its probe; the others compare with prototypes as their papers define."""

import numpy as np
import pytest
import torch

from tomosift.inference.heads import (
    AttentionHead,
    CosineHead,
    EuclideanHead,
    LinearHead,
    PairHead,
    PLDAHead,
    PrototypeHead,
    build_head,
    minus_squared_distances,
)
from tomosift.learning.linear_probe import fit_linear_probe
from tomosift.learning.plda import fit_plda

PROTOTYPE_HEADS = ("prototypes", "euclidean", "attention", "pairs", "plda")


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def seeded(name: str, classes: int, size: int = 6) -> PrototypeHead:
    torch.manual_seed(0)
    head = build_head(name, size, classes)  # type: ignore[arg-type]
    assert isinstance(head, PrototypeHead)
    return head.eval()


def test_head_expresses_a_probe_in_standardized_embeddings() -> None:
    rng = np.random.default_rng(0)
    label = np.arange(40) % 2
    embeddings = (rng.normal(size=(40, 6)) * 3 + 5 + 4 * label[:, None]).astype(np.float32)
    probe = fit_linear_probe(embeddings, label, 2)
    head = LinearHead(6, 2)
    head.standardize(torch.from_numpy(embeddings))
    head.load_probe(probe)
    with torch.inference_mode():
        logits = head(torch.from_numpy(embeddings)).numpy()
    np.testing.assert_allclose(logits, probe.logits(embeddings), rtol=1e-3, atol=1e-3)


def test_standardized_embeddings_have_zero_mean_and_unit_deviation() -> None:
    head, embeddings = LinearHead(4, 2), torch.randn(50, 4) * 7 + 3
    embeddings[:, 3] = 2.0  # a constant must not divide by zero
    head.standardize(embeddings)
    standardized = (embeddings - head.mean) / head.deviation
    assert torch.allclose(standardized.mean(0), torch.zeros(4), atol=1e-5)
    assert torch.allclose(standardized.std(0, unbiased=False), torch.tensor([1.0, 1, 1, 0]), atol=1e-5)


def test_linear_head_without_classes_is_none() -> None:
    assert build_head("linear", 6, 0) is None


@pytest.mark.parametrize("name", PROTOTYPE_HEADS)
def test_logits_do_not_depend_on_other_particles_or_on_the_order_of_classes(name: str) -> None:
    head, query, prototypes = seeded(name, 0), random(5, 6), random(4, 6, seed=1)
    with torch.inference_mode():
        logits = head.compare(query, prototypes)
        alone = torch.cat([head.compare(row[None], prototypes) for row in query])
        reversed_logits = head.compare(query, prototypes.flip(0))
    assert logits.shape == (5, 4)
    assert torch.allclose(logits, alone, atol=1e-5)
    assert torch.allclose(logits, reversed_logits.flip(1), atol=1e-5)


@pytest.mark.parametrize("name", ["prototypes", "euclidean", "plda"])
def test_a_prototype_itself_is_of_its_own_class(name: str) -> None:
    prototypes = random(4, 6)
    assert seeded(name, 0).compare(prototypes, prototypes).argmax(1).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("name", PROTOTYPE_HEADS)
def test_a_head_with_more_classes_copies_weights_and_prototypes(name: str) -> None:
    earlier = seeded(name, 2)
    earlier.prototype.copy_(random(2, 6))
    torch.manual_seed(9)
    later = build_head(name, 6, 3)  # type: ignore[arg-type]
    assert isinstance(later, PrototypeHead)
    later.copy_from(earlier)
    assert torch.equal(later.prototype[:2], earlier.prototype)
    query = random(5, 6, seed=2)
    with torch.inference_mode():
        assert torch.equal(later.compare(query, earlier.prototype), earlier(query))


def test_squared_distances_are_those_of_their_definition_also_far_from_the_origin() -> None:
    query, prototypes = random(5, 6) + 1e4, random(4, 6, seed=1) + 1e4
    expected = -(query[:, None] - prototypes).square().sum(2)
    assert torch.allclose(minus_squared_distances(query, prototypes), expected, atol=1e-3)
    assert torch.equal(seeded("euclidean", 0).compare(query, prototypes), minus_squared_distances(query, prototypes))


def test_cosines_are_standardized_over_the_background() -> None:
    head = seeded("prototypes", 0)
    assert isinstance(head, CosineHead)
    around = random(500, 6) * 3 + 7
    head.standardize(around)
    assert abs(float(head.compare(around, around[:20]).mean())) < 0.1  # without standardization all are near 0.8
    assert EuclideanHead(6, 0).state_dict().keys() == {"prototype"}


def test_likelihoods_are_those_of_one_example() -> None:
    rng = np.random.default_rng(0)
    means = rng.normal(size=(60, 5)) * [3.0, 2.0, 1.0, 0.3, 0.0]
    embeddings = np.repeat(means, 20, axis=0) + rng.normal(size=(1200, 5)) * 0.2 + 9.0
    label = np.repeat(np.arange(60), 20)
    plda = fit_plda(embeddings, label)
    head = PLDAHead(5, 0)
    head.load(plda)
    query, example = (torch.from_numpy(embeddings[rows]).float() for rows in ([3, 900], [0, 600, 1190]))
    unit = torch.nn.functional.normalize
    queries, examples = (unit(each, dim=1).numpy() - plda.center for each in (query, example))
    # The expected mean after shrinkage, and unit variance about it, in the axes in which both covariances are diagonal.
    variance = plda.shrinkage / (1 - plda.shrinkage)
    whitened = plda.transform * np.sqrt(1 + plda.shrinkage)
    expected = examples @ whitened * variance / (variance + 1)
    distance = (queries @ whitened)[:, None] - expected
    likelihood = -0.5 * (distance**2 / (1 + variance / (variance + 1))).sum(2)
    with torch.inference_mode():
        np.testing.assert_allclose(head.compare(query, example).numpy(), likelihood, rtol=1e-3, atol=1e-3)
        head.standardize(torch.from_numpy(embeddings[:500]).float())
    assert np.abs(head.center.numpy() - plda.center).max() > 1e-3
    np.testing.assert_allclose(head.center.numpy(), unit(torch.from_numpy(embeddings[:500]), dim=1).mean(0), atol=1e-5)


def test_attention_adds_refined_distances_to_plain_ones_and_stops_gradients_to_the_encoder() -> None:
    head = seeded("attention", 0)
    assert isinstance(head, AttentionHead)
    query, prototypes = random(5, 6).requires_grad_(), random(4, 6, seed=1).requires_grad_()
    logits, attention = head.compare_refined(query, prototypes)
    assert attention.shape == (5, 5, 5)
    assert torch.allclose(attention.sum(2), torch.ones(5, 5))
    (logits - minus_squared_distances(query, prototypes)).square().sum().backward()
    # What is left after the plain distances is the refined part, which must not train the encoder.
    assert float(query.grad.abs().max()) < 1e-3
    assert all(p.grad is not None for p in head.parameters())


def test_pairs_are_symmetric_and_agree_with_the_comparison() -> None:
    head = seeded("pairs", 0)
    assert isinstance(head, PairHead)
    first, second = random(4, 6), random(4, 6, seed=1)
    assert torch.allclose(head.compare_pairs(first, second), head.compare_pairs(second, first))
    assert torch.allclose(head.compare(first, second).diagonal(), head.compare_pairs(first, second))
