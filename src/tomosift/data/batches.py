"""Streams of batches: the input of a training step as a pure function of (seed, step).

A stream keeps no state. Its ``batch(step)`` depends neither on the order of calls nor on the number of threads, so a
resumed run gets the batches of the uninterrupted one.
"""

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Generic, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64
from numpy.typing import NDArray
from torch import Tensor

from tomosift.data.subtomogram_set import Subtomograms

T = TypeVar("T", covariant=True)


@dataclass(frozen=True, eq=False)
class Batch:
    """b subtomograms with their labels, missing wedges and poses.

    A measured subtomogram already lacks a wedge; ``tilt_range_deg`` and ``rotation`` state which, so that an
    augmentation can compose with it.
    """

    volume: Float32[Tensor, "b d d d"]
    """Zero mean and unit variance each, unrotated as in the tomogram."""
    label: Int64[Tensor, " b"]
    """Index of the class, -1 where unlabeled."""
    tilt_range_deg: Float32[Tensor, "b 2"]
    rotation: Float32[Tensor, "b 3 3"]
    """Takes the particle's reference frame into the tomogram (zyx column vectors); NaN where not known."""
    index: Int64[Tensor, " b"]
    """Row of each subtomogram in the set that the stream draws from."""
    halves: Float32[Tensor, "b 2 d d d"] | None = None
    mask: Bool[Tensor, "b d d d"] | None = None
    """Voxels of each particle, where the stream reads masks."""

    def __len__(self) -> int:
        return len(self.label)

    def shard(self, rank: int, count: int) -> "Batch":
        """Return the part of one of ``count`` processes: every count-th subtomogram from number ``rank`` on."""
        if count == 1:
            return self
        rows = slice(rank, None, count)
        return Batch(
            volume=self.volume[rows],
            label=self.label[rows],
            tilt_range_deg=self.tilt_range_deg[rows],
            rotation=self.rotation[rows],
            index=self.index[rows],
            halves=None if self.halves is None else self.halves[rows],
            mask=None if self.mask is None else self.mask[rows],
        )

    def to(self, device: torch.device | str) -> "Batch":
        """Return the batch on a device."""
        return Batch(
            volume=self.volume.to(device),
            label=self.label.to(device),
            tilt_range_deg=self.tilt_range_deg.to(device),
            rotation=self.rotation.to(device),
            index=self.index.to(device),
            halves=None if self.halves is None else self.halves.to(device),
            mask=None if self.mask is None else self.mask.to(device),
        )


def read_batch(data: Subtomograms, rows: NDArray[np.int64], halves: bool = False, masks: bool = False) -> Batch:
    """Read the batch of these rows, in that order.

    Parameters
    ----------
    data
        The set.
    rows
        (b,) rows of the set.
    halves, masks
        Whether to read half boxes and masks as well.
    """
    return Batch(
        volume=torch.from_numpy(data.volumes(rows)),
        label=torch.from_numpy(data.label[rows]),
        tilt_range_deg=torch.from_numpy(data.tilt_range_deg[rows]),
        rotation=torch.from_numpy(data.particles.rotation[rows].astype(np.float32)),
        index=torch.from_numpy(rows),
        halves=torch.from_numpy(data.halves(rows)) if halves else None,
        mask=torch.from_numpy(data.masks(rows)) if masks else None,
    )


@dataclass(frozen=True)
class FeatureBatch:
    """Features of a batch, as of an encoder's `inputs`, and of both halves where the loss compares them."""

    x: Tensor
    """(b, ...) features."""
    label: Int64[Tensor, " b"]
    """Index of the class, -1 where unlabeled."""
    halves: Tensor | None = None
    """(b, 2, ...) features of the halves."""

    def shard(self, rank: int, count: int) -> "FeatureBatch":
        """Return the part of one of ``count`` processes."""
        rows = slice(rank, None, count)
        return FeatureBatch(self.x[rows], self.label[rows], None if self.halves is None else self.halves[rows])

    def to(self, device: torch.device | str) -> "FeatureBatch":
        """Return the batch on a device."""
        halves = None if self.halves is None else self.halves.to(device)
        return FeatureBatch(self.x.to(device), self.label.to(device), halves)


@runtime_checkable
class Stream(Protocol[T]):
    """Gives a batch for every step."""

    def batch(self, step: int) -> T:
        """Return the batch of a step; steps count from 0."""
        ...


# One number per kind of stream, so that streams of one seed draw independently.
UNIFORM, BALANCED, EPISODES, PAIRS = range(1, 5)


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, n: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, UNIFORM, epoch]).permutation(n)


def check_stream(data: Subtomograms, halves: bool, seed: int, **sizes: int) -> None:
    """Refuse a set or sizes from which no stream can draw.

    Raises
    ------
    ValueError
        A size is below 1, the seed is negative, the set is empty, or it lacks the requested halves.
    """
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} is {size}, expected at least 1")
    if seed < 0:
        raise ValueError(f"seed is {seed}, expected 0 or more")
    if len(data) == 0:
        raise ValueError("the set to draw batches from is empty; select at least one particle")
    if halves and not data.has_halves:
        raise ValueError(f"{data.path} has no half boxes; extract again from tomograms that have half tomograms")


