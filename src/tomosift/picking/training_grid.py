"""Places of tomograms with picks: which a detector learns from, their descriptors and classes."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from tomosift.data.batches import FeatureBatch
from tomosift.data.extraction.tomograms import Tomogram
from tomosift.errors import FormatError
from tomosift.inference.prediction import usable_device
from tomosift.models.grid_descriptors import descriptor_layout
from tomosift.particles import Particles
from tomosift.picking.blocks import Blocks, DetectionGrid
from tomosift.picking.config import Config
from tomosift.picking.detection import describe_block
from tomosift.picking.kept import read_arrays, write_arrays
from tomosift.train.run import Run

_MOST_BACKGROUND = 40_000


@dataclass(frozen=True, eq=False)
class TrainingGrid:
    """Descriptors of places and their classes, the background being the last; a stream of even batches."""

    descriptor: NDArray[np.float16]
    """(n, features)."""
    label: NDArray[np.int64]
    classes: int
    batch_size: int
    seed: int

    def batch(self, step: int) -> FeatureBatch:
        """Half background, the other half of all classes alike."""
        rng = np.random.default_rng([self.seed, step])
        kind = np.where(rng.random(self.batch_size) < 0.5, self.classes, rng.integers(0, self.classes, self.batch_size))
        rows = np.zeros(self.batch_size, dtype=np.int64)
        for k, members in enumerate(self._members):
            rows[kind == k] = rng.choice(members, int((kind == k).sum()))
        return FeatureBatch(
            torch.from_numpy(self.descriptor[rows].astype(np.float32)), torch.from_numpy(self.label[rows])
        )

    @cached_property
    def _members(self) -> list[NDArray[np.int64]]:
        return [np.flatnonzero(self.label == k) for k in range(self.classes + 1)]


def load_training_grid(
    config: Config, names: tuple[str, ...], picks: Particles, tomogram: Tomogram, run: Run, seed: int, of: int
) -> tuple[NDArray[np.float16], NDArray[np.int64]]:
    """Descriptors and labels of places of one tomogram of so many; kept in the run, which then can be resumed."""
    path = run.folder / "places" / f"{hashlib.sha256(tomogram.name.encode()).hexdigest()[:16]}.npz"
    try:
        kept = read_arrays(path)
    except FormatError:  # missing, or cut short on disk
        blocks = Blocks(
            tomogram, config.voxel_spacing_angstrom, config.box_size, descriptor_layout(config.box_size).step
        )
        lattice = blocks.lattice
        rows, label = select_training_points(config, picks, lattice, names, seed, of)
        index = np.full(lattice.shape_zyx, -1)
        index.flat[rows] = np.arange(len(rows))
        descriptor: NDArray[np.float16] | None = None
        for block in blocks:
            wanted = index[block.places]
            if (wanted < 0).all():
                continue
            told = describe_block(blocks, block, usable_device()).cpu().numpy()[wanted >= 0]
            if descriptor is None:
                descriptor = np.zeros((len(rows), told.shape[1]), dtype=np.float16)
            descriptor[wanted[wanted >= 0]] = told
        assert descriptor is not None
        kept = {"descriptor": descriptor, "label": label}
        write_arrays(path, **kept)
    return kept["descriptor"], kept["label"]


def select_training_points(
    config: Config, picks: Particles, lattice: DetectionGrid, names: tuple[str, ...], seed: int, of: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places to learn from and their classes, in one tomogram of so many."""
    rng = np.random.default_rng([seed, len(picks)])
    center = picks.position_zyx_angstrom
    tree = cKDTree(center)
    class_of = np.array([names.index(str(name)) for name in picks.class_name])
    around = lattice.around(center, config.beside_angstrom)
    distance, nearest = (np.asarray(part) for part in tree.query(lattice.positions(around)))
    closest = around[np.asarray(cKDTree(lattice.positions(around)).query(center)[1])]
    is_near = (distance <= config.near_angstrom) | np.isin(around, closest)
    near = around[is_near]
    beside = around[~is_near & (distance >= config.far_angstrom) & (distance <= config.beside_angstrom)]
    count = min(config.background_places // of, _MOST_BACKGROUND)
    anywhere = np.unique(rng.integers(0, lattice.size, 2 * count))
    far = anywhere[tree.query(lattice.positions(anywhere))[0] >= config.far_angstrom]
    background = np.union1d(rng.permutation(far)[:count], rng.permutation(beside)[: config.beside_places])
    background = np.setdiff1d(background, near)
    label = np.concatenate([class_of[nearest[is_near]], np.full(len(background), len(names))])
    return np.concatenate([near, background]), label
