"""Simulated boxes as an encoder sees them before its first weight, kept in files: simulated once, gone over often."""

import copy
import os
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from tomosift.data.batches import FeatureBatch
from tomosift.files import written_then_renamed
from tomosift.models.encoder import BOXES_TO_PREPARE, Encoder
from tomosift.models.recentering import recenter
from tomosift.simulate.synthetic_stream import SyntheticComplexStream
from tomosift.train.loop import Progress
from tomosift.train.processes import rank_and_world_size, wait_for_all

MOST_WORKERS = 8
"""Threads that simulate side by side; each holds a gigabyte."""
_AT_ONCE = 16  # boxes whose spectra stay in the cache


@dataclass(frozen=True, eq=False)
class FeatureCache:
    """What an encoder makes, without weights, of simulated boxes; in files that stay, one for each block of complexes.

    Each file holds (complexes, boxes, views, features) in half precision: the box and, where asked for, its two halves.
    """

    folder: Path
    stream: SyntheticComplexStream
    complexes: int
    """To learn from."""
    classes_per_batch: int
    per_class: int
    """Boxes of each complex in a batch."""
    seed: int

    @property
    def blocks(self) -> int:
        """How many files there are to be; of the last one, some complexes may be left out."""
        return -(-self.complexes // self.stream.classes)

    def simulate(self, encoder: Encoder, progress: Progress | None = None) -> None:
        """Make the files that are missing, several at a time; each of several processes makes a part of them."""
        rank, count = rank_and_world_size()
        missing = [number for number in range(rank, self.blocks, count) if not self._path(number).exists()]
        self.folder.mkdir(exist_ok=True)
        before = torch.get_num_threads()
        torch.set_num_threads(1)  # blocks side by side use processors better than one block spread over them
        try:
            with ThreadPoolExecutor(min(os.cpu_count() or 1, MOST_WORKERS)) as pool:
                tasks = [pool.submit(self._make, encoder, number) for number in missing]
                try:
                    for left, task in zip(reversed(range(len(tasks))), as_completed(tasks), strict=True):
                        task.result()
                        if progress is not None:
                            progress(max(self.blocks - left * count, 1), self.blocks, {})
                except BaseException:
                    pool.shutdown(cancel_futures=True)
                    raise
        finally:
            torch.set_num_threads(before)
        wait_for_all()

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:05d}.npy"

    def _make(self, encoder: Encoder, number: int) -> None:
        batch = self.stream.batch(number)
        views = batch.volume[:, None] if batch.halves is None else torch.cat((batch.volume[:, None], batch.halves), 1)
        x = cached_features(copy.deepcopy(encoder), batch.volume, views)
        shape = (self.stream.classes, self.stream.per_class, *x.shape[1:])
        with written_then_renamed(self._path(number)) as temporary, temporary.open("wb") as stream:
            np.save(stream, x.reshape(shape).half().numpy())

    @cached_property
    def _files(self) -> list[NDArray[np.float16]]:
        return [np.load(self._path(number), mmap_mode="r") for number in range(self.blocks)]

    @cached_property
    def scale(self) -> tuple[Float[Tensor, " f"], Float[Tensor, " f"]]:
        """Mean and standard deviation of each feature, over some of the blocks."""
        rows = np.concatenate([block[:, :, 0].reshape(-1, block.shape[-1]) for block in self._files[:50]])
        x = torch.from_numpy(rows.astype(np.float32))
        return x.mean(0), x.std(0) + 1e-6

    def batch(self, step: int) -> FeatureBatch:
        """Some boxes of each of some complexes."""
        rng = np.random.default_rng([self.seed, step])
        return self.of(rng.permutation(self.complexes)[: self.classes_per_batch], rng)

    def of(self, chosen: NDArray[np.int64], rng: np.random.Generator) -> FeatureBatch:
        """Some boxes of each of these complexes."""
        each = self.stream.classes
        boxes = [rng.permutation(self.stream.per_class)[: self.per_class] for _ in chosen]
        rows = [self._files[k // each][k % each, mine] for k, mine in zip(chosen, boxes, strict=True)]
        x = torch.from_numpy(np.concatenate(rows).astype(np.float32))
        label = torch.from_numpy(chosen.repeat([len(mine) for mine in boxes]))
        return FeatureBatch(x[:, 0], label, x[:, 1:] if x.shape[1] > 1 else None)


@torch.inference_mode()
def cached_features(encoder: Encoder, plain: Float[Tensor, "b d d d"], views: Float[Tensor, "b v d d d"]) -> Tensor:
    """(b, v, *features): an encoder's inputs of views of the same particles, centered as their plain boxes are."""
    encoder.prepare(plain[:: max(1, len(plain) // BOXES_TO_PREPARE)])
    parts = []
    for box, view in zip(torch.split(plain, _AT_ONCE), torch.split(views, _AT_ONCE), strict=True):
        offset = encoder.offset(box).repeat_interleave(views.shape[1], dim=0)
        moved = recenter(view.flatten(0, 1), offset)
        parts.append(encoder.inputs(moved, True))
    x = torch.cat(parts)
    return x.reshape(len(plain), views.shape[1], *x.shape[1:])
