"""Clusters without labels: as many as there are, the same each time, stable where particles differ."""

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from tomosift.learning.clustering import MOST_TO_FIT, find_clusters, standardize_for_clustering
from tomosift.learning.plda import PLDA

DIRECTIONS = 12


def crowds(count: int, each: int, apart: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Places of ``each`` particles about each of several middles, with deviation 1."""
    rng = np.random.default_rng(seed)
    label = np.repeat(np.arange(count), each)
    return apart * rng.normal(size=(count, DIRECTIONS))[label] + rng.normal(size=(count * each, DIRECTIONS)), label


@pytest.mark.parametrize("count", [3, 5, 8])
def test_crowds_that_lie_apart_are_found_and_counted(count: int) -> None:
    places, label = crowds(count, 60, 3.0)
    found = find_clusters(places)
    assert found.probability.shape == (len(places), count)
    assert adjusted_rand_score(label, found.label) > 0.98
    assert found.stability.min() > 0.9
    np.testing.assert_allclose(found.probability.sum(axis=1), 1)


def test_the_largest_comes_first_and_the_same_seed_gives_the_same() -> None:
    places, label = crowds(4, 60, 3.0)
    kept = np.concatenate([np.flatnonzero(label == k)[: 60 - 12 * k] for k in range(4)])
    first, again = find_clusters(places[kept], seed=3), find_clusters(places[kept], seed=3)
    assert np.bincount(first.label).tolist() == [60, 48, 36, 24]
    assert np.array_equal(first.probability, again.probability)


def test_clusters_of_one_cloud_are_not_stable() -> None:
    places, _ = crowds(1, 300, 1.0)
    assert find_clusters(places, 8).stability.mean() < 0.5


@pytest.mark.parametrize("longest", [1.0, 3.0])
def test_one_cloud_is_one_cluster(longest: float) -> None:
    places, _ = crowds(1, 400, 1.0)
    places[:, 0] *= longest
    found = find_clusters(places)
    assert found.probability.shape == (400, 1)
    assert found.stability.tolist() == [1.0]


def test_no_cluster_is_empty_however_many_are_asked_for() -> None:
    for seed in range(4):
        found = find_clusters(np.random.default_rng(seed).normal(size=(30, 32)), 15, seed)
        assert np.bincount(found.label, minlength=found.probability.shape[1]).min() > 0
        np.testing.assert_allclose(found.probability.sum(axis=1), 1)


def test_a_number_asked_for_is_kept() -> None:
    places, _ = crowds(3, 60, 3.0)
    assert find_clusters(places, 7).probability.shape[1] == 7


def test_particles_beyond_those_fitted_join_them() -> None:
    places, label = crowds(3, MOST_TO_FIT // 2, 3.0)
    assert adjusted_rand_score(label, find_clusters(places, 3).label) > 0.98


@pytest.mark.parametrize(
    ("n", "count", "sentence"), [(5, None, "too few"), (40, 1, "expected 2 to 20"), (40, 21, "is 21")]
)
def test_what_cannot_be_is_refused(n: int, count: int | None, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        find_clusters(np.random.default_rng(0).normal(size=(n, 4)), count)


def test_comparable_places_are_about_their_middle_and_follow_the_discriminant() -> None:
    embeddings = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    plda = PLDA(np.zeros(8), 3 * np.eye(8), np.ones(8))
    places = standardize_for_clustering(embeddings, plda)
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    np.testing.assert_allclose(places, 3 * (unit - unit.mean(axis=0)), atol=1e-5)
    assert standardize_for_clustering(embeddings).shape == (50, 8)
