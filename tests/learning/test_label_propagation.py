"""Labels spread along clusters."""

import numpy as np
import pytest

from tomosift.learning import label_propagation as spreading
from tomosift.learning.label_propagation import (
    assign_pseudo_labels,
    labels_suffice,
    out_of_fold_logits,
    propagate_labels,
)


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
    spread = propagate_labels(points[ends], label[ends], points, 3)
    assert (spread == label).mean() > 0.95
    assert (spread == label).mean() >= (nearest == label).mean()


def test_a_class_without_label_is_never_given() -> None:
    points, label = clusters(90)
    assert set(propagate_labels(points[:2], label[:2], points, 5)) <= {0, 1}


def test_particles_that_no_label_reaches_take_the_nearest() -> None:
    rng = np.random.default_rng(0)
    near, far = rng.normal(size=(40, 2)), rng.normal(400, size=(40, 2))
    spread = propagate_labels(near[:2], np.array([0, 1]), np.concatenate([near, far]), 2)
    assert set(spread) <= {0, 1}
    assert len(spread) == 80


def test_no_label_is_an_error() -> None:
    with pytest.raises(ValueError, match="spreading needs at least one"):
        propagate_labels(np.zeros((2, 3)), np.array([-1, -1]), np.zeros((4, 3)), 2)


def test_arguments_stay_and_the_result_is_the_same_each_time() -> None:
    points, label = clusters(60)
    before = points.copy()
    first = propagate_labels(points[:6], label[:6], points, 3)
    assert (first == propagate_labels(points[:6], label[:6], points, 3)).all()
    assert (points == before).all()


def test_agreement_keeps_what_is_right_and_leaves_out_what_lies_elsewhere() -> None:
    points, label = clusters(600)
    rng = np.random.default_rng(1)
    clutter = np.array([0.0, 1.0, 4.0, -2.0]) + rng.normal(size=(200, 4)) * [2.0, 2.0, 3.0, 2.0]
    given = np.concatenate([np.flatnonzero(label == k)[:3] for k in range(3)])
    everything = np.concatenate([points, clutter])
    agreed = assign_pseudo_labels(points[given], label[given], everything, 3)
    kept = agreed >= 0
    assert kept[:600].mean() > kept[600:].mean() + 0.1
    spread = propagate_labels(points[given], label[given], everything, 3)
    right = (agreed[:600] == label)[kept[:600]].mean()
    assert right >= (spread[:600] == label).mean()
    assert right > 0.9


def test_no_class_is_lost_where_nothing_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    points, label = clusters(60)
    given = np.array([int(np.flatnonzero(label == k)[0]) for k in range(3)])
    never_two = np.where(label == 2, 2, 0)  # the probe below never says 2, so that nothing of class 2 is agreed on

    class Probe:
        def logits(self, embeddings: np.ndarray) -> np.ndarray:
            return np.eye(3)[np.zeros(len(embeddings), dtype=int)]

    monkeypatch.setattr(spreading, "fit_probe", lambda *_: Probe())
    monkeypatch.setattr(spreading, "spread_labels", lambda *_: never_two)
    agreed = assign_pseudo_labels(points[given], label[given], points, 3)
    np.testing.assert_array_equal(agreed, never_two)


def test_accuracy_of_spreading_is_told_from_few_labels() -> None:
    points, label = clusters(300)
    given = np.concatenate([np.flatnonzero(label == k)[:4] for k in range(3)])
    spread = propagate_labels(points[given], label[given], points, 3)
    crossed = out_of_fold_logits(points[given], label[given], points, 3)
    assert crossed.shape == (12, 3)
    assert (crossed.argmax(1) == label[given]).mean() == pytest.approx((spread == label).mean(), abs=0.2)
    shuffled = np.random.default_rng(0).permutation(label[given])
    assert (out_of_fold_logits(points[given], shuffled, points, 3).argmax(1) == shuffled).mean() < 0.6
    assert len(out_of_fold_logits(points[:3], label[:3], points, 3)) == 0


def test_labels_name_one_another_where_their_classes_lie_apart() -> None:
    rng, label = np.random.default_rng(0), np.repeat(np.arange(2), 20)
    apart = (4 * label[:, None] + rng.normal(size=(40, 8))).astype(np.float32)
    assert labels_suffice(apart, label, 2)
    assert not labels_suffice(apart, rng.permutation(label), 2)
    assert not labels_suffice(apart[[0, 20]], label[[0, 20]], 2)  # none has another of its class
