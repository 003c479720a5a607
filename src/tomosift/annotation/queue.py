"""Which particles to ask about next: the strategies of active learning, asked ahead of the person."""

from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

from tomosift.learning.query_strategies import QueryPool, margin, select_queries
from tomosift.models.label_discriminator import unlabeled_probability

_AHEAD = 48
"""Particles that a strategy chooses at once; until they are asked, the teacher has long chosen anew."""
_LOOKED_AT = 4000
"""Particles that it chooses among, drawn at random: neighborhoods of more would take minutes."""


@runtime_checkable
class LabelingQueue(Protocol):
    """Chooses what to ask."""

    reason: str
    """Why a particle of this queue is asked, for the person who is asked."""

    def next(self, count: int, exclude: Bool[np.ndarray, " n"]) -> NDArray[np.int64]:
        """At most ``count`` rows of the set, the most worth asking first, none of those excluded."""
        ...


class FixedQueue:
    """Rows in an order that was made before anybody asked, so that nobody waits."""

    def __init__(self, rows: Int[np.ndarray, " m"], reason: str) -> None:
        self._rows, self.reason = rows, reason

    def next(self, count: int, exclude: Bool[np.ndarray, " n"]) -> NDArray[np.int64]:
        """The first of them that are not excluded."""
        return np.asarray(self._rows[~exclude[self._rows]][:count], dtype=np.int64)


def random_queue(rows: Int[np.ndarray, " m"]) -> FixedQueue:
    """A queue for as long as nothing is known of any box."""
    return FixedQueue(np.random.default_rng(0).permutation(rows), "spread over the set")


def strategy_queue(
    rows: Int[np.ndarray, " m"],
    places: Float[np.ndarray, "m d"],
    probabilities: Float[np.ndarray, "m k"],
    learned: Int[np.ndarray, " l"],
    seed: int,
) -> FixedQueue:
    """Typical particles while fewer than two classes have labels (``k`` is 0), then those that HAL asks for; after
    these, in case of need, all others, those between two classes first.

    ``learned`` are the places of labeled particles.
    """
    rng = np.random.default_rng([seed, len(learned)])
    guesses = probabilities.shape[1] > 0
    known = probabilities if guesses else np.ones((len(rows), 1))
    is_learned = np.zeros(len(rows), dtype=bool)
    is_learned[learned] = True
    free = np.flatnonzero(~is_learned)
    some = rng.choice(free, min(len(free), _LOOKED_AT), replace=False)
    members = np.concatenate((learned, some))
    pool = QueryPool(
        np.asarray(places[members]), known[members], is_learned[members], discriminate=unlabeled_probability
    )
    first = members[select_queries("hal" if guesses else "typical", pool, _AHEAD, rng)]
    rest = rng.permutation(np.setdiff1d(free, first))
    if guesses:
        rest = rest[np.argsort(margin(known[rest]), kind="stable")]
    reason = "unlike the labeled ones and hard to tell" if guesses else "typical of others like it"
    return FixedQueue(rows[np.concatenate((first, rest))], reason)
