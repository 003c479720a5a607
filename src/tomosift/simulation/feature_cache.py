"""Features of simulated subtomograms before the first trained layer, cached in files."""

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
from tomosift.models.embedder import Embedder
from tomosift.models.encoder import Encoder
from tomosift.models.recentering import SUBTOMOGRAMS_TO_FIT, recenter
from tomosift.progress import Progress, ignore_progress
from tomosift.simulation.synthetic_stream import SyntheticComplexStream
from tomosift.train.processes import rank_and_world_size, wait_for_all_processes

MAX_WORKERS = 8
"""Threads that simulate in parallel; each needs a gigabyte."""
_CHUNK_SIZE = 16  # subtomograms whose spectra stay in the cache of the processor
_BLOCKS_FOR_SCALE = 50


@dataclass(frozen=True, eq=False)
class FeatureCache:
    """Fixed features of simulated subtomograms, computed by an encoder without weights, in one file per block.

    A file has shape (complexes, subtomograms, views, features) in half precision. The views are the subtomogram and,
    if the stream simulates them, its two halves. Files that exist are not simulated again.
    """

    folder: Path
    stream: SyntheticComplexStream
    """Each of its batches becomes a block."""
    complexes: int
    """Number of complexes to learn from."""
    classes_per_batch: int
    per_class: int
    """Subtomograms of each complex in a batch."""
    seed: int

    @property
    def blocks(self) -> int:
        """Number of files; some complexes of the last one may be unused."""
        return -(-self.complexes // self.stream.classes)

    def simulate(self, encoder: Encoder, progress: Progress | None = None) -> None:
        """Simulate the missing files, several in parallel; each of several processes simulates a share of them.

        Parameters
        ----------
        encoder
            Computes the features.
        progress
            Counts blocks.
        """
        rank, count = rank_and_world_size()
        missing = [number for number in range(rank, self.blocks, count) if not self._path(number).exists()]
        self.folder.mkdir(exist_ok=True)
        report = progress or ignore_progress
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # parallel blocks use the processors better than parallel operations in one block
        try:
            with ThreadPoolExecutor(min(os.cpu_count() or 1, MAX_WORKERS)) as pool:
                tasks = [pool.submit(self._simulate_block, encoder, number) for number in missing]
                try:
                    for left, task in zip(reversed(range(len(tasks))), as_completed(tasks), strict=True):
                        task.result()
                        report(max(self.blocks - left * count, 1), self.blocks, "simulating")
                except BaseException:
                    pool.shutdown(cancel_futures=True)
                    raise
        finally:
            torch.set_num_threads(threads)
        wait_for_all_processes()

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:05d}.npy"

    def _simulate_block(self, encoder: Encoder, number: int) -> None:
        batch = self.stream.batch(number)
        views = batch.volume[:, None] if batch.halves is None else torch.cat((batch.volume[:, None], batch.halves), 1)
        features = compute_features(encoder, batch.volume, views)
        shape = (self.stream.classes, self.stream.per_class, *features.shape[1:])
        with written_then_renamed(self._path(number)) as temporary, temporary.open("wb") as stream:
            np.save(stream, features.reshape(shape).half().numpy())

    @cached_property
    def _files(self) -> list[NDArray[np.float16]]:
        return [np.load(self._path(number), mmap_mode="r") for number in range(self.blocks)]

    @cached_property
    def scale(self) -> tuple[Float[Tensor, " f"], Float[Tensor, " f"]]:
        """Mean and standard deviation of each feature, over the first blocks."""
        blocks = self._files[:_BLOCKS_FOR_SCALE]
        rows = np.concatenate([block[:, :, 0].reshape(-1, block.shape[-1]) for block in blocks])
        features = torch.from_numpy(rows.astype(np.float32))
        return features.mean(0), features.std(0) + 1e-6

    def batch(self, step: int) -> FeatureBatch:
        """Return the batch of a step: some subtomograms of some complexes, a function of seed and step."""
        rng = np.random.default_rng([self.seed, step])
        return self.batch_of(rng.permutation(self.complexes)[: self.classes_per_batch], rng)

    def batch_of(self, complexes: NDArray[np.int64], rng: np.random.Generator) -> FeatureBatch:
        """Return a batch with some subtomograms of each of these complexes."""
        per_block = self.stream.classes
        rows = [rng.permutation(self.stream.per_class)[: self.per_class] for _ in complexes]
        features = [self._files[k // per_block][k % per_block, mine] for k, mine in zip(complexes, rows, strict=True)]
        x = torch.from_numpy(np.concatenate(features).astype(np.float32))
        label = torch.from_numpy(complexes.repeat([len(mine) for mine in rows]))
        return FeatureBatch(x[:, 0], label, x[:, 1:] if x.shape[1] > 1 else None)


@torch.inference_mode()
def compute_features(encoder: Encoder, plain: Float[Tensor, "b d d d"], views: Float[Tensor, "b v d d d"]) -> Tensor:
    """Return the fixed features (b, v, *features) of views of particles.

    Parameters
    ----------
    encoder
        Computes the features; its weights play no part.
    plain
        One subtomogram per particle. Its estimated center recenters all views of the particle.
    views
        Views of the same particles.
    """
    embedder = Embedder.fit(encoder, plain[:: max(1, len(plain) // SUBTOMOGRAMS_TO_FIT)])
    parts = []
    for volume, view in zip(torch.split(plain, _CHUNK_SIZE), torch.split(views, _CHUNK_SIZE), strict=True):
        offset = embedder.estimate_offsets(volume).repeat_interleave(views.shape[1], dim=0)
        parts.append(encoder.prepare_input(recenter(view.flatten(0, 1), offset)))
    features = torch.cat(parts)
    return features.reshape(len(plain), views.shape[1], *features.shape[1:])
