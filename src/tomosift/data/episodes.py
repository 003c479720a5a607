"""Streams of episodes of a few classes, and of pairs of particles of one class or of two."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Int64
from numpy.typing import NDArray
from torch import Tensor

from tomosift.data.batches import EPISODES, PAIRS, Batch, check_stream, read_batch, rows_by_label
from tomosift.data.subtomogram_set import Subtomograms


@dataclass(frozen=True, eq=False)
class Episode:
    """A small classification problem: n classes, k support and some query particles of each.

    Labels count the classes *of the episode*, 0 to n-1; ``classes`` holds the label of each in the set.
    """

    support: Batch
    query: Batch
    classes: Int64[Tensor, " n"]

    def shard(self, rank: int, count: int) -> "Episode":
        """Return the part of one of ``count`` processes: all support, and every count-th query."""
        return replace(self, query=self.query.shard(rank, count))

    def to(self, device: torch.device | str) -> "Episode":
        """Return the episode on a device."""
        return Episode(self.support.to(device), self.query.to(device), self.classes.to(device))


@dataclass(frozen=True, eq=False)
class Episodes:
    """Draws n-way k-shot episodes: ``ways`` classes, ``shots`` support and ``queries`` query particles of each.

    Support and query never share a particle. A class with fewer than ``shots + queries`` labeled particles is not
    drawn.
    """

    data: Subtomograms
    ways: int
    shots: int
    queries: int
    seed: int = 0

    def __post_init__(self) -> None:
        sizes = {"ways": self.ways, "shots": self.shots, "queries": self.queries}
        check_stream(self.data, False, self.seed, **sizes)
        if len(self._rows_of) < self.ways:
            need = (
                f"{self.shots + self.queries} or more labeled particles ({self.shots} support + {self.queries} query)"
            )
            raise ValueError(
                f"{len(self._rows_of)} classes have {need}, expected at least {self.ways}; "
                "lower ways, shots or queries, or label more"
            )

    @cached_property
    def _rows_of(self) -> dict[int, NDArray[np.int64]]:
        need = self.shots + self.queries
        return {k: rows for k, rows in rows_by_label(self.data).items() if len(rows) >= need}

    def rows(self, step: int) -> NDArray[np.int64]:
        """Return the (ways, shots + queries) rows of the set in the episode of this step, the support first."""
        generator = np.random.default_rng([self.seed, EPISODES, step])
        classes = generator.permutation(list(self._rows_of))[: self.ways]
        need = self.shots + self.queries
        return np.stack([generator.choice(self._rows_of[int(k)], need, replace=False) for k in classes])

    def batch(self, step: int) -> Episode:
        """Return the episode of this step; support and query are ordered by class."""
        rows = self.rows(step)
        support, query = self._part(rows[:, : self.shots]), self._part(rows[:, self.shots :])
        return Episode(support, query, torch.from_numpy(self.data.label[rows[:, 0]]))

    def _part(self, rows: NDArray[np.int64]) -> Batch:
        way = torch.arange(self.ways).repeat_interleave(rows.shape[1])
        return replace(read_batch(self.data, rows.reshape(-1)), label=way)


@dataclass(frozen=True, eq=False)
class Pair:
    """p pairs of particles, and whether each pair is of one class."""

    first: Batch
    second: Batch
    is_same: Bool[Tensor, " p"]

    def shard(self, rank: int, count: int) -> "Pair":
        """Return the part of one of ``count`` processes: every count-th pair."""
        return Pair(self.first.shard(rank, count), self.second.shard(rank, count), self.is_same[rank::count])

    def to(self, device: torch.device | str) -> "Pair":
        """Return the pairs on a device."""
        return Pair(self.first.to(device), self.second.to(device), self.is_same.to(device))


@dataclass(frozen=True, eq=False)
class Pairs:
    """Draws pairs of labeled particles, never a particle with itself.

    The classes of both are drawn uniformly and independently, so that of k classes one pair in k is of one class;
    ``balanced`` makes it every second pair instead.
    """

    data: Subtomograms
    batch_size: int
    """Pairs per step."""
    balanced: bool = True
    seed: int = 0
    masks: bool = False

    def __post_init__(self) -> None:
        check_stream(self.data, False, self.seed, batch_size=self.batch_size)
        if len(self._rows_of) < 2:
            raise ValueError(
                f"{len(self._rows_of)} classes have two or more labeled particles, expected at least 2; label more"
            )
        if self.masks and not self.data.has_masks:
            raise ValueError(f"{self.data.path} has no masks; simulate a set with masks")

    @cached_property
    def _rows_of(self) -> dict[int, NDArray[np.int64]]:
        return {k: rows for k, rows in rows_by_label(self.data).items() if len(rows) >= 2}

    def rows(self, step: int) -> NDArray[np.int64]:
        """Return the (batch_size, 2) rows of the set in the pairs of this step."""
        generator = np.random.default_rng([self.seed, PAIRS, step])
        labels = np.array(list(self._rows_of))
        drawn = generator.choice(labels, size=(self.batch_size, 2))
        if self.balanced:
            alike = generator.permutation(self.batch_size) % 2 == 0
            drawn[alike, 1] = drawn[alike, 0]
            clash = ~alike & (drawn[:, 0] == drawn[:, 1])
            rank = np.searchsorted(labels, drawn[clash, 0]) if clash.any() else np.zeros(0, dtype=np.int64)
            drawn[clash, 1] = labels[(rank + generator.integers(1, len(labels), clash.sum())) % len(labels)]
        chosen = np.empty_like(drawn)
        for number, (one, other) in enumerate(drawn):
            both = generator.choice(self._rows_of[int(one)], 2, replace=False)
            chosen[number] = both if one == other else (both[0], generator.choice(self._rows_of[int(other)]))
        return chosen

    def batch(self, step: int) -> Pair:
        """Return the pairs of this step."""
        rows = self.rows(step)
        first, second = (read_batch(self.data, rows[:, side], masks=self.masks) for side in (0, 1))
        return Pair(first, second, first.label == second.label)
