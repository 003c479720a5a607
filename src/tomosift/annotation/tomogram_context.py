"""Context of a particle: a section of its tomogram around it, where the tomogram still exists."""

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
"""Width of the section in box edges."""
_MAX_PIXELS = 320
_THICKNESS_ANGSTROM = 60.0


@dataclass(frozen=True)
class Section:
    """Picture of an xy section, the mean of 60 Angstrom along z; `BOXES_ACROSS` box edges wide if the tomogram is."""

    png: bytes
    mark: tuple[float, float, float]
    """Position of the particle from the left and from the top, and its box edge, as shares of the width."""


class TomogramContext:
    """Sections of the tomograms from which a set was extracted; their paths are in the provenance of the set.

    Parameters
    ----------
    subtomograms
        Set of subtomograms.
    """

    def __init__(self, subtomograms: Subtomograms) -> None:
        self._subtomograms = subtomograms
        self._tomograms = {
            name: Tomogram(
                name,
                Path(entry["path"]),
                Grid(tuple(entry["shape_zyx"]), float(entry["voxel_spacing_angstrom"])),
                is_inverted=bool(entry.get("inverted", False)),
            )
            for name, entry in subtomograms.provenance.get("tomograms", {}).items()
            if "path" in entry and "shape_zyx" in entry
        }

    @property
    def has_tomograms(self) -> bool:
        """Whether the set names any tomogram; imported subtomograms have none."""
        return bool(self._tomograms)

    def render_section(self, row: int) -> Section | None:
        """Render the section around a particle, or return None where there is no tomogram or no position."""
        position = self._subtomograms.particles.position_zyx_angstrom[row]
        if not self._tomograms or not np.isfinite(position).all():
            return None
        name = str(self._subtomograms.particles.tomogram[row])
        try:
            return self._render(self._tomograms[match_tomograms([name], self._tomograms)[name]], position)
        except (ValueError, OSError):
            return None  # moved, renamed or deleted since; the subtomogram itself still exists

    def _render(self, tomogram: Tomogram, position: NDArray[np.float64]) -> Section | None:
        """Render the section around a position, or return None where that lies outside of the tomogram."""
        spacing, shape = tomogram.grid.voxel_spacing_angstrom, np.array(tomogram.grid.shape_zyx)
        center = np.rint(position / spacing).astype(int)
        if (center < 0).any() or (center >= shape).any():
            return None
        edge = self._subtomograms.box_size * self._subtomograms.voxel_spacing_angstrom / spacing
        step = max(1, int(np.ceil(BOXES_ACROSS * edge / _MAX_PIXELS)))
        size = np.minimum(int(BOXES_ACROSS * edge), shape[1:].min()) // step * step
        if not size:
            return None
        # The section stays inside the tomogram, so near a border the particle is off its center.
        corner = np.clip(center[1:] - size // 2, 0, shape[1:] - size)
        reach = int(_THICKNESS_ANGSTROM / spacing / 2)
        planes = slice(max(int(center[0]) - reach, 0), int(center[0]) + reach + 1)
        down, right = (slice(int(first), int(first + size)) for first in corner)
        section = np.asarray(tomogram.open().data[planes, down, right], dtype=np.float32).mean(axis=0)
        small = section.reshape(size // step, step, size // step, step).mean(axis=(1, 3))
        image = -small if tomogram.is_inverted else small
        down_share, right_share = (center[1:] - corner + 0.5) / size
        picture = to_gray_levels(image, *choose_gray_range(image))
        return Section(encode_png(picture), (float(right_share), float(down_share), edge / size))
