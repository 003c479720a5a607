"""Tables of tomograms and tilt series: sizes, paths and tilt angles by tomogram name.

Paths in these files are relative to the project folder of the program that wrote them. A path to a file that does not
exist is None. No file is opened because a table names it, apart from the tilt series of a RELION table.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from tomosift.acquisition import Acquisition
from tomosift.errors import FormatError
from tomosift.io.particles import relion_columns
from tomosift.io.star_text import read_star
from tomosift.io.tilt_series import acquisition_of_table
from tomosift.particles import Grid

_LARGEST = 1e6
"""Voxels along an axis; no tomogram is larger."""


@dataclass(frozen=True)
class TomogramEntry:
    """One tomogram of a table; None where the table does not say, or where the file does not exist."""

    name: str
    grid: Grid | None
    """The grid of the reconstructed volume: size in bin-1 pixels over binning, spacing times binning."""
    path: Path | None
    half_paths: tuple[Path, Path] | None
    acquisition: Acquisition | None
    hand: float | None
    """RELION's sign of the defocus slope along z, 1 or -1."""
    notes: tuple[str, ...] = ()
    """What was passed over, as sentences."""


def read_tomogram_table(path: Path) -> dict[str, TomogramEntry]:
    """Read the tomograms of RELION 4 or 5 (``tomograms.star``, ``tilt_series.star``) by ``rlnTomoName``.

    The size of the volume is ``rlnTomoSize`` / ``rlnTomoTomogramBinning``, rounded. Its spacing is the pixel size,
    ``rlnTomoTiltSeriesPixelSize``, times the binning. Without a binning it is the size in bin-1 pixels.

    Parameters
    ----------
    path
        The table.

    Raises
    ------
    FormatError
        The file is no table of tomograms, or a size or pixel size is no positive number.
    """
    path = Path(path)
    blocks = read_star(path)
    table = _find_table(path, blocks)
    names = table["rlnTomoName"].astype(str)
    if not names.is_unique:
        raise FormatError(path, "rlnTomoName", f"{names[names.duplicated()].iloc[0]} twice", "each tomogram once")
    grids = _grids(path, table)
    entries = {}
    for k, name in enumerate(names):
        row = table.iloc[k]
        halves = [_existing(path, row.get(f"rlnTomoReconstructedTomogramHalf{half}")) for half in (1, 2)]
        acquisition, notes = _acquisition(path, name, row, blocks)
        entries[name] = TomogramEntry(
            name=name,
            grid=grids[k],
            path=_existing(path, row.get("rlnTomoReconstructedTomogram"))
            or _existing(path, row.get("rlnTomoReconstructedTomogramDenoised")),
            half_paths=(halves[0], halves[1]) if halves[0] is not None and halves[1] is not None else None,
            acquisition=acquisition,
            hand=_hand(path, k, row.get("rlnTomoHand", np.nan)),
            notes=notes,
        )
    return entries


