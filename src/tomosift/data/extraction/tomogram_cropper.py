"""Cutting many particles out of one tomogram, with several threads and a reason for each that is left out."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tomosift.data.extraction.crop import crop_box
from tomosift.data.extraction.tomograms import Tomogram
from tomosift.io.volumes import open_volume
from tomosift.io.volumes.volume import SupportsSlicing
from tomosift.particles import Particles

NO_POSITION = "the position is not a number"
OUTSIDE = "the center lies outside the tomogram"
BEYOND = "the box reaches beyond the tomogram"
NOT_NUMBERS = "the box holds values that are not numbers"
CONSTANT = "the box is constant"
CHUNK_VOXELS = 1 << 21
"""Voxels of boxes that one task cuts."""
WHOLE_BYTES = 1 << 30
"""Chunked tomograms up to this size are read once and kept while they are cut."""


@dataclass(frozen=True, eq=False)
class CroppedBoxes:
    """What came of some rows: boxes of those kept, and the reason for each that was not."""

    rows: NDArray[np.int64]
    volumes: NDArray[np.float32]
    halves: NDArray[np.float32] | None
    dropped: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Cropper:
    """Cuts rows of the particle table out of one tomogram; shared by threads."""

    tomogram: Tomogram
    particles: Particles
    voxel_spacing_angstrom: float
    box_size: int
    borders: str
    halved: bool

    def sources(self) -> list[SupportsSlicing | None]:
        """What threads share, whole and halves: None for a memory map, which every chunk opens and closes itself."""
        paths = [self.tomogram.path, *((self.tomogram.half_paths or ()) if self.halved else ())]
        shared: list[SupportsSlicing | None] = []
        for path in paths:
            data = open_volume(path).data
            if isinstance(data, np.memmap):
                # Pages of a map count as memory until it is closed; closing it after each chunk keeps that bounded.
                shared.append(None)
            elif (
                not isinstance(data, np.ndarray)
                and np.prod(data.shape) * data.dtype.itemsize * len(paths) <= WHOLE_BYTES
            ):
                # Chunks on disk are decompressed whole for every box that touches them; so read them once.
                shared.append(np.asarray(data[:]))
            else:
                shared.append(data)
        return shared

    def cut(self, rows: NDArray[np.int64], shared: list[SupportsSlicing | None]) -> CroppedBoxes:
        paths = [self.tomogram.path, *((self.tomogram.half_paths or ()) if self.halved else ())]
        sources = [open_volume(path).data if data is None else data for path, data in zip(paths, shared, strict=True)]
        grid = self.tomogram.grid
        ratio = self.voxel_spacing_angstrom / grid.voxel_spacing_angstrom
        shape = np.asarray(grid.shape_zyx)
        kept: list[int] = []
        boxes: list[list[NDArray[np.float32]]] = []
        dropped: dict[int, str] = {}
        for row in rows.tolist():
            center = self.particles.position_zyx_angstrom[row] / grid.voxel_spacing_angstrom
            if not np.isfinite(center).all():
                dropped[row] = NO_POSITION
                continue
            if (center < -0.5).any() or (center > shape - 0.5).any():
                dropped[row] = OUTSIDE
                continue
            first = crop_box(sources[0], center, self.box_size, ratio)
            if self.borders == "drop" and first.inside < 1:
                dropped[row] = BEYOND
                continue
            these = [first.volume, *(crop_box(data, center, self.box_size, ratio).volume for data in sources[1:])]
            if reason := next(filter(None, map(find_fault, these)), ""):
                dropped[row] = reason
                continue
            kept.append(row)
            boxes.append(these)
        sign = np.float32(-1 if self.tomogram.is_inverted else 1)
        every = sign * np.asarray(boxes, dtype=np.float32).reshape(len(kept), len(paths), *(self.box_size,) * 3)
        halves = every[:, 1:] if self.halved else None
        return CroppedBoxes(np.asarray(kept, dtype=np.int64), every[:, 0], halves, dropped)


def crop_in_order(
    pool: ThreadPoolExecutor, cutter: Cropper, rows: NDArray[np.int64], workers: int
) -> Iterator[CroppedBoxes]:
    """Chunks in order, a few ahead: what is written does not depend on which thread is first."""
    if not len(rows):
        return
    size = int(np.clip(CHUNK_VOXELS // cutter.box_size**3, 1, 64))
    shared = cutter.sources()
    waiting: deque[Future[CroppedBoxes]] = deque()
    for start in range(0, len(rows), size):
        waiting.append(pool.submit(cutter.cut, rows[start : start + size], shared))
        if len(waiting) > workers + 1:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def find_fault(box: NDArray[np.float32]) -> str:
    """Why a box is of no use; empty where it is."""
    if not np.isfinite(box).all():
        return NOT_NUMBERS
    low, high = float(box.min()), float(box.max())
    # Resampling leaves rounding errors on a constant.
    return CONSTANT if high - low <= 1e-5 * max(abs(low), abs(high)) else ""
