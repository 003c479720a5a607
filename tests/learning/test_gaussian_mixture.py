"""Semi-supervised Gaussian mixture in the coordinates of a PLDA: classes of any size, and labels that stay."""

import numpy as np
import pytest

from tomosift.learning.gaussian_mixture import label_by_gaussian_mixture
from tomosift.learning.plda import PLDA
from tomosift.learning.pseudo_labels import assign_pseudo_labels, out_of_fold_logits


@pytest.fixture(scope="module")
def plda() -> PLDA:
    """Classes differ along the first four of sixteen axes; the others only vary within them."""
    return PLDA(np.zeros(16), np.eye(16)[:, :4] * 40, np.full(4, 0.9))


def particles(sizes: tuple[int, ...], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of about unit length whose classes overlap along the axes without class differences."""
    rng = np.random.default_rng(seed)
    label = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    means = rng.normal(size=(len(sizes), 4))
    means *= 0.08 / np.linalg.norm(means, axis=1, keepdims=True)
    points = rng.normal(0, 0.25, size=(len(label), 16))
    points[:, :4] = means[label] + rng.normal(0, 0.025, size=(len(label), 4))
    points[:, 15] += 1
    return points.astype(np.float32), label


@pytest.mark.parametrize("sizes", [(100, 100, 100), (300, 60, 20)])
def test_one_label_of_each_class_labels_nearly_all_others(sizes: tuple[int, ...], plda: PLDA) -> None:
    points, label = particles(sizes)
    labeled = np.array([int(np.flatnonzero(label == k)[0]) for k in range(3)])
    predicted = label_by_gaussian_mixture(points[labeled], label[labeled], points, plda)
    assert (predicted == label).mean() > 0.9
    nearest = np.square(plda.coordinates(points)[:, None] - plda.coordinates(points)[labeled]).sum(2).argmin(1)
    assert (predicted == label).mean() >= (nearest == label).mean()


def test_classes_keep_their_indices_where_some_have_no_label(plda: PLDA) -> None:
    points, label = particles((50, 50, 50))
    labeled = np.flatnonzero(label > 0)[:10]
    assert set(label_by_gaussian_mixture(points[labeled], label[labeled], points, plda)) == {1, 2}


def test_pseudo_labels_with_a_plda_are_right_more_often_than_the_mixture(plda: PLDA) -> None:
    points, label = particles((150, 150, 150), seed=4)
    labeled = np.concatenate([np.flatnonzero(label == k)[:2] for k in range(3)])
    pseudo_label = assign_pseudo_labels(points[labeled], label[labeled], points, 3, plda)
    is_kept = pseudo_label >= 0
    mixture = label_by_gaussian_mixture(points[labeled], label[labeled], points, plda)
    assert is_kept.mean() > 0.5
    assert (pseudo_label[is_kept] == label[is_kept]).mean() >= (mixture == label).mean()
    logits = out_of_fold_logits(points[labeled], label[labeled], points, 3, plda)
    assert logits.shape == (6, 3)


def test_arguments_stay_and_the_result_is_the_same_each_time(plda: PLDA) -> None:
    points, label = particles((30, 30))
    before = points.copy()
    first = label_by_gaussian_mixture(points[:8], label[:8], points, plda)
    assert (first == label_by_gaussian_mixture(points[:8], label[:8], points, plda)).all()
    assert (points == before).all()
