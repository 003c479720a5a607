"""Particles of labeled classes have a higher similarity than others."""

import torch

from tomosift.inference.novelty import SimilarityScore


def random(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_members_of_a_class_are_more_similar_than_others_at_any_scale_of_the_embedding() -> None:
    scale, offset = torch.logspace(-2, 2, 16), 5 * random(16, seed=0)
    means = 3 * random(3, 16, seed=1)
    label = torch.arange(2).repeat_interleave(20)
    labeled = (means[label] + random(40, 16, seed=2)) * scale + offset
    others = (means[2] + random(30, 16, seed=3)) * scale + offset
    similarity = SimilarityScore(16, 2)
    similarity.fit(torch.cat([labeled, others]), labeled[::4], label[::4])
    assert float(similarity(labeled).min()) > float(similarity(others).max())
    assert float(similarity(labeled).max()) <= 1 + 1e-6


def test_classes_without_labels_have_no_direction() -> None:
    embeddings = random(10, 4, seed=4)
    similarity = SimilarityScore(4, 3)
    similarity.fit(embeddings, embeddings[:6], torch.tensor([0, 0, 0, 2, 2, 2]))
    assert torch.equal(similarity.direction[1], torch.zeros(4))
    assert torch.allclose(similarity.direction[[0, 2]].norm(dim=1), torch.ones(2))


def test_the_similarity_is_zero_before_fitting() -> None:
    assert float(SimilarityScore(4, 2)(random(3, 4, seed=5)).abs().max()) == 0.0
