"""Directions in which classes differ, learned from other classes."""

import numpy as np
import pytest
import torch

from tomosift.inference.heads import CosineHead, PLDAHead, PrototypeHead
from tomosift.learning.plda import fit_plda

SIZE = 12
BETWEEN = np.array([2.0, 1.5, 1.0] + [0.1] * (SIZE - 3))
WITHIN = np.array([0.2, 0.2, 0.2] + [2.0] * (SIZE - 3))


def drawn(classes: int, each: int, seed: int, away: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Classes differ in three directions, particles in all others; far from the origin, so that angles are small."""
    rng = np.random.default_rng(seed)
    place = rng.normal(size=(classes, SIZE)) * BETWEEN
    label = np.repeat(np.arange(classes), each)
    origin = np.full(SIZE, 10.0)
    origin[0] += away
    return (place[label] + rng.normal(size=(len(label), SIZE)) * WITHIN + origin).astype(np.float32), label


def one_shot(head: PrototypeHead, embeddings: np.ndarray, label: np.ndarray) -> float:
    given = torch.from_numpy(embeddings)
    head.standardize(given)
    first = np.searchsorted(label, np.arange(label.max() + 1))
    with torch.inference_mode():
        said = head.compare(given, given[first]).argmax(1).numpy()
    return float((said == label).mean())


def test_unseen_classes_are_told_apart_better_than_by_the_angle() -> None:
    asked = drawn(8, 50, 1)
    head = PLDAHead(SIZE, 0)
    head.load(fit_plda(*drawn(80, 20, 0)))
    assert one_shot(head, *asked) > one_shot(CosineHead(SIZE, 0), *asked) + 0.1


def test_what_tells_groups_apart_is_not_taken_for_what_tells_classes_apart() -> None:
    (first, label), (second, more) = drawn(60, 20, 0), drawn(60, 20, 5, away=6.0)
    embeddings, classes = np.concatenate([first, second]), np.concatenate([label, more + 60])
    group = np.repeat([0, 1], len(label))
    found, mixed = fit_plda(embeddings, classes, group), fit_plda(embeddings, classes)
    assert mixed.shrinkage[0] > found.shrinkage[0] + 0.02
    alone = fit_plda(first, label)
    np.testing.assert_allclose(found.shrinkage[:3], alone.shrinkage[:3], atol=0.1)


def test_classes_that_do_not_differ_are_shrunk_away_and_unlabeled_particles_take_no_part() -> None:
    rng = np.random.default_rng(0)
    embeddings, label = rng.normal(size=(2000, SIZE)).astype(np.float32) + 5, np.repeat(np.arange(100), 20)
    found = fit_plda(embeddings, label)
    assert found.shrinkage.max() < 0.1
    uneven = np.concatenate([np.repeat(np.arange(80), 3), np.repeat(np.arange(80, 98), 97)[:1710], np.arange(98, 148)])
    assert fit_plda(embeddings, uneven).shrinkage.max() < 0.2
    more = fit_plda(np.concatenate([embeddings, embeddings[:50] * 100]), np.concatenate([label, np.full(50, -1)]))
    np.testing.assert_array_equal(more.shrinkage, found.shrinkage)


def test_too_few_classes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"4 labeled particles of 1 classes do not show .* label several particles"):
        fit_plda(np.ones((4, 3)), np.zeros(4, dtype=np.int64))
    with pytest.raises(ValueError, match="3 labeled particles of 3 classes"):
        fit_plda(np.eye(3), np.arange(3))
