"""PLDA learns from some classes in which directions others differ."""

import numpy as np
import pytest
import torch

from tomosift.inference.heads import CosineHead, PLDAHead, PrototypeHead
from tomosift.learning.plda import fit_plda

SIZE = 12
BETWEEN = np.array([2.0, 1.5, 1.0] + [0.1] * (SIZE - 3))
WITHIN = np.array([0.2, 0.2, 0.2] + [2.0] * (SIZE - 3))


def draw_classes(classes: int, each: int, seed: int, away: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Classes differ in three directions, particles in all others; far from the origin, so that angles are small."""
    rng = np.random.default_rng(seed)
    means = rng.normal(size=(classes, SIZE)) * BETWEEN
    label = np.repeat(np.arange(classes), each)
    origin = np.full(SIZE, 10.0)
    origin[0] += away
    return (means[label] + rng.normal(size=(len(label), SIZE)) * WITHIN + origin).astype(np.float32), label


def one_shot(head: PrototypeHead, embeddings: np.ndarray, label: np.ndarray) -> float:
    queries = torch.from_numpy(embeddings)
    head.standardize(queries)
    first = np.searchsorted(label, np.arange(label.max() + 1))
    with torch.inference_mode():
        predicted = head.compare(queries, queries[first]).argmax(1).numpy()
    return float((predicted == label).mean())


def test_other_classes_are_separated_better_than_by_the_angle() -> None:
    queries = draw_classes(8, 50, 1)
    head = PLDAHead(SIZE, 0)
    head.load(fit_plda(*draw_classes(80, 20, 0)))
    assert one_shot(head, *queries) > one_shot(CosineHead(SIZE, 0), *queries) + 0.1


def test_differences_between_groups_are_not_taken_for_differences_between_classes() -> None:
    (first, label), (second, more) = draw_classes(60, 20, 0), draw_classes(60, 20, 5, away=6.0)
    embeddings, classes = np.concatenate([first, second]), np.concatenate([label, more + 60])
    group = np.repeat([0, 1], len(label))
    fitted, mixed = fit_plda(embeddings, classes, group), fit_plda(embeddings, classes)
    assert mixed.shrinkage[0] > fitted.shrinkage[0] + 0.02
    alone = fit_plda(first, label)
    np.testing.assert_allclose(fitted.shrinkage[:3], alone.shrinkage[:3], atol=0.1)


def test_classes_that_do_not_differ_are_shrunk_away_and_unlabeled_particles_take_no_part() -> None:
    rng = np.random.default_rng(0)
    embeddings, label = rng.normal(size=(2000, SIZE)).astype(np.float32) + 5, np.repeat(np.arange(100), 20)
    fitted = fit_plda(embeddings, label)
    assert fitted.shrinkage.max() < 0.1
    uneven = np.concatenate([np.repeat(np.arange(80), 3), np.repeat(np.arange(80, 98), 97)[:1710], np.arange(98, 148)])
    assert fit_plda(embeddings, uneven).shrinkage.max() < 0.2
    more = fit_plda(np.concatenate([embeddings, embeddings[:50] * 100]), np.concatenate([label, np.full(50, -1)]))
    np.testing.assert_array_equal(more.shrinkage, fitted.shrinkage)


def test_too_few_classes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"4 labeled particles of 1 classes do not show .* label several particles"):
        fit_plda(np.ones((4, 3)), np.zeros(4, dtype=np.int64))
    with pytest.raises(ValueError, match="3 labeled particles of 3 classes"):
        fit_plda(np.eye(3), np.arange(3))