def _find_table(path: Path, blocks: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the block that lists tomograms, ``global`` first."""
    for name in ("global", *blocks):
        if name in blocks and _is_table(blocks[name]):
            return blocks[name]
    named = [name for block in blocks.values() for name in block.get("rlnTomoTomogramsFile", ())]
    advice = f"give {named[0]}" if named else "give the tomograms.star of the reconstruction"
    raise FormatError(path, "rlnTomoName", "missing or without tomograms", "a table of tomograms by RELION", advice)


def _is_table(table: pd.DataFrame) -> bool:
    """Whether a block lists tomograms: particle lists name them too, but have no tilt series and no size."""
    return "rlnTomoName" in table and bool(
        {"rlnTomoTiltSeriesStarFile", "rlnTomoTiltSeriesName", "rlnTomoSizeX"} & set(table.columns)
        and not relion_columns.dialect(table, None)
    )


def _grids(path: Path, table: pd.DataFrame) -> list[Grid | None]:
    """Return the grid of each tomogram; None without a size or pixel size."""
    pixel = relion_columns.pixel_size(
        path, table, None, ("rlnTomoTiltSeriesPixelSize", "rlnMicrographOriginalPixelSize")
    )
    if pixel is None or not relion_columns.has(table, relion_columns.TOMOGRAM_SIZE):
        return [None] * len(table)
    sizes = relion_columns.coordinates(path, table, relion_columns.TOMOGRAM_SIZE)
    binning = np.ones(len(table))
    if "rlnTomoTomogramBinning" in table:
        binning = relion_columns.coordinates(path, table, ("rlnTomoTomogramBinning",))[:, 0]
    unset = np.asarray((sizes == relion_columns.UNSET).any(axis=1))
    for label, values in (("rlnTomoSizeX/Y/Z", sizes.min(axis=1)), ("rlnTomoTomogramBinning", binning)):
        wrong = np.flatnonzero(~((values > 0) & (values < _LARGEST)) & ~unset)
        if wrong.size:
            row = int(wrong[0])
            raise FormatError(path, f"{label} of row {row + 1}", f"{values[row]:g}", "a positive number")
    grids: list[Grid | None] = []
    for size, factor, spacing, is_unset in zip(sizes, binning, pixel, unset, strict=True):
        if is_unset or not (factor > 1 / _LARGEST and (size / factor < _LARGEST).all()):
            grids.append(None)
            continue
        # RELION rounds x and y of the binned volume and cuts z.
        x, y, z = (max(1, edge) for edge in (round(size[0] / factor), round(size[1] / factor), int(size[2] / factor)))
        grid = Grid((z, y, x), float(spacing * factor))
        depth, height, width = (float(edge * spacing) for edge in size[::-1])
        is_rounded = not np.allclose(grid.extent_zyx_angstrom, (depth, height, width))
        grids.append(replace(grid, stated_extent_zyx_angstrom=(depth, height, width)) if is_rounded else grid)
    return grids


def _hand(path: Path, row: int, value: object) -> float | None:
    """Return RELION's hand, None where it is not stated."""
    try:
        hand = float(str(value))
    except ValueError:
        raise FormatError(path, f"rlnTomoHand of row {row + 1}", repr(value), "1 or -1") from None
    return hand if np.isfinite(hand) else None


def _existing(table: Path, name: object) -> Path | None:
    """Return the file of this name: absolute, or relative to the table's folder or one above it; None without one."""
    if not isinstance(name, str) or name in ("", "None"):
        return None
    if Path(name).is_absolute():
        return Path(name) if _is_file(Path(name)) else None
    return next((folder / name for folder in table.absolute().parents if _is_file(folder / name)), None)


def _is_file(path: Path) -> bool:
    """Whether this is a file, or the folder of a Zarr volume."""
    try:
        return path.is_file() or (path.suffix == ".zarr" and path.is_dir())
    except (OSError, ValueError):  # a name that is too long, or in a folder that may not be entered
        return False


def _acquisition(
    path: Path, name: str, row: "pd.Series[float]", blocks: Mapping[str, pd.DataFrame]
) -> tuple[Acquisition | None, tuple[str, ...]]:
    """Return the acquisition of the tilt series' own file (RELION 5) or of the tomogram's block (RELION 4), and notes.

    One that cannot be read is passed over: a file beside the tomogram may state the tilt angles as well.
    """
    tilt_series = _existing(path, row.get("rlnTomoTiltSeriesStarFile"))
    table = blocks.get(name)
    try:
        if tilt_series is not None:
            tables = list(read_star(tilt_series).values())
            dosed = next((t for t in tables if "rlnMicrographPreExposure" in t), None)
            table = tables[0] if len(tables) == 1 else dosed
        acquisition = None if table is None else acquisition_of_table(tilt_series or path, table, row.to_dict())
    except FormatError as error:
        column = "" if tilt_series is None else f" (named by rlnTomoTiltSeriesStarFile of {path})"
        return None, (f"tilt angles of {name}: {error}{column}; passed over",)
    return acquisition, ()
