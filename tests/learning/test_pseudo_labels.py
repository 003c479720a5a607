"""Pseudo-labels are those on which classifiers agree; out-of-fold logits show how good they are."""

import numpy as np
import pytest

from tomosift.learning import pseudo_labels
from tomosift.learning.label_propagation import propagate_labels
from tomosift.learning.pseudo_labels import assign_pseudo_labels, labels_suffice, out_of_fold_logits


def clusters(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Three bananas around three corners: neighbors are of one class, the far ends nearer to another's center."""
    rng = np.random.default_rng(seed)
    label = np.arange(count) % 3
    along = rng.uniform(-1, 1, count)
    bent = np.stack([3 * along, 2 * along**2, 4.0 * label, -4.0 * (label == 1)], axis=1)
    return bent + 0.15 * rng.normal(size=bent.shape), label


def test_pseudo_labels_are_mostly_right_and_leave_out_particles_of_no_class() -> None:
    points, label = clusters(600)
    rng = np.random.default_rng(1)
    clutter = np.array([0.0, 1.0, 4.0, -2.0]) + rng.normal(size=(200, 4)) * [2.0, 2.0, 3.0, 2.0]
    labeled = np.concatenate([np.flatnonzero(label == k)[:3] for k in range(3)])
    embeddings = np.concatenate([points, clutter])
    pseudo_label = assign_pseudo_labels(points[labeled], label[labeled], embeddings, 3)
    has_label = pseudo_label >= 0
    assert has_label[:600].mean() > has_label[600:].mean() + 0.1
    propagated = propagate_labels(points[labeled], label[labeled], embeddings, 3)
    right = (pseudo_label[:600] == label)[has_label[:600]].mean()
    assert right >= (propagated[:600] == label).mean()
    assert right > 0.9


def test_a_class_on_which_classifiers_never_agree_keeps_its_propagated_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    points, label = clusters(60)
    labeled = np.array([int(np.flatnonzero(label == k)[0]) for k in range(3)])
    only_propagated = np.where(label == 2, 2, 0)  # the probe below never predicts class 2

    class Probe:
        def logits(self, embeddings: np.ndarray) -> np.ndarray:
            return np.eye(3)[np.zeros(len(embeddings), dtype=int)]

    monkeypatch.setattr(pseudo_labels, "fit_linear_probe", lambda *_: Probe())
    monkeypatch.setattr(pseudo_labels, "propagate_labels", lambda *_: only_propagated)
    pseudo_label = assign_pseudo_labels(points[labeled], label[labeled], points, 3)
    np.testing.assert_array_equal(pseudo_label, only_propagated)


def test_out_of_fold_logits_of_few_labels_estimate_the_accuracy_of_label_propagation() -> None:
    points, label = clusters(300)
    labeled = np.concatenate([np.flatnonzero(label == k)[:4] for k in range(3)])
    propagated = propagate_labels(points[labeled], label[labeled], points, 3)
    logits = out_of_fold_logits(points[labeled], label[labeled], points, 3)
    assert logits.shape == (12, 3)
    assert (logits.argmax(1) == label[labeled]).mean() == pytest.approx((propagated == label).mean(), abs=0.2)
    shuffled = np.random.default_rng(0).permutation(label[labeled])
    assert (out_of_fold_logits(points[labeled], shuffled, points, 3).argmax(1) == shuffled).mean() < 0.6
    assert len(out_of_fold_logits(points[:3], label[:3], points, 3)) == 0


def test_labels_suffice_where_their_classes_lie_apart() -> None:
    rng, label = np.random.default_rng(0), np.repeat(np.arange(2), 20)
    apart = (4 * label[:, None] + rng.normal(size=(40, 8))).astype(np.float32)
    assert labels_suffice(apart, label, 2)
    assert not labels_suffice(apart, rng.permutation(label), 2)
    assert not labels_suffice(apart[[0, 20]], label[[0, 20]], 2)  # one of each class
