"""Training data of a detector: grid points of tomograms with picks, their descriptors and their classes."""

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
from tomosift.files import read_arrays, write_arrays
from tomosift.inference.prediction import usable_device
from tomosift.models.descriptors.grid_layout import descriptor_layout
from tomosift.particles import Particles
from tomosift.picking.blocks import Blocks, DetectionGrid
from tomosift.picking.config import Config
from tomosift.picking.detection import describe_block
from tomosift.train.run import Run

_MAX_BACKGROUND_POINTS = 40_000
"""Of one tomogram, drawn from anywhere in it."""


@dataclass(frozen=True, eq=False)
class TrainingGrid:
    """Descriptors of grid points and their classes, as a stream of batches that are balanced over classes."""

    descriptor: NDArray[np.float16]
    """(n, features)."""
    label: NDArray[np.int64]
    """(n,) class indices; the background has index ``class_count``."""
    class_count: int
    """Classes without the background."""
    batch_size: int
    seed: int

    def batch(self, step: int) -> FeatureBatch:
        """Return the batch of a step: one half background, the other half shared equally by all classes."""
        rng = np.random.default_rng([self.seed, step])
        is_background, label = rng.random(self.batch_size) < 0.5, rng.integers(0, self.class_count, self.batch_size)
        label = np.where(is_background, self.class_count, label)
        rows = np.zeros(self.batch_size, dtype=np.int64)
        for k, members in enumerate(self._members):
            rows[label == k] = rng.choice(members, int((label == k).sum()))
        return FeatureBatch(
            torch.from_numpy(self.descriptor[rows].astype(np.float32)), torch.from_numpy(self.label[rows])
        )

    @cached_property
    def _members(self) -> list[NDArray[np.int64]]:
        """Rows of each class."""
        return [np.flatnonzero(self.label == k) for k in range(self.class_count + 1)]


def load_training_grid(
    config: Config,
    class_names: tuple[str, ...],
    picks: Particles,
    tomogram: Tomogram,
    run: Run,
    seed: int,
    tomogram_count: int,
) -> tuple[NDArray[np.float16], NDArray[np.int64]]:
    """Return descriptors and labels of grid points of one tomogram; they are stored in the run, which can resume.

    Parameters
    ----------
    config
        Settings of the detector.
    class_names
        Classes without the background.
    picks
        Picks of this tomogram with classes.
    tomogram
        Tomogram with these picks.
    run
        Folder in which the arrays are stored, or found from an interrupted training.
    seed
        Determines the background points.
    tomogram_count
        Tomograms that share the background points.
    """
    path = run.folder / "grid_points" / f"{hashlib.sha256(tomogram.name.encode()).hexdigest()[:16]}.npz"
    try:
        arrays = read_arrays(path, "delete it and repeat the command", ("descriptor", "label"))
    except FormatError:  # missing, or cut short on disk
        step = descriptor_layout(config.box_size).step
        blocks = Blocks(tomogram, config.voxel_spacing_angstrom, config.box_size, step)
        points, label = select_training_points(config, picks, blocks.grid, class_names, seed, tomogram_count)
        arrays = {"descriptor": _describe_points(blocks, points), "label": label}
        write_arrays(path, **arrays)
    return arrays["descriptor"], arrays["label"]


def _describe_points(blocks: Blocks, points: NDArray[np.int64]) -> NDArray[np.float16]:
    """Compute the descriptors (n, features) of n grid points, given by their flat index."""
    row_of_point = np.full(blocks.grid.shape_zyx, -1)
    row_of_point.flat[points] = np.arange(len(points))
    result: NDArray[np.float16] | None = None
    for block in blocks:
        rows = row_of_point[block.slices_zyx]
        is_selected = rows >= 0
        if not is_selected.any():
            continue
        descriptor = describe_block(blocks, block, usable_device()).cpu().numpy()[is_selected]
        if result is None:
            result = np.zeros((len(points), descriptor.shape[1]), dtype=np.float16)
        result[rows[is_selected]] = descriptor
    assert result is not None
    return result


def select_training_points(
    config: Config,
    picks: Particles,
    grid: DetectionGrid,
    class_names: tuple[str, ...],
    seed: int,
    tomogram_count: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Select the grid points of one tomogram to train on, and label them.

    Points near a pick get its class. Background points come from anywhere in the tomogram and, as many particles
    resemble others beside their center, from the surroundings of the picks.

    Returns
    -------
    tuple
        Flat indices (n,) of the grid points, and their labels (n,); the background has index ``len(class_names)``.
    """
    rng = np.random.default_rng([seed, len(picks)])
    position = picks.position_zyx_angstrom
    tree = cKDTree(position)
    pick_label = np.array([class_names.index(str(name)) for name in picks.class_name])
    points = grid.points_around(position, config.nearby_distance_angstrom)
    distance, nearest = (np.asarray(part) for part in tree.query(grid.positions_zyx_angstrom(points)))
    closest = points[np.asarray(cKDTree(grid.positions_zyx_angstrom(points)).query(position)[1])]
    is_particle = (distance <= config.class_distance_angstrom) | np.isin(points, closest)
    is_beside = (distance >= config.background_distance_angstrom) & (distance <= config.nearby_distance_angstrom)
    beside = points[~is_particle & is_beside]
    count = min(config.background_points // tomogram_count, _MAX_BACKGROUND_POINTS)
    anywhere = np.unique(rng.integers(0, grid.size, 2 * count))
    is_far = tree.query(grid.positions_zyx_angstrom(anywhere))[0] >= config.background_distance_angstrom
    background = np.union1d(
        rng.permutation(anywhere[is_far])[:count], rng.permutation(beside)[: config.nearby_background_points]
    )
    background = np.setdiff1d(background, points[is_particle])
    label = np.concatenate([pick_label[nearest[is_particle]], np.full(len(background), len(class_names))])
    return np.concatenate([points[is_particle], background]), label
