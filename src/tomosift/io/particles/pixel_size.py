"""The size of one pixel of a table's coordinates: stated, inferred from one-sided evidence, or requested.

The first of these that applies:

1. the caller states it (``--picks-spacing``),
2. the file states it,
3. the file's header states the size in voxels of the tomogram that is given (IMOD models): one voxel of it,
4. ten positions or more lie all inside the tomograms that are given when they count their voxels, and span more than
   60 % of them in y and x: one voxel of it. Coordinates of a coarser volume would span half of it at most, and those of
   a finer one would not lie inside.

Otherwise the user has to state it. What was inferred is noted. Coordinates that are fractions of the tomogram are
refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomosift.errors import FormatError
from tomosift.io.tomogram_names import match_names
from tomosift.particles import Grid

ADVICE = "give the size of one pixel in Angstrom with --picks-spacing"
FEWEST_TO_INFER = 10
SPANNED_TO_INFER = 0.6
FEWEST_FRACTIONS = 3
_SAME_SIZE = 0.01  # relative


@dataclass(frozen=True)
class PixelSize:
    """What may say how large one pixel is.

    Attributes
    ----------
    voxel_spacing_angstrom
        Size that the caller requests.
    grids
        Voxel grid by tomogram name.
    stated
        Size in Angstrom that the file itself states; None, or no positive number, where it does not.
    stated_shape_xyz
        Size of the tomogram in voxels that the file itself states.
    """

    voxel_spacing_angstrom: float | None
    grids: Mapping[str, Grid] | None
    stated: float | None = None
    stated_shape_xyz: tuple[int, int, int] | None = None

    def to_read(
        self, path: Path, tomogram: NDArray[Any], xyz: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], tuple[str, ...]]:
        """Return Angstrom per pixel of each particle ``(n,)``, and notes on what was inferred.

        Parameters
        ----------
        path
            The file, for error messages.
        tomogram
            (n,) names.
        xyz
            (n, 3) coordinates in pixels.

        Raises
        ------
        FormatError
            Nothing says the pixel size, or the coordinates are fractions of the tomogram.
        """
        check_no_fractions(path, xyz)
        if self.voxel_spacing_angstrom is not None:
            return np.full(len(tomogram), self._requested()), ()
        spacing = self._of_grids(tomogram)
        has_shape = spacing is not None and self._has_stated_shape(tomogram)
        if self.stated is not None and np.isfinite(self.stated) and self.stated > 0:
            contradicts = has_shape and spacing is not None and abs(self.stated / spacing[0] - 1) > _SAME_SIZE
            if not contradicts or spacing is None:
                return np.full(len(tomogram), self.stated), ()
            return spacing, (
                f"the header states pixels of {self.stated:g} A, and the size in voxels of the tomogram, whose voxels "
                f"are {spacing[0]:g} A; one pixel is taken to be one voxel",
            )
        if spacing is not None and has_shape:
            return spacing, (
                "the file states no pixel size, and its header the size in voxels of the tomogram; one pixel is taken "
                f"to be one voxel of {spacing[0]:g} A",
            )
        share = 0.0 if spacing is None else self._spanned(tomogram, xyz)
        if spacing is None or share <= SPANNED_TO_INFER:
            raise FormatError(path, "pixel size of the coordinates", "not in the file", "a number of Angstrom", ADVICE)
        return spacing, (
            f"the file states no pixel size; its positions fill {100 * share:.0f} % of the tomograms, so one pixel is "
            f"taken to be one voxel of {', '.join(f'{one:g}' for one in np.unique(spacing)[:4])} A",
        )

    def to_write(self, tomogram: NDArray[Any]) -> NDArray[np.float64]:
        """Return Angstrom per pixel ``(n,)``: as requested, else one voxel of each tomogram.

        Raises
        ------
        ValueError
            Nothing says the pixel size.
        """
        if self.voxel_spacing_angstrom is not None:
            return np.full(len(tomogram), self._requested())
        spacing = self._of_grids(tomogram)
        if spacing is None:
            raise ValueError(f"this format holds coordinates in pixels and no pixel size is known; {ADVICE}")
        return spacing

    def _requested(self) -> float:
        if self.voxel_spacing_angstrom is None or not 0 < self.voxel_spacing_angstrom < np.inf:
            raise ValueError(f"voxel_spacing_angstrom is {self.voxel_spacing_angstrom}, expected a positive number")
        return float(self.voxel_spacing_angstrom)

    def _matched(self, tomogram: NDArray[Any]) -> list[Grid] | None:
        """Grid of the tomogram of each particle; None where one is unknown."""
        names = [str(name) for name in tomogram]
        match = match_names(names, {key: grid.aliases for key, grid in (self.grids or {}).items()})
        if not names or any(name not in match.key_of for name in set(names)):
            return None
        return [(self.grids or {})[match.key_of[name]] for name in names]

    def _of_grids(self, tomogram: NDArray[Any]) -> NDArray[np.float64] | None:
        grids = self._matched(tomogram)
        return None if grids is None else np.array([grid.voxel_spacing_angstrom for grid in grids], dtype=np.float64)

    def _has_stated_shape(self, tomogram: NDArray[Any]) -> bool:
        grids = self._matched(tomogram) or []
        return bool(grids) and all(grid.shape_zyx[::-1] == self.stated_shape_xyz for grid in grids)

    def _spanned(self, tomogram: NDArray[Any], xyz: NDArray[np.float64]) -> float:
        """Smaller share of y and x that positions in voxels span; 0 where they are few or not all inside."""
        grids = self._matched(tomogram)
        if grids is None or len(xyz) < FEWEST_TO_INFER:
            return 0.0
        relative = xyz / np.array([grid.shape_zyx[::-1] for grid in grids], dtype=np.float64)
        # Formats count from 0, 0.5 or 1, so positions may lie one pixel beyond.
        slack = 1.0 / np.array([grid.shape_zyx[::-1] for grid in grids], dtype=np.float64)
        if not ((relative >= -slack) & (relative <= 1 + slack)).all():
            return 0.0
        return float(np.ptp(relative[:, :2], axis=0).min())


def check_no_fractions(path: Path, xyz: NDArray[np.float64]) -> None:
    """Refuse coordinates ``(n, 3)`` that all lie between 0 and 1."""
    if len(xyz) >= FEWEST_FRACTIONS and (xyz >= 0).all() and (xyz <= 1).all() and np.ptp(xyz, axis=0).any():
        raise FormatError(
            path,
            "coordinates",
            f"between {xyz.min():.2g} and {xyz.max():.2g}, fractions of the tomogram",
            "pixels",
            "multiply x, y and z by the size of the tomogram in voxels",
        )
