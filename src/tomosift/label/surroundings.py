"""Where a particle lies: a section of its tomogram around it, as far as the tomogram is still where it was."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tomosift.data.subtomograms import Subtomograms
from tomosift.data.tomograms import Tomogram, match_tomograms
from tomosift.evaluate.markup import png
from tomosift.evaluate.pictures import gray_levels, window
from tomosift.particles import Grid

BOXES_ACROSS = 5
"""Edge of the section in box edges."""
_MOST_PIXELS = 320
_THICKNESS_ANGSTROM = 60.0


class Surroundings:
    """Sections of the tomograms that a set was cut from; paths are those that the set remembers."""

    def __init__(self, boxes: Subtomograms) -> None:
        self._boxes = boxes
        self._tomograms = {
            name: Tomogram(
                name,
                Path(entry["path"]),
                Grid(tuple(entry["shape_zyx"]), float(entry["voxel_spacing_angstrom"])),
                inverted=bool(entry.get("inverted", False)),
            )
            for name, entry in boxes.provenance.get("tomograms", {}).items()
            if "path" in entry and "shape_zyx" in entry
        }

    def section(self, row: int) -> bytes | None:
        """A gray PNG with the particle in its middle; None where there is no tomogram or no position.

        It shows the xy plane, is `BOXES_ACROSS` box edges wide and the mean of 60 Angstrom along z.
        """
        position = self._boxes.particles.position_zyx_angstrom[row]
        if not self._tomograms or not np.isfinite(position).all():
            return None
        name = str(self._boxes.particles.tomogram[row])
        try:
            tomogram = self._tomograms[match_tomograms([name], self._tomograms)[name]]
            image = self._cut(tomogram, position)
        except (ValueError, OSError):
            return None  # moved, renamed or deleted since; the box itself is still there
        return None if image is None else png(gray_levels(image, *window(image)))

    def _cut(self, tomogram: Tomogram, position: NDArray[np.float64]) -> NDArray[np.float32] | None:
        spacing = tomogram.grid.voxel_spacing_angstrom
        center = np.rint(position / spacing).astype(int)
        half = int(BOXES_ACROSS * self._boxes.box_size * self._boxes.voxel_spacing_angstrom / spacing / 2)
        step = -(-2 * half // _MOST_PIXELS)
        half -= half % step
        reach = np.array([max(int(_THICKNESS_ANGSTROM / spacing / 2), 0), half, half])
        low, high = center - reach, center + reach + np.array([1, 0, 0])
        inside = np.clip(low, 0, tomogram.grid.shape_zyx), np.clip(high, 0, tomogram.grid.shape_zyx)
        if (inside[1] <= inside[0]).any():
            return None
        slices = tuple(slice(int(a), int(b)) for a, b in zip(*inside, strict=True))
        cut = np.asarray(tomogram.open().data[slices], dtype=np.float32).mean(axis=0)
        before, after = inside[0] - low, high - inside[1]
        whole = np.pad(cut, ((before[1], after[1]), (before[2], after[2])), constant_values=float(cut.mean()))
        small: NDArray[np.float32] = whole.reshape(2 * half // step, step, 2 * half // step, step).mean(axis=(1, 3))
        return -small if tomogram.inverted else small
