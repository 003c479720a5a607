"""A tomogram as overlapping blocks at the voxel spacing of a model, in which every grid point can be described.

Grid points lie ``stride`` voxels of the model apart, the first at the center of voxel 0 of the tomogram. A block that
reaches beyond the tomogram is filled with the mean of its other voxels, as an extracted box is with that of its own.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tomosift.data.extraction.crop import crop_block
from tomosift.data.extraction.tomograms import Tomogram
from tomosift.models.descriptors.grid import first_center_voxel

MAX_GRID_POINTS = 48
"""Along each edge of a block; more would not fit into the cache of a processor, fewer would share less."""


@dataclass(frozen=True)
class DetectionGrid:
    """Regular grid of positions in a tomogram at which a detector is evaluated.

    Examples
    --------
    >>> import numpy as np
    >>> grid = DetectionGrid((4, 5, 6), 20.0)
    >>> grid.size
    120
    >>> grid.positions_zyx_angstrom(np.array([1, 6])).tolist()
    [[0.0, 0.0, 20.0], [0.0, 20.0, 0.0]]
    """

    shape_zyx: tuple[int, int, int]
    spacing_angstrom: float
    """Between grid points; point 0 is the center of voxel 0."""

    @property
    def size(self) -> int:
        """Number of grid points."""
        return math.prod(self.shape_zyx)

    def points_around(self, position_zyx_angstrom: NDArray[np.float64], distance_angstrom: float) -> NDArray[np.int64]:
        """Return the grid points in cubes around positions, each once and in ascending order.

        The cubes hold at least every grid point within ``distance_angstrom`` of a position.

        Parameters
        ----------
        position_zyx_angstrom
            (n, 3) positions.
        distance_angstrom
            Half the edge of the cubes, before rounding up to grid points.
        """
        reach = math.ceil(distance_angstrom / self.spacing_angstrom) + 1
        offset = np.stack(np.meshgrid(*[np.arange(-reach, reach + 1)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
        nearest = np.rint(position_zyx_angstrom / self.spacing_angstrom).astype(np.int64)
        index = (nearest[:, None] + offset).reshape(-1, 3)
        index = index[((index >= 0) & (index < self.shape_zyx)).all(axis=1)]
        return np.unique(np.ravel_multi_index(tuple(index.T), self.shape_zyx))

    def positions_zyx_angstrom(self, point: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the (n, 3) positions of grid points given by their flat index, x fastest."""
        index = np.stack(np.unravel_index(point, self.shape_zyx), axis=1)
        return np.asarray(index * np.float64(self.spacing_angstrom))


@dataclass(frozen=True, eq=False)
class Block:
    """Voxels around some grid points."""

    volume: NDArray[np.float32]
    """(z, y, x), density positive. The first grid point lies at
    `tomosift.models.descriptors.grid.first_center_voxel` along each axis."""
    start_zyx: tuple[int, int, int]
    """Index of the first grid point of the block."""
    count_zyx: tuple[int, int, int]
    """Grid points of the block; its voxels may describe more, which lie beyond the tomogram."""

    @property
    def slices_zyx(self) -> tuple[slice, slice, slice]:
        """The part of an array over the whole grid that belongs to this block."""
        z, y, x = (slice(start, start + count) for start, count in zip(self.start_zyx, self.count_zyx, strict=True))
        return z, y, x


@dataclass(frozen=True)
class Blocks:
    """All blocks of a tomogram, which have one shape; iterating reads them one by one."""

    tomogram: Tomogram
    voxel_spacing_angstrom: float
    """Of the model."""
    box_size: int
    """Of the model, in its voxels."""
    stride: int
    """Voxels of the model between grid points."""

    @property
    def grid(self) -> DetectionGrid:
        """All grid points within the tomogram."""
        grid, step = self.tomogram.grid, self.stride * self.voxel_spacing_angstrom
        z, y, x = (math.floor((n - 1) * grid.voxel_spacing_angstrom / step + 1e-6) + 1 for n in grid.shape_zyx)
        return DetectionGrid((z, y, x), step)

    def __len__(self) -> int:
        return math.prod(-(-n // each) for n, each in zip(self.grid.shape_zyx, self._points_per_block, strict=True))

    @property
    def _points_per_block(self) -> tuple[int, ...]:
        # Blocks of similar size: one with a few remaining points would cost as much as a full one.
        return tuple(-(-n // -(-n // MAX_GRID_POINTS)) for n in self.grid.shape_zyx)

    def __iter__(self) -> Iterator[Block]:
        first, behind = first_center_voxel(self.box_size, self.stride), self.box_size - self.box_size // 2
        points, shape = self._points_per_block, self.grid.shape_zyx
        z, y, x = (_fast_edge(first + (n - 1) * self.stride + behind, self.stride) for n in points)
        ratio = self.voxel_spacing_angstrom / self.tomogram.grid.voxel_spacing_angstrom
        data = self.tomogram.open().data
        for corner in np.ndindex(*(-(-n // each) for n, each in zip(shape, points, strict=True))):
            start = [k * each for k, each in zip(corner, points, strict=True)]
            low = (np.array(start) * self.stride - first) * ratio
            volume = _fill_gaps(crop_block(data, low, (z, y, x), ratio).volume)
            a, b, c = (min(each, n - s) for each, n, s in zip(points, shape, start, strict=True))
            yield Block(-volume if self.tomogram.is_inverted else volume, (start[0], start[1], start[2]), (a, b, c))


def _fill_gaps(volume: NDArray[np.float32]) -> NDArray[np.float32]:
    """Replace voxels that are no finite number by the mean of the others."""
    finite = np.isfinite(volume)
    if finite.all():
        return volume
    return np.where(finite, volume, volume[finite].mean() if finite.any() else 0).astype(np.float32)


def _fast_edge(least: int, stride: int) -> int:
    """Return the smallest edge from ``least`` on that is a multiple of twice the stride and fast to transform."""
    edge = -(-least // (2 * stride)) * 2 * stride
    while _without_small_factors(edge) > 1 and _without_small_factors(2 * stride) == 1:
        edge += 2 * stride
    return edge


def _without_small_factors(number: int) -> int:
    """Divide a number by its factors 2, 3 and 5."""
    for prime in (2, 3, 5):
        while number % prime == 0:
            number //= prime
    return number
