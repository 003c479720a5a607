"""Cropping many particles out of one tomogram, with several threads and a reason for each that is left out."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tomosift.data.extraction.crop import crop_box
from tomosift.data.extraction.dropped_particles import BEYOND
from tomosift.data.extraction.tomograms import Tomogram
from tomosift.io.volumes import open_volume
from tomosift.io.volumes.volume import MeanArray, SupportsSlicing
from tomosift.particles import Particles

NO_POSITION = "the position is not a number"
OUTSIDE = "the center lies outside the tomogram"
NOT_NUMBERS = "the box holds values that are not numbers"
CONSTANT = "the box is constant"
CHUNK_VOXELS = 1 << 21
"""Voxels of boxes that one task crops."""
WHOLE_BYTES = 1 << 30
"""Chunked tomograms up to this size are read once and kept in memory while particles are cropped."""


@dataclass(frozen=True, eq=False)
class CroppedBoxes:
    """Boxes of some particles, and the reason for each that has none."""

    rows: NDArray[np.int64]
    """(b,) rows of the particles that have a box."""
    volumes: NDArray[np.float32]
    """(b, d, d, d), density positive."""
    halves: NDArray[np.float32] | None
    """(b, 2, d, d, d) from the half tomograms."""
    dropped: dict[int, str] = field(default_factory=dict)
    """Row -> reason."""


@dataclass(frozen=True, eq=False)
class TomogramCropper:
    """Crops rows of the particle table out of one tomogram; shared by threads."""

    tomogram: Tomogram
    particles: Particles
    voxel_spacing_angstrom: float
    """Of the boxes."""
    box_size: int
    borders: str
    """``pad`` or ``drop``, as of `extract`."""
    has_halves: bool
    """Whether the half tomograms are cropped as well."""

    def _open(self) -> list[SupportsSlicing]:
        """The whole tomogram, and the halves where they are cropped as well."""
        halves = (self.tomogram.half_paths or ()) if self.has_halves else ()
        return [self.tomogram.open().data, *(open_volume(path).data for path in halves)]

    def crop_in_order(self, pool: ThreadPoolExecutor, rows: NDArray[np.int64], workers: int) -> Iterator[CroppedBoxes]:
        """Yield chunks of rows in order, a few computed ahead, so that the set does not depend on thread timing."""
        if not len(rows):
            return
        size = int(np.clip(CHUNK_VOXELS // self.box_size**3, 1, 64))
        sources = self.shared_sources()
        waiting: deque[Future[CroppedBoxes]] = deque()
        for start in range(0, len(rows), size):
            waiting.append(pool.submit(self.crop, rows[start : start + size], sources))
            if len(waiting) > workers + 1:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def shared_sources(self) -> list[SupportsSlicing | None]:
        """Return the opened volumes that threads share, whole and halves.

        None stands for a memory map, which every chunk opens and closes itself.
        """
        shared: list[SupportsSlicing | None] = []
        opened = self._open()
        for data in opened:
            if isinstance(data, np.memmap | MeanArray):
                # Pages of a map count as memory until it is closed; closing it after each chunk keeps that bounded.
                shared.append(None)
            elif (
                not isinstance(data, np.ndarray)
                and np.prod(data.shape) * data.dtype.itemsize * len(opened) <= WHOLE_BYTES
            ):
                # Chunks on disk are decompressed whole for every box that touches them; so read them once.
                shared.append(np.asarray(data[:]))
            else:
                shared.append(data)
        return shared

    def crop(self, rows: NDArray[np.int64], shared: list[SupportsSlicing | None]) -> CroppedBoxes:
        """Crop some particles."""
        opened = self._open() if any(data is None for data in shared) else []
        sources = [opened[k] if data is None else data for k, data in enumerate(shared)]
        kept: list[int] = []
        boxes: list[list[NDArray[np.float32]]] = []
        dropped: dict[int, str] = {}
        for row in rows.tolist():
            volumes = self._crop_one(row, sources)
            if isinstance(volumes, str):
                dropped[row] = volumes
            else:
                kept.append(row)
                boxes.append(volumes)
        sign = np.float32(-1 if self.tomogram.is_inverted else 1)
        shape = (len(kept), len(sources), *(self.box_size,) * 3)
        stack = sign * np.asarray(boxes, dtype=np.float32).reshape(shape)
        halves = stack[:, 1:] if self.has_halves else None
        return CroppedBoxes(np.asarray(kept, dtype=np.int64), stack[:, 0], halves, dropped)

    def _crop_one(self, row: int, sources: list[SupportsSlicing]) -> list[NDArray[np.float32]] | str:
        """Boxes of one particle from every source, or the reason why there are none."""
        grid = self.tomogram.grid
        ratio = self.voxel_spacing_angstrom / grid.voxel_spacing_angstrom
        center = self.particles.position_zyx_angstrom[row] / grid.voxel_spacing_angstrom
        if not np.isfinite(center).all():
            return NO_POSITION
        if (center < -0.5).any() or (center > np.asarray(grid.shape_zyx) - 0.5).any():
            return OUTSIDE
        first = crop_box(sources[0], center, self.box_size, ratio)
        if self.borders == "drop" and first.inside < 1:
            return BEYOND
        volumes = [first.volume, *(crop_box(data, center, self.box_size, ratio).volume for data in sources[1:])]
        return next(filter(None, map(find_fault, volumes)), "") or volumes


def find_fault(box: NDArray[np.float32]) -> str:
    """Return why a box is unusable; empty where it is usable."""
    if not np.isfinite(box).all():
        return NOT_NUMBERS
    low, high = float(box.min()), float(box.max())
    # Resampling leaves rounding errors on a constant.
    return CONSTANT if high - low <= 1e-5 * max(abs(low), abs(high)) else ""
