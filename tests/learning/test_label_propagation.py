"""Label propagation follows clusters of any shape."""

import numpy as np
import pytest

from tomosift.learning.label_propagation import propagate_labels


def clusters(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Three bananas around three corners: neighbors are of one class, the far ends nearer to another's center."""
    rng = np.random.default_rng(seed)
    label = np.arange(count) % 3
    along = rng.uniform(-1, 1, count)
    bent = np.stack([3 * along, 2 * along**2, 4.0 * label, -4.0 * (label == 1)], axis=1)
    return bent + 0.15 * rng.normal(size=bent.shape), label


def test_one_label_at_an_end_reaches_the_whole_cluster() -> None:
    points, label = clusters(600)
    ends = [int(np.flatnonzero(label == k)[np.argmax(points[label == k, 0])]) for k in range(3)]
    nearest = np.square(points[:, None] - points[ends]).sum(2).argmin(1)
    propagated = propagate_labels(points[ends], label[ends], points, 3)
    assert (propagated == label).mean() > 0.95
    assert (propagated == label).mean() >= (nearest == label).mean()


def test_a_class_without_label_is_never_assigned() -> None:
    points, label = clusters(90)
    assert set(propagate_labels(points[:2], label[:2], points, 5)) <= {0, 1}


def test_particles_that_no_label_reaches_get_that_of_the_nearest_labeled_one() -> None:
    rng = np.random.default_rng(0)
    near, far = rng.normal(size=(40, 2)), rng.normal(400, size=(40, 2))
    propagated = propagate_labels(near[:2], np.array([0, 1]), np.concatenate([near, far]), 2)
    assert set(propagated) <= {0, 1}
    assert len(propagated) == 80


def test_no_label_is_an_error() -> None:
    with pytest.raises(ValueError, match="label propagation needs at least one"):
        propagate_labels(np.zeros((2, 3)), np.array([-1, -1]), np.zeros((4, 3)), 2)


def test_arguments_stay_and_the_result_is_the_same_each_time() -> None:
    points, label = clusters(60)
    before = points.copy()
    first = propagate_labels(points[:6], label[:6], points, 3)
    assert (first == propagate_labels(points[:6], label[:6], points, 3)).all()
    assert (points == before).all()