@dataclass(frozen=True, eq=False)
class UniformStream:
    """Draws every particle once per epoch, in a new order for each epoch.

    Epochs follow one another without a gap: a batch may end one epoch and begin the next, so no particle is dropped and
    all batches have one size.
    """

    data: Subtomograms
    batch_size: int
    seed: int = 0
    halves: bool = False

    def __post_init__(self) -> None:
        check_stream(self.data, self.halves, self.seed, batch_size=self.batch_size)

    def rows(self, step: int) -> NDArray[np.int64]:
        """Return the rows of the set in the batch of this step, (batch_size,)."""
        n = len(self.data)
        draw = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        epochs = range(int(draw[0]) // n, int(draw[-1]) // n + 1)
        return np.concatenate([_permutation(self.seed, e, n)[draw[draw // n == e] % n] for e in epochs])

    def batch(self, step: int) -> Batch:
        """Return the batch of this step."""
        return read_batch(self.data, self.rows(step), self.halves)


def rows_by_label(data: Subtomograms) -> dict[int, NDArray[np.int64]]:
    """Return label -> rows of its particles, ascending; unlabeled ones are left out."""
    labeled = data.labeled_rows
    order = labeled[np.argsort(data.label[labeled], kind="stable")]
    classes, starts = np.unique(data.label[order], return_index=True)
    return {int(k): rows for k, rows in zip(classes, np.split(order, starts[1:]), strict=True)} if len(order) else {}


@dataclass(frozen=True, eq=False)
class BalancedStream:
    """Draws labeled particles with an equal chance for every class, however rare.

    Every batch holds each class equally often, up to the remainder, which is drawn. Within a class the stream draws
    without replacement as long as there are enough particles.
    """

    data: Subtomograms
    batch_size: int
    seed: int = 0
    halves: bool = False

    def __post_init__(self) -> None:
        check_stream(self.data, self.halves, self.seed, batch_size=self.batch_size)
        if not len(self.data.labeled_rows):
            raise ValueError(f"{self.data.path} has no labeled particle; label at least one per class")

    @cached_property
    def _rows_of(self) -> dict[int, NDArray[np.int64]]:
        return rows_by_label(self.data)

    def rows(self, step: int) -> NDArray[np.int64]:
        """Return the rows of the set in the batch of this step, (batch_size,)."""
        generator = np.random.default_rng([self.seed, BALANCED, step])
        rounds = -(-self.batch_size // len(self._rows_of))
        classes = np.concatenate([generator.permutation(list(self._rows_of)) for _ in range(rounds)])[: self.batch_size]
        chosen = np.empty(self.batch_size, dtype=np.int64)
        for k, members in self._rows_of.items():
            mine = np.flatnonzero(classes == k)
            passes = -(-len(mine) // len(members))
            draws = [generator.permutation(members)[: len(mine)] for _ in range(passes)]
            chosen[mine] = np.concatenate([*draws, np.zeros(0, dtype=np.int64)])[: len(mine)]
        return chosen

    def batch(self, step: int) -> Batch:
        """Return the batch of this step."""
        return read_batch(self.data, self.rows(step), self.halves)


@dataclass(frozen=True, eq=False)
class PairedBatch:
    """The batches of several streams in one step, in order."""

    parts: tuple[Batch, ...]

    def shard(self, rank: int, count: int) -> "PairedBatch":
        """Return the part of one of ``count`` processes."""
        return PairedBatch(tuple(part.shard(rank, count) for part in self.parts))

    def to(self, device: torch.device | str) -> "PairedBatch":
        """Return the batch on a device."""
        return PairedBatch(tuple(part.to(device) for part in self.parts))


@dataclass(frozen=True, eq=False)
class PairedStream:
    """Several streams side by side, such as one of labeled and one of unlabeled particles."""

    streams: tuple[Stream[Batch], ...]

    def batch(self, step: int) -> PairedBatch:
        """Return the batches of every stream."""
        return PairedBatch(tuple(stream.batch(step) for stream in self.streams))


class PrefetchStream(Generic[T]):
    """Computes the next batches of a stream in threads; the batches do not depend on ``workers``."""

    def __init__(self, stream: Stream[T], workers: int = 2) -> None:
        if workers < 1:
            raise ValueError(f"workers is {workers}, expected at least 1")
        self._stream, self._workers = stream, workers
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="batches")
        self._waiting: dict[int, Future[T]] = {}

    def batch(self, step: int) -> T:
        """Return the batch of this step."""
        steps = range(step, step + self._workers + 1)
        for other in self._waiting.keys() - set(steps):
            self._waiting.pop(other).cancel()
        for later in steps:
            if later not in self._waiting:
                self._waiting[later] = self._pool.submit(self._stream.batch, later)
        return self._waiting.pop(step).result()

    def close(self) -> None:
        """Cancel waiting batches and end the threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)
