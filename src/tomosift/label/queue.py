"""Which particles to ask about next.

A queue is given the particles it may choose among, as places in a space where distances count, and answers with rows of
the set. Another one is a class more with the same `next`.
"""

from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

_CHUNK = 8192
_CANDIDATES = 8
"""The most uncertain are sought among so many times as many as are asked for."""


@runtime_checkable
class Queue(Protocol):
    """Chooses what to ask."""

    reason: str
    """Why a particle of this queue is asked, for the person who is asked."""

    def next(self, count: int, exclude: Bool[np.ndarray, " n"]) -> NDArray[np.int64]:
        """At most ``count`` rows of the set, the most worth asking first, none of those excluded."""
        ...


class InOrder:
    """Rows spread evenly over the set, for as long as nothing is known of any box."""

    reason = "spread over the set"

    def __init__(self, rows: Int[np.ndarray, " m"]) -> None:
        self._rows = np.random.default_rng(0).permutation(rows)

    def next(self, count: int, exclude: Bool[np.ndarray, " n"]) -> NDArray[np.int64]:
        return np.asarray(self._rows[~exclude[self._rows]][:count])


class Spread:
    """The particle farthest from all that were asked about, again and again: few questions that cover everything.

    Source: Gonzalez 1985, Theor. Comput. Sci. 38, 293 (farthest-first traversal); Sener & Savarese 2018 use it to
    choose labels.
    """

    reason = "unlike all labeled so far"

    def __init__(self, rows: Int[np.ndarray, " m"], places: Float[np.ndarray, "m d"]) -> None:
        self._rows, self._places = rows, np.asarray(places, dtype=np.float32)
        self._distance = np.full(len(rows), np.inf)
        self._covered = np.zeros(len(rows), dtype=bool)

    def next(self, count: int, exclude: Bool[np.ndarray, " n"]) -> NDArray[np.int64]:
        asked = exclude[self._rows]
        for place in self._places[asked & ~self._covered]:
            np.minimum(self._distance, _distances(self._places, place), out=self._distance)
        self._covered |= asked
        distance = np.where(asked, -np.inf, self._distance)
        chosen: list[int] = []
        for _ in range(min(count, int((~asked).sum()))):
            best = int(distance.argmax())
            if distance[best] == np.inf:
                # Nothing was asked yet: begin in the middle, as whatever is farthest out is an oddity.
                best = int(_distances(self._places, self._places.mean(axis=0)).argmin())
            np.minimum(distance, _distances(self._places, self._places[best]), out=distance)
            chosen.append(best)
            distance[chosen] = -np.inf
        return np.asarray(self._rows[chosen], dtype=np.int64)


class Uncertain:
    """The particles whose probabilities have the highest entropy, of near neighbors only one."""

    reason = "the model is least sure of it"

    def __init__(
        self,
        rows: Int[np.ndarray, " m"],
        places: Float[np.ndarray, "m d"],
        probabilities: Float[np.ndarray, "m k"],
    ) -> None:
        self._rows, self._places = rows, np.asarray(places, dtype=np.float32)
        self._order = np.argsort(-entropy(probabilities), kind="stable")

    def next(self, count: int, exclude: Bool[np.ndarray, " n"]) -> NDArray[np.int64]:
        free = self._order[~exclude[self._rows[self._order]]][: _CANDIDATES * count]
        if len(free) <= count:
            return np.asarray(self._rows[free], dtype=np.int64)
        apart = np.stack([_distances(self._places[free], place) for place in self._places[free]])
        np.fill_diagonal(apart, np.inf)
        near = float(np.median(apart.min(axis=1)))
        chosen: list[int] = []
        for k in range(len(free)):
            if len(chosen) < count and not (apart[k, chosen] <= near).any():
                chosen.append(k)
        chosen += [k for k in range(len(free)) if k not in chosen][: count - len(chosen)]
        return np.asarray(self._rows[free[chosen]], dtype=np.int64)


def entropy(probabilities: Float[np.ndarray, "m k"]) -> Float[np.ndarray, " m"]:
    """Of each row, in nats."""
    return np.asarray(-(probabilities * np.log(np.maximum(probabilities, 1e-12))).sum(axis=1))


def _distances(places: Float[np.ndarray, "m d"], one: Float[np.ndarray, " d"]) -> Float[np.ndarray, " m"]:
    """Squared distances of all places from one, without a second array of their size."""
    found = np.empty(len(places))
    for start in range(0, len(places), _CHUNK):
        off = places[start : start + _CHUNK] - one
        found[start : start + _CHUNK] = np.einsum("md,md->m", off, off)
    return found
