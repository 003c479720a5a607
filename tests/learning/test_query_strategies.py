"""Strategies that say which particles to label next."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from tomosift.learning.query_strategies import (
    QUERY_STRATEGIES,
    QueryConfig,
    QueryPool,
    QueryRounds,
    entropy,
    margin,
    query_in_rounds,
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
def test_particles_are_asked_for_once_each_and_the_same_ones_again(name: str, labeled: tuple[int, ...]) -> None:
    given = pool(labeled)
    rows = select_queries(name, given, 12, np.random.default_rng(3))
    assert len(set(rows.tolist())) == 12
    assert not given.is_labeled[rows].any()
    np.testing.assert_array_equal(rows, select_queries(name, given, 12, np.random.default_rng(3)))


@pytest.mark.parametrize("name", QUERY_STRATEGIES)
def test_no_more_are_asked_for_than_there_are(name: str) -> None:
    x, _ = blobs(each=5)
    given = QueryPool(x, np.full((20, 4), 0.25), np.arange(20) < 15, SHORT, unlabeled_probability)
    assert sorted(select_queries(name, given, 12, np.random.default_rng(0)).tolist()) == [15, 16, 17, 18, 19]
    assert (
        len(select_queries(name, replace(given, is_labeled=np.ones(20, dtype=bool)), 3, np.random.default_rng(0))) == 0
    )


def test_the_least_sure_are_those_of_even_probabilities() -> None:
    given = pool()
    probability = given.probability.copy()
    probability[[7, 70]] = 0.25
    probability[[8, 80]] = (0.5, 0.5, 0.0, 0.0)
    given = replace(given, probability=probability)
    assert set(select_queries("entropy", given, 2, np.random.default_rng(0))) == {7, 70}
    assert set(select_queries("margin", given, 4, np.random.default_rng(0))) == {7, 70, 8, 80}
    np.testing.assert_allclose(entropy(np.array([[0.25] * 4])), np.log(4))
    np.testing.assert_allclose(margin(np.array([[0.2, 0.7, 0.1]])), 0.5)


def test_core_set_goes_where_no_label_is() -> None:
    _, label = blobs()
    rows = select_queries("core-set", pool(), 2, np.random.default_rng(0))
    assert set(label[rows]) == {2, 3}  # the labeled particles are of classes 0 and 1


def test_typical_particles_are_near_the_middle_of_groups_without_a_label() -> None:
    x, label = blobs()
    rows = select_queries("typical", pool(()), 4, np.random.default_rng(0))
    assert set(label[rows]) == {0, 1, 2, 3}
    far = np.array([np.linalg.norm(x[row] - x[label == label[row]].mean(axis=0)) for row in rows])
    everywhere = np.concatenate([np.linalg.norm(x[label == k] - x[label == k].mean(axis=0), axis=1) for k in range(4)])
    assert far.max() < np.median(everywhere)


@pytest.mark.parametrize("name", ["discriminative", "hal"])
def test_a_discriminator_asks_for_kinds_that_have_no_label(name: str) -> None:
    _, label = blobs()
    given = pool(tuple(range(20)) + tuple(range(60, 80)), candidates=0, epochs=20, uncertainty_weight=0.1)
    rows = select_queries(name, given, 10, np.random.default_rng(0))
    assert np.isin(label[rows], (2, 3)).mean() >= 0.9


def test_what_was_just_asked_for_counts_as_labeled_for_the_next_part() -> None:
    _, label = blobs()
    labeled = tuple(range(20)) + tuple(range(60, 80)) + tuple(range(120, 140))
    together = pool(labeled, candidates=0, epochs=20, subsets=1)
    apart = pool(labeled, candidates=0, epochs=20, subsets=10)
    counts = [
        np.mean(
            [
                (label[select_queries("discriminative", given, 60, np.random.default_rng(k))] == 3).mean()
                for k in range(3)
            ]
        )
        for given in (together, apart)
    ]
    assert counts[0] > counts[1] > 0.25


def test_rounds_end_at_the_budget_and_longer_ones_begin_like_shorter_ones() -> None:
    x, label = blobs()
    seen: list[NDArray[np.int64]] = []

    def answer(rows: NDArray[np.int64]) -> NDArray[np.int64]:
        seen.append(rows)
        return label[rows]

    rounds = QueryRounds("margin", first_labels=8, labels_per_round=5)
    order = query_in_rounds(x, answer, 4, rounds, 20, 2, unlabeled_probability)
    assert [len(rows) for rows in seen] == [8, 5, 5, 2]
    np.testing.assert_array_equal(order, np.concatenate(seen))
    longer = query_in_rounds(x, lambda rows: label[rows], 4, rounds, 33, 2, unlabeled_probability)
    np.testing.assert_array_equal(longer[:18], order[:18])
    assert len(query_in_rounds(x, lambda rows: label[rows], 4, rounds, 10_000, 2, unlabeled_probability)) == len(x)


def test_particles_of_no_class_are_asked_for_and_pass() -> None:
    x, _ = blobs()
    order = query_in_rounds(x, lambda rows: np.full(len(rows), -1), 4, QueryRounds("entropy"), 40, seed=0)
    assert len(set(order.tolist())) == 40


def test_unknown_strategies_and_numbers_are_one_sentence() -> None:
    with pytest.raises(ValueError, match="query is 'magic', expected one of random"):
        select_queries("magic", pool(), 3, np.random.default_rng(0))
    with pytest.raises(ValueError, match="first is 'oil', expected one of random"):
        QueryRounds(first="oil")
    with pytest.raises(ValueError, match="labels_per_round is 0, expected at least 1"):
        QueryRounds(labels_per_round=0)
    with pytest.raises(ValueError, match="count is 0, expected at least 1"):
        select_queries("hal", pool(), 0, np.random.default_rng(0))
