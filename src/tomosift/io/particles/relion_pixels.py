"""How large one pixel of RELION's coordinates is, where columns allow several readings."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tomosift.io.particles import relion_columns
from tomosift.io.particles.pixel_size import PixelSize, check_no_fractions
from tomosift.io.tomogram_names import match_names

_SAME = 0.01  # relative difference of pixel sizes that agree
_OUTPUT_LABEL = "rlnImagePixelSize"
_TILT_SERIES_LABEL = "rlnTomoTiltSeriesPixelSize"


@dataclass(frozen=True, eq=False)
class PixelTable:
    """A list of particles whose coordinates are in pixels."""

    path: Path
    columns: pd.DataFrame
    optics: pd.DataFrame | None
    tomogram: NDArray[np.object_]
    """(n,) names."""
    size: PixelSize
    """What the caller and the tomograms say."""


def find_pixel_size(
    table: PixelTable, source: str, xyz: NDArray[np.float64]
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Return Angstrom per pixel ``(n,)`` and notes.

    It is what the columns state (`relion_columns`), else what `PixelSize` says. Lists of 2D stacks that WarpTools
    exports state the pixel of the tilt series, but their positions count output pixels (``rlnImagePixelSize``).
    RELION's own lists, which look alike, count those of the tilt series. The one whose positions lie inside the
    tomograms is taken; where both or none do, WarpTools' where the list says so.

    Source: RELION, ``ParticleSet``; WarpTools, ``ts_export_particles``, versions before July 2026.
    """
    path, columns, optics = table.path, table.columns, table.optics
    check_no_fractions(path, xyz)
    stated = relion_columns.pixel_size(path, columns, optics, relion_columns.COORDINATE_PIXEL_SIZES)
    if stated is None:
        return table.size.to_read(path, table.tomogram, xyz)
    output = relion_columns.pixel_size(path, columns, optics, (_OUTPUT_LABEL,))
    is_of_tilt_series = relion_columns.pixel_size(path, columns, optics, (_TILT_SERIES_LABEL,)) is not None
    if output is None or not is_of_tilt_series or np.allclose(output, stated, rtol=_SAME):
        return stated, ()
    is_export = _is_warp_export(table)
    fits = [_share_inside(table, xyz * spacing[:, None]) for spacing in (stated, output)]
    if fits[0] is not None and fits[1] is not None and (fits[0] > 0.9) != (fits[1] > 0.9) and is_export:
        takes_output, reason = fits[1] > 0.9, "by that the positions lie inside the tomograms"
    else:
        takes_output, reason = is_export, "as WarpTools writes lists of 2D stacks"
    if not takes_output:
        return stated, ()
    note = (
        f"one pixel of the coordinates is taken to be {_OUTPUT_LABEL}, {output[0]:g} A, {reason}; not {stated[0]:g} A"
    )
    return output, (note,)


def describe_contradiction(path: Path, columns: pd.DataFrame, optics: pd.DataFrame | None) -> str:
    """Return the note on a pixel of the images that is not that of the tilt series times the binning; else empty."""
    series = relion_columns.pixel_size(path, columns, optics, (_TILT_SERIES_LABEL,))
    image = relion_columns.pixel_size(path, columns, optics, (_OUTPUT_LABEL,))
    binning = relion_columns.pixel_size(path, columns, optics, (relion_columns.BINNING,))
    if series is None or image is None or binning is None:
        return ""
    wrong = np.flatnonzero(np.abs(series * binning / image - 1) > _SAME)
    if not wrong.size:
        return ""
    row = wrong[0]
    return (
        f"the optics group of row {row + 1} contradicts itself: {_TILT_SERIES_LABEL} {series[row]:g} A times "
        f"{relion_columns.BINNING} {binning[row]:g} is not {_OUTPUT_LABEL} {image[row]:g} A; one pixel of the "
        f"coordinates is taken to be {series[row]:g} A"
    )


def _is_warp_export(table: PixelTable) -> bool:
    """Whether WarpTools wrote the list: tomograms are named by their ``.tomostar``."""
    return bool(pd.Series(table.tomogram).astype(str).str.endswith(".tomostar").all())


def _share_inside(table: PixelTable, xyz_angstrom: NDArray[np.float64]) -> float | None:
    """Share of the positions that lie inside the tomograms; None where one is unknown."""
    grids = table.size.grids or {}
    names = [str(name) for name in table.tomogram]
    match = match_names(names, {key: grid.aliases for key, grid in grids.items()})
    if any(name not in match.key_of for name in set(names)):
        return None
    extent = np.array([grids[match.key_of[name]].extent_zyx_angstrom[::-1] for name in names])
    return float(((xyz_angstrom >= 0) & (xyz_angstrom <= extent)).all(axis=1).mean())
