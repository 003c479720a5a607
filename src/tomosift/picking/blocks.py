"""A tomogram as overlapping blocks, at the voxel spacing of a model, in which all boxes on a lattice can be described.

Places lie ``stride`` voxels of the model apart, the first at the center of voxel 0 of the tomogram. Boxes that reach
beyond it are filled up as extracted ones are, with the mean of what is there (of the block here, of the box there).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tomosift.data.extraction.crop import crop_block
from tomosift.data.extraction.tomograms import Tomogram
from tomosift.models.grid_descriptors import first_center_voxel

MAX_GRID_POINTS = 48
"""Along each edge of a block; more would not fit into the cache of a processor, fewer would share less."""


@dataclass(frozen=True)
class DetectionGrid:
    """Where in a tomogram a model looks."""

    shape_zyx: tuple[int, int, int]
    spacing_angstrom: float
    """Between places; place 0 is the center of voxel 0."""

    @property
    def size(self) -> int:
        """Number of places."""
        return math.prod(self.shape_zyx)

    def around(self, position_zyx_angstrom: NDArray[np.float64], distance_angstrom: float) -> NDArray[np.int64]:
        """Places in cubes about these positions, each once: all that are no farther from one than the distance."""
        reach = math.ceil(distance_angstrom / self.spacing_angstrom) + 1
        offset = np.stack(np.meshgrid(*[np.arange(-reach, reach + 1)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
        nearest = np.rint(position_zyx_angstrom / self.spacing_angstrom).astype(np.int64)
        index = (nearest[:, None] + offset).reshape(-1, 3)
        index = index[((index >= 0) & (index < self.shape_zyx)).all(axis=1)]
        return np.unique(np.ravel_multi_index(tuple(index.T), self.shape_zyx))

    def positions(self, index: NDArray[np.int64]) -> NDArray[np.float64]:
        """(n, 3) Angstrom (zyx) of places that are counted through, x fastest."""
        place = np.stack(np.unravel_index(index, self.shape_zyx), axis=1)
        return np.asarray(place * np.float64(self.spacing_angstrom))


@dataclass(frozen=True, eq=False)
class Block:
    """Voxels about some places."""

    volume: NDArray[np.float32]
    """(z, y, x), density positive; the first place lies at `tomosift.models.grid_descriptors.first_center_voxel` along each axis."""
    start_zyx: tuple[int, int, int]
    """Index of the first place in the lattice."""
    count_zyx: tuple[int, int, int]
    """Places of the lattice that the block has; it may describe more, which lie beyond."""

    @property
    def places(self) -> tuple[slice, slice, slice]:
        """Of an array over the lattice, the block's part."""
        z, y, x = (slice(start, start + count) for start, count in zip(self.start_zyx, self.count_zyx, strict=True))
        return z, y, x


@dataclass(frozen=True)
class Blocks:
    """All blocks of one tomogram, which are of one shape."""

    tomogram: Tomogram
    voxel_spacing_angstrom: float
    """Of the model."""
    box_size: int
    stride: int
    """Voxels of the model between places."""

    @property
    def lattice(self) -> DetectionGrid:
        """All places within the tomogram."""
        grid, step = self.tomogram.grid, self.stride * self.voxel_spacing_angstrom
        z, y, x = (math.floor((n - 1) * grid.voxel_spacing_angstrom / step + 1e-6) + 1 for n in grid.shape_zyx)
        return DetectionGrid((z, y, x), step)

    def __len__(self) -> int:
        return math.prod(-(-n // each) for n, each in zip(self.lattice.shape_zyx, self._each, strict=True))

    @property
    def _each(self) -> tuple[int, ...]:
        # Blocks of like size; one that has a few places left over would cost as much as a full one.
        return tuple(-(-n // -(-n // MAX_GRID_POINTS)) for n in self.lattice.shape_zyx)

    def __iter__(self) -> Iterator[Block]:
        first, behind = first_center_voxel(self.box_size, self.stride), self.box_size - self.box_size // 2
        each = self._each
        z, y, x = (_good_edge(first + (n - 1) * self.stride + behind, self.stride) for n in each)
        ratio = self.voxel_spacing_angstrom / self.tomogram.grid.voxel_spacing_angstrom
        data = self.tomogram.open().data
        for corner in np.ndindex(*(-(-n // e) for n, e in zip(self.lattice.shape_zyx, each, strict=True))):
            start = [k * e for k, e in zip(corner, each, strict=True)]
            low = (np.array(start) * self.stride - first) * ratio
            volume = crop_block(data, low, (z, y, x), ratio).volume
            finite = np.isfinite(volume)
            if not finite.all():
                volume = np.where(finite, volume, volume[finite].mean() if finite.any() else 0).astype(np.float32)
            a, b, c = (min(e, n - s) for e, n, s in zip(each, self.lattice.shape_zyx, start, strict=True))
            yield Block(-volume if self.tomogram.inverted else volume, (start[0], start[1], start[2]), (a, b, c))


def _good_edge(least: int, stride: int) -> int:
    """The shortest edge from ``least`` on that is a multiple of twice the stride and quick to transform."""
    edge = -(-least // (2 * stride)) * 2 * stride
    while _rest(edge) > 1 and _rest(2 * stride) == 1:
        edge += 2 * stride
    return edge


def _rest(edge: int) -> int:
    """What is left of a number without its factors 2, 3 and 5."""
    for prime in (2, 3, 5):
        while edge % prime == 0:
            edge //= prime
    return edge
