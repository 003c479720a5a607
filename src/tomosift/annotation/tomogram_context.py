"""Where a particle lies: a section of its tomogram around it, as far as the tomogram is still where it was."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tomosift.data.extraction.tomograms import Tomogram, match_tomograms
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.evaluation.report.markup import encode_png
from tomosift.evaluation.report.pictures import choose_gray_range, to_gray_levels
from tomosift.particles import Grid

BOXES_ACROSS = 5
"""Edge of the section in box edges."""
_MOST_PIXELS = 320
_THICKNESS_ANGSTROM = 60.0


@dataclass(frozen=True)
class Section:
    """A picture of the xy plane, the mean of 60 Angstrom along z; `BOXES_ACROSS` box edges wide where there is room."""

    png: bytes
    mark: tuple[float, float, float]
    """Where the particle is: shares of the width from the left and from the top, and the edge of its box."""


class TomogramContext:
    """Sections of the tomograms that a set was cut from; paths are those that the set remembers."""

    def __init__(self, boxes: Subtomograms) -> None:
        self._boxes = boxes
        self._tomograms = {
            name: Tomogram(
                name,
                Path(entry["path"]),
                Grid(tuple(entry["shape_zyx"]), float(entry["voxel_spacing_angstrom"])),
                is_inverted=bool(entry.get("inverted", False)),
            )
            for name, entry in boxes.provenance.get("tomograms", {}).items()
            if "path" in entry and "shape_zyx" in entry
        }

    @property
    def are_known(self) -> bool:
        """Whether the set remembers any tomogram; boxes that came ready-made have none."""
        return bool(self._tomograms)

    def section(self, row: int) -> Section | None:
        """The section around a particle; None where there is no tomogram or no position."""
        position = self._boxes.particles.position_zyx_angstrom[row]
        if not self._tomograms or not np.isfinite(position).all():
            return None
        name = str(self._boxes.particles.tomogram[row])
        try:
            return self._cut(self._tomograms[match_tomograms([name], self._tomograms)[name]], position)
        except (ValueError, OSError):
            return None  # moved, renamed or deleted since; the box itself is still there

    def _cut(self, tomogram: Tomogram, position: NDArray[np.float64]) -> Section | None:
        spacing, shape = tomogram.grid.voxel_spacing_angstrom, np.array(tomogram.grid.shape_zyx)
        center = np.rint(position / spacing).astype(int)
        if (center < 0).any() or (center >= shape).any():
            return None
        edge = self._boxes.box_size * self._boxes.voxel_spacing_angstrom / spacing
        step = max(1, int(np.ceil(BOXES_ACROSS * edge / _MOST_PIXELS)))
        size = np.minimum(int(BOXES_ACROSS * edge), shape[1:].min()) // step * step
        if not size:
            return None
        # It stays inside the tomogram, so near a border the particle is not in the middle.
        corner = np.clip(center[1:] - size // 2, 0, shape[1:] - size)
        reach = int(_THICKNESS_ANGSTROM / spacing / 2)
        planes = slice(max(int(center[0]) - reach, 0), int(center[0]) + reach + 1)
        down, right = (slice(int(first), int(first + size)) for first in corner)
        cut = np.asarray(tomogram.open().data[planes, down, right], dtype=np.float32).mean(axis=0)
        small = cut.reshape(size // step, step, size // step, step).mean(axis=(1, 3))
        image = -small if tomogram.is_inverted else small
        down_share, right_share = (center[1:] - corner + 0.5) / size
        picture = to_gray_levels(image, *choose_gray_range(image))
        return Section(encode_png(picture), (float(right_share), float(down_share), edge / size))
