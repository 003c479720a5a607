"""Contrastive losses against loops written from their equations, closed forms and chance levels."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import rel_entr
from torch.nn import functional

from tomosift.models.losses import attention_divergence, info_nce, nt_xent, supervised_contrastive, triplet_loss


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(a @ b / (a.norm() * b.norm()))


def naive_nt_xent(first: torch.Tensor, second: torch.Tensor, temperature: float) -> float:
    """Equation 1 of the paper, one pair at a time."""
    views, b = [*first, *second], len(first)
    total = 0.0
    for i, anchor in enumerate(views):
        others = [k for k in range(2 * b) if k != i]
        weight = {k: math.exp(cosine(anchor, views[k]) / temperature) for k in others}
        total -= math.log(weight[(i + b) % (2 * b)] / sum(weight.values()))
    return total / (2 * b)


def naive_info_nce(query: torch.Tensor, key: torch.Tensor, queue: torch.Tensor, temperature: float) -> float:
    total = 0.0
    for q, k in zip(query, key, strict=True):
        own = math.exp(cosine(q, k) / temperature)
        total -= math.log(own / (own + sum(math.exp(cosine(q, other) / temperature) for other in queue)))
    return total / len(query)


counts = st.integers(1, 6)
temperatures = st.floats(0.05, 2.0)
seeds = st.integers(0, 10_000)


@settings(deadline=None, max_examples=30)
@given(counts, temperatures, seeds)
def test_nt_xent_is_the_equation_written_as_a_loop(b: int, temperature: float, seed: int) -> None:
    first, second = drawn(b, 5, seed=seed), drawn(b, 5, seed=seed + 1)
    assert float(nt_xent(first, second, temperature)) == pytest.approx(naive_nt_xent(first, second, temperature))


@settings(deadline=None, max_examples=30)
@given(counts, counts, temperatures, seeds)
def test_info_nce_is_the_equation_written_as_a_loop(b: int, q: int, temperature: float, seed: int) -> None:
    query, key, queue = drawn(b, 5, seed=seed), drawn(b, 5, seed=seed + 1), drawn(q, 5, seed=seed + 2)
    expected = naive_info_nce(query, key, queue, temperature)
    assert float(info_nce(query, key, queue, temperature)) == pytest.approx(expected)


@pytest.mark.parametrize("b", [2, 7])
def test_embeddings_that_are_all_equal_stand_at_chance_level(b: int) -> None:
    same = torch.ones(b, 4)
    assert float(nt_xent(same, same, 0.2)) == pytest.approx(math.log(2 * b - 1), rel=1e-5)
    assert float(info_nce(same, same, torch.ones(9, 4), 0.2)) == pytest.approx(math.log(10), rel=1e-5)


def test_perfect_pairs_that_are_orthogonal_to_all_others_give_the_closed_form() -> None:
    views, temperature = torch.eye(4, dtype=torch.float64), 0.5
    own = math.exp(1 / temperature)
    assert float(nt_xent(views, views, temperature)) == pytest.approx(-math.log(own / (own + 6)))
    queue = torch.eye(8, dtype=torch.float64)[:5, :]
    query = torch.eye(8, dtype=torch.float64)[5:]
    assert float(info_nce(query, query, queue, temperature)) == pytest.approx(-math.log(own / (own + 5)))


def test_length_of_embeddings_does_not_matter() -> None:
    first, second, queue = drawn(5, 6), drawn(5, 6, seed=1), drawn(9, 6, seed=2)
    lengths = torch.linspace(0.1, 9.0, 5, dtype=torch.float64)[:, None]
    assert torch.allclose(nt_xent(first, second, 0.3), nt_xent(first * lengths, 3 * second, 0.3))
    assert torch.allclose(info_nce(first, second, queue, 0.3), info_nce(first * lengths, second, 2 * queue, 0.3))


def test_the_two_views_are_interchangeable() -> None:
    first, second = drawn(5, 6), drawn(5, 6, seed=1)
    assert torch.allclose(nt_xent(first, second, 0.3), nt_xent(second, first, 0.3))


def test_no_gradient_reaches_keys_or_queue() -> None:
    query, key, queue = (drawn(4, 6, seed=k).requires_grad_() for k in range(3))
    info_nce(query, key, queue, 0.2).backward()
    assert query.grad is not None
    assert key.grad is None
    assert queue.grad is None


def test_one_step_along_the_gradient_brings_partners_together() -> None:
    first, second = drawn(6, 8).requires_grad_(), drawn(6, 8, seed=1)
    (gradient,) = torch.autograd.grad(nt_xent(first, second, 0.5), first)
    moved = first.detach() - 0.5 * gradient
    before, after = (functional.cosine_similarity(f, second).mean() for f in (first.detach(), moved))
    assert after > before


def test_arguments_are_untouched() -> None:
    tensors = [drawn(4, 6, seed=k) for k in range(3)]
    copies = [t.clone() for t in tensors]
    nt_xent(tensors[0], tensors[1], 0.2)
    info_nce(*tensors, 0.2)
    assert all(torch.equal(a, b) for a, b in zip(tensors, copies, strict=True))


def naive_triplet(embeddings: torch.Tensor, label: list[int], margin: float) -> float:
    n, losses = len(label), []
    distance = [[2 - 2 * cosine(embeddings[i], embeddings[j]) for j in range(n)] for i in range(n)]
    for a in range(n):
        for p in range(n):
            if a == p or label[a] != label[p]:
                continue
            others = [distance[a][k] for k in range(n) if label[k] != label[a]]
            farther = [d for d in others if d > distance[a][p]]
            losses.append(max(0.0, distance[a][p] - (min(farther) if farther else max(others)) + margin))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("seed", range(5))
def test_triplets_follow_their_definition(seed: int) -> None:
    embeddings, label = drawn(9, 4, seed=seed), [0, 1, 2, 0, 1, 2, 0, 0, 1]
    loss = float(triplet_loss(embeddings.float(), torch.tensor(label), 0.3))
    assert loss == pytest.approx(naive_triplet(embeddings, label, 0.3), abs=1e-5)


def test_triplets_are_zero_for_classes_far_apart_and_where_there_are_none() -> None:
    apart = torch.eye(2).repeat_interleave(3, 0).requires_grad_()
    assert float(triplet_loss(apart, torch.tensor([0, 0, 0, 1, 1, 1])).detach()) == 0.0
    alone = triplet_loss(apart, torch.arange(6))
    alone.backward()
    assert float(alone.detach()) == 0.0
    assert float(triplet_loss(apart, torch.zeros(6, dtype=torch.int64)).detach()) == 0.0


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), temperature=st.sampled_from([0.1, 0.5]))
def test_supervised_contrast_is_its_definition_written_as_a_loop(seed: int, temperature: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    embeddings, label = torch.randn(9, 4, generator=generator), torch.randint(4, (9,), generator=generator)
    unit = functional.normalize(embeddings, dim=1)
    terms = []
    for i in range(9):
        others = [j for j in range(9) if j != i]
        whole = torch.stack([(unit[i] @ unit[j] / temperature).exp() for j in others]).sum()
        terms += [-(unit[i] @ unit[j] / temperature - whole.log()) for j in others if label[j] == label[i]]
    expected = torch.stack(terms).mean() if terms else torch.zeros(())
    assert torch.allclose(supervised_contrastive(embeddings, label, temperature), expected, atol=1e-4)


def test_supervised_contrast_of_lone_particles_is_zero_and_has_a_gradient() -> None:
    embeddings = torch.randn(3, 4, requires_grad=True)
    loss = supervised_contrastive(embeddings, torch.arange(3), 0.1)
    loss.backward()
    assert float(loss.detach()) == 0
    assert embeddings.grad is not None
    assert not embeddings.grad.any()


def test_attention_divergence_is_zero_for_the_target_and_otherwise_that_of_scipy() -> None:
    target = torch.eye(4).repeat(2, 1, 1)
    for particle, way in enumerate((0, 2)):
        for one in (way, 3):
            target[particle, one] = 0.0
            target[particle, one, [way, 3]] = 0.5
    way = torch.tensor([0, 2])
    assert float(attention_divergence(target, way)) == pytest.approx(0.0, abs=1e-6)
    attention = torch.randn(2, 4, 4, generator=torch.Generator().manual_seed(0)).softmax(2).requires_grad_()
    divergence = attention_divergence(attention, way)
    assert float(divergence.detach()) == pytest.approx(
        rel_entr(target.numpy(), attention.detach().numpy()).mean(), rel=1e-5
    )
    divergence.backward()
    assert bool(attention.grad.isfinite().all())
