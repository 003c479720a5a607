"""Active learning in rounds queries as many particles as the budget has labels."""

import numpy as np
import pytest
from numpy.typing import NDArray

from tomosift.learning.query_rounds import QueryRounds, query_in_rounds
from tomosift.models.label_discriminator import unlabeled_probability


def blobs(each: int = 60, classes: int = 4, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    centers = 4 * rng.normal(size=(classes, 8))
    label = np.repeat(np.arange(classes), each)
    return centers[label] + rng.normal(size=(len(label), 8)), label


def test_rounds_end_at_the_budget_and_more_labels_extend_the_same_queries() -> None:
    x, label = blobs()
    queries: list[NDArray[np.int64]] = []

    def answer(rows: NDArray[np.int64]) -> NDArray[np.int64]:
        queries.append(rows)
        return label[rows]

    rounds = QueryRounds("margin", first_labels=8, labels_per_round=5)
    order = query_in_rounds(x, answer, 4, rounds, 20, 2, unlabeled_probability)
    assert [len(rows) for rows in queries] == [8, 5, 5, 2]
    np.testing.assert_array_equal(order, np.concatenate(queries))
    longer = query_in_rounds(x, lambda rows: label[rows], 4, rounds, 33, 2, unlabeled_probability)
    np.testing.assert_array_equal(longer[:18], order[:18])
    assert len(query_in_rounds(x, lambda rows: label[rows], 4, rounds, 10_000, 2, unlabeled_probability)) == len(x)


def test_particles_of_no_class_get_one_query_each() -> None:
    x, _ = blobs()
    order = query_in_rounds(x, lambda rows: np.full(len(rows), -1), 4, QueryRounds("entropy"), 40, seed=0)
    assert len(set(order.tolist())) == 40


def test_unknown_strategies_and_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="first is 'oil', expected one of random"):
        QueryRounds(first="oil")
    with pytest.raises(ValueError, match="labels_per_round is 0, expected at least 1"):
        QueryRounds(labels_per_round=0)
