"""Clusters without labels: their number is right, a seed fixes them, and stability shows which are real."""

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from tomosift.learning.clustering import MAX_TO_FIT, find_clusters, standardize_for_clustering
from tomosift.learning.plda import PLDA

DIMENSIONS = 12


def draw_clusters(count: int, each: int, apart: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of ``each`` particles about each of several centers, with deviation 1."""
    rng = np.random.default_rng(seed)
    label = np.repeat(np.arange(count), each)
    return apart * rng.normal(size=(count, DIMENSIONS))[label] + rng.normal(size=(count * each, DIMENSIONS)), label


@pytest.mark.parametrize("count", [3, 5, 8])
def test_clusters_that_lie_apart_are_recovered_and_counted(count: int) -> None:
    coordinates, label = draw_clusters(count, 60, 3.0)
    clusters = find_clusters(coordinates)
    assert clusters.probability.shape == (len(coordinates), count)
    assert adjusted_rand_score(label, clusters.label) > 0.98
    assert clusters.stability.min() > 0.9
    np.testing.assert_allclose(clusters.probability.sum(axis=1), 1)


def test_the_largest_comes_first_and_the_same_seed_gives_the_same() -> None:
    coordinates, label = draw_clusters(4, 60, 3.0)
    kept = np.concatenate([np.flatnonzero(label == k)[: 60 - 12 * k] for k in range(4)])
    first, again = find_clusters(coordinates[kept], seed=3), find_clusters(coordinates[kept], seed=3)
    assert np.bincount(first.label).tolist() == [60, 48, 36, 24]
    assert np.array_equal(first.probability, again.probability)


def test_clusters_of_one_cloud_are_not_stable() -> None:
    coordinates, _ = draw_clusters(1, 300, 1.0)
    assert find_clusters(coordinates, 8).stability.mean() < 0.5


@pytest.mark.parametrize("longest", [1.0, 3.0])
def test_one_cloud_is_one_cluster(longest: float) -> None:
    coordinates, _ = draw_clusters(1, 400, 1.0)
    coordinates[:, 0] *= longest
    clusters = find_clusters(coordinates)
    assert clusters.probability.shape == (400, 1)
    assert clusters.stability.tolist() == [1.0]


def test_no_cluster_is_empty_for_any_requested_number() -> None:
    for seed in range(4):
        clusters = find_clusters(np.random.default_rng(seed).normal(size=(30, 32)), 15, seed)
        assert np.bincount(clusters.label, minlength=clusters.probability.shape[1]).min() > 0
        np.testing.assert_allclose(clusters.probability.sum(axis=1), 1)


def test_a_requested_number_of_clusters_is_kept() -> None:
    coordinates, _ = draw_clusters(3, 60, 3.0)
    assert find_clusters(coordinates, 7).probability.shape[1] == 7


def test_particles_beyond_those_fitted_are_assigned_to_clusters() -> None:
    coordinates, label = draw_clusters(3, MAX_TO_FIT // 2, 3.0)
    assert adjusted_rand_score(label, find_clusters(coordinates, 3).label) > 0.98


@pytest.mark.parametrize(
    ("n", "count", "sentence"), [(5, None, "too few"), (40, 1, "expected 2 to 20"), (40, 21, "is 21")]
)
def test_impossible_numbers_of_clusters_are_refused(n: int, count: int | None, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        find_clusters(np.random.default_rng(0).normal(size=(n, 4)), count)


def test_coordinates_are_centered_and_those_of_the_plda() -> None:
    embeddings = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    plda = PLDA(np.zeros(8), 3 * np.eye(8), np.ones(8))
    coordinates = standardize_for_clustering(embeddings, plda)
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    np.testing.assert_allclose(coordinates, 3 * (unit - unit.mean(axis=0)), atol=1e-5)
    assert standardize_for_clustering(embeddings).shape == (50, 8)
