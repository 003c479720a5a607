"""Active learning in rounds: a query, its answers, and a probe of all answers before the next query."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int64
from numpy.typing import NDArray

from tomosift.conventions import UNLABELED
from tomosift.learning.calibration import softmax
from tomosift.learning.linear_probe import fit_linear_probe
from tomosift.learning.query_strategies import (
    QUERY_STRATEGIES,
    Discriminator,
    QueryConfig,
    QueryPool,
    select_queries,
)

AnswerQuery = Callable[[NDArray[np.int64]], NDArray[np.int64]]
"""Function of rows that returns their classes, -1 where an annotator gives none."""


@dataclass(frozen=True)
class QueryRounds:
    """Number of labels and strategy of each round."""

    query: str = "hal"
    """Name of the query strategy."""
    first: str = "typical"
    """Strategy of the first round, when there is no classifier yet."""
    first_labels: int = 20
    """Particles of the first round."""
    labels_per_round: int = 20
    """Particles of every later round."""
    settings: QueryConfig = field(default_factory=QueryConfig)

    def __post_init__(self) -> None:
        for name in ("query", "first"):
            if getattr(self, name) not in QUERY_STRATEGIES:
                raise ValueError(f"{name} is {getattr(self, name)!r}, expected one of {', '.join(QUERY_STRATEGIES)}")
        for name in ("first_labels", "labels_per_round"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 1")


def query_in_rounds(
    embedding: Float[np.ndarray, "n e"],
    answer: AnswerQuery,
    classes: int,
    rounds: QueryRounds,
    labels: int,
    seed: int,
    discriminate: Discriminator | None = None,
) -> Int64[np.ndarray, " q"]:
    """Select particles round by round, with a probe of all answers so far as the classifier between rounds.

    Parameters
    ----------
    embedding
        Of n particles.
    answer
        Returns the classes of the rows of a query.
    classes
        Number k of classes.
    rounds
        Labels and strategy of each round.
    labels
        Number q of queries in all; n where there are fewer particles.
    seed
        Of the random numbers.
    discriminate
        Required by the strategies ``discriminative`` and ``hal``.

    Returns
    -------
    array
        (q,) rows in the order of the queries. More labels extend this list, unless fewer labels end within a round.
    """
    rng = np.random.default_rng(seed)
    label = np.full(len(embedding), UNLABELED)
    is_taken = np.zeros(len(embedding), dtype=bool)
    order = np.zeros(0, dtype=np.int64)
    probability = np.full((len(embedding), classes), 1 / classes)
    while len(order) < min(labels, len(embedding)):
        name = rounds.query if len(order) else rounds.first
        count = rounds.labels_per_round if len(order) else rounds.first_labels
        pool = QueryPool(embedding, probability, is_taken, rounds.settings, discriminate)
        rows = select_queries(name, pool, min(count, labels - len(order)), rng)
        order, label[rows] = np.concatenate((order, rows)), answer(rows)
        is_taken[rows] = True
        if (label >= 0).any():
            probability = softmax(fit_linear_probe(embedding, label, classes).logits(embedding))
    return order
