"""Particles near a class are familiar, others are not."""

import torch

from tomosift.inference.novelty import SimilarityScore


def drawn(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_members_of_a_class_are_more_familiar_than_others_whatever_the_scale_of_the_embedding() -> None:
    scale, offset = torch.logspace(-2, 2, 16), 5 * drawn(16, seed=0)
    middles = 3 * drawn(3, 16, seed=1)
    label = torch.arange(2).repeat_interleave(20)
    labeled = (middles[label] + drawn(40, 16, seed=2)) * scale + offset
    strangers = (middles[2] + drawn(30, 16, seed=3)) * scale + offset
    similarity = SimilarityScore(16, 2)
    similarity.remember(torch.cat([labeled, strangers]), labeled[::4], label[::4])
    assert float(similarity(labeled).min()) > float(similarity(strangers).max())
    assert float(similarity(labeled).max()) <= 1 + 1e-6


def test_classes_without_labels_are_nobody_s_nearest() -> None:
    embeddings = drawn(10, 4, seed=4)
    similarity = SimilarityScore(4, 3)
    similarity.remember(embeddings, embeddings[:6], torch.tensor([0, 0, 0, 2, 2, 2]))
    assert torch.equal(similarity.direction[1], torch.zeros(4))
    assert torch.allclose(similarity.direction[[0, 2]].norm(dim=1), torch.ones(2))


def test_before_anything_is_remembered_nothing_is_familiar() -> None:
    assert float(SimilarityScore(4, 2)(drawn(3, 4, seed=5)).abs().max()) == 0.0
