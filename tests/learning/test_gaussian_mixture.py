"""Particles named in the directions of a discriminant: classes of any size are found, and labels are kept."""

import numpy as np
import pytest

from tomosift.learning.gaussian_mixture import label_by_gaussian_mixture
from tomosift.learning.label_propagation import assign_pseudo_labels, out_of_fold_logits
from tomosift.learning.plda import PLDA


@pytest.fixture(scope="module")
def plda() -> PLDA:
    """Classes differ along the first four of sixteen axes; the others only vary within them."""
    return PLDA(np.zeros(16), np.eye(16)[:, :4] * 40, np.full(4, 0.9))


def particles(sizes: tuple[int, ...], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of about unit length whose classes overlap along the axes that do not count."""
    rng = np.random.default_rng(seed)
    label = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    middle = rng.normal(size=(len(sizes), 4))
    middle *= 0.08 / np.linalg.norm(middle, axis=1, keepdims=True)
    points = rng.normal(0, 0.25, size=(len(label), 16))
    points[:, :4] = middle[label] + rng.normal(0, 0.025, size=(len(label), 4))
    points[:, 15] += 1
    return points.astype(np.float32), label


@pytest.mark.parametrize("sizes", [(100, 100, 100), (300, 60, 20)])
def test_one_label_of_each_class_names_nearly_all(sizes: tuple[int, ...], plda: PLDA) -> None:
    points, label = particles(sizes)
    given = np.array([int(np.flatnonzero(label == k)[0]) for k in range(3)])
    named = label_by_gaussian_mixture(points[given], label[given], points, plda)
    assert (named == label).mean() > 0.9
    nearest = np.square(plda.coordinates(points)[:, None] - plda.coordinates(points)[given]).sum(2).argmin(1)
    assert (named == label).mean() >= (nearest == label).mean()


def test_classes_keep_their_numbers_where_some_have_no_label(plda: PLDA) -> None:
    points, label = particles((50, 50, 50))
    given = np.flatnonzero(label > 0)[:10]
    assert set(label_by_gaussian_mixture(points[given], label[given], points, plda)) == {1, 2}


def test_agreement_with_a_discriminant_is_right_more_often_than_the_mixture(plda: PLDA) -> None:
    points, label = particles((150, 150, 150), seed=4)
    given = np.concatenate([np.flatnonzero(label == k)[:2] for k in range(3)])
    agreed = assign_pseudo_labels(points[given], label[given], points, 3, plda)
    sure = agreed >= 0
    mixed = label_by_gaussian_mixture(points[given], label[given], points, plda)
    assert sure.mean() > 0.5
    assert (agreed[sure] == label[sure]).mean() >= (mixed == label).mean()
    crossed = out_of_fold_logits(points[given], label[given], points, 3, plda)
    assert crossed.shape == (6, 3)


def test_arguments_stay_and_the_result_is_the_same_each_time(plda: PLDA) -> None:
    points, label = particles((30, 30))
    before = points.copy()
    first = label_by_gaussian_mixture(points[:8], label[:8], points, plda)
    assert (first == label_by_gaussian_mixture(points[:8], label[:8], points, plda)).all()
    assert (points == before).all()
