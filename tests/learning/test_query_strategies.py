"""Query strategies select unlabeled particles, each for its own reason."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from tomosift.learning.query_strategies import (
    QUERY_STRATEGIES,
    QueryConfig,
    QueryPool,
    entropy,
    margin,
    select_queries,
)
from tomosift.models.label_discriminator import unlabeled_probability

SHORT = QueryConfig(subsets=2, epochs=3)


def blobs(each: int = 60, classes: int = 4, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    centers = 4 * rng.normal(size=(classes, 8))
    label = np.repeat(np.arange(classes), each)
    return centers[label] + rng.normal(size=(len(label), 8)), label


def pool(labeled: tuple[int, ...] = (0, 1, 60, 61), **changes: object) -> QueryPool:
    x, _ = blobs()
    rng = np.random.default_rng(1)
    probability = rng.dirichlet(np.ones(4), size=len(x))
    is_labeled = np.zeros(len(x), dtype=bool)
    is_labeled[list(labeled)] = True
    return QueryPool(x, probability, is_labeled, replace(SHORT, **changes), unlabeled_probability)


@pytest.mark.parametrize("name", QUERY_STRATEGIES)
@pytest.mark.parametrize("labeled", [(), (0, 1, 60, 61)])
def test_queries_are_distinct_and_repeatable(name: str, labeled: tuple[int, ...]) -> None:
    particles = pool(labeled)
    rows = select_queries(name, particles, 12, np.random.default_rng(3))
    assert len(set(rows.tolist())) == 12
    assert not particles.is_labeled[rows].any()
    np.testing.assert_array_equal(rows, select_queries(name, particles, 12, np.random.default_rng(3)))


@pytest.mark.parametrize("name", QUERY_STRATEGIES)
def test_queries_are_no_more_than_unlabeled_particles(name: str) -> None:
    x, _ = blobs(each=5)
    particles = QueryPool(x, np.full((20, 4), 0.25), np.arange(20) < 15, SHORT, unlabeled_probability)
    assert sorted(select_queries(name, particles, 12, np.random.default_rng(0)).tolist()) == [15, 16, 17, 18, 19]
    labeled = replace(particles, is_labeled=np.ones(20, dtype=bool))
    assert len(select_queries(name, labeled, 3, np.random.default_rng(0))) == 0


def test_even_probabilities_are_the_most_uncertain() -> None:
    particles = pool()
    probability = particles.probability.copy()
    probability[[7, 70]] = 0.25
    probability[[8, 80]] = (0.5, 0.5, 0.0, 0.0)
    particles = replace(particles, probability=probability)
    assert set(select_queries("entropy", particles, 2, np.random.default_rng(0))) == {7, 70}
    assert set(select_queries("margin", particles, 4, np.random.default_rng(0))) == {7, 70, 8, 80}
    np.testing.assert_allclose(entropy(np.array([[0.25] * 4])), np.log(4))
    np.testing.assert_allclose(margin(np.array([[0.2, 0.7, 0.1]])), 0.5)


def test_core_set_selects_classes_without_a_label() -> None:
    _, label = blobs()
    rows = select_queries("core-set", pool(), 2, np.random.default_rng(0))
    assert set(label[rows]) == {2, 3}  # the labeled particles are of classes 0 and 1


def test_typical_particles_lie_near_the_center_of_clusters_without_a_label() -> None:
    x, label = blobs()
    rows = select_queries("typical", pool(()), 4, np.random.default_rng(0))
    assert set(label[rows]) == {0, 1, 2, 3}
    far = np.array([np.linalg.norm(x[row] - x[label == label[row]].mean(axis=0)) for row in rows])
    everywhere = np.concatenate([np.linalg.norm(x[label == k] - x[label == k].mean(axis=0), axis=1) for k in range(4)])
    assert far.max() < np.median(everywhere)


@pytest.mark.parametrize("name", ["discriminative", "hal"])
def test_a_discriminator_selects_classes_without_a_label(name: str) -> None:
    _, label = blobs()
    particles = pool(tuple(range(20)) + tuple(range(60, 80)), candidates=0, epochs=20, uncertainty_weight=0.1)
    rows = select_queries(name, particles, 10, np.random.default_rng(0))
    assert np.isin(label[rows], (2, 3)).mean() >= 0.9


def test_selected_particles_count_as_labeled_for_the_next_part() -> None:
    _, label = blobs()
    labeled = tuple(range(20)) + tuple(range(60, 80)) + tuple(range(120, 140))
    together = pool(labeled, candidates=0, epochs=20, subsets=1)
    apart = pool(labeled, candidates=0, epochs=20, subsets=10)
    counts = [
        np.mean(
            [
                (label[select_queries("discriminative", particles, 60, np.random.default_rng(k))] == 3).mean()
                for k in range(3)
            ]
        )
        for particles in (together, apart)
    ]
    assert counts[0] > counts[1] > 0.25


def test_unknown_strategies_and_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="query is 'magic', expected one of random"):
        select_queries("magic", pool(), 3, np.random.default_rng(0))
    with pytest.raises(ValueError, match="count is 0, expected at least 1"):
        select_queries("hal", pool(), 0, np.random.default_rng(0))
