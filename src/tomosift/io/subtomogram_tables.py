"""Tables that name the files of subtomograms: RELION STAR by ``rlnImageName``, CSV by a column of file names."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tomosift.errors import FormatError
from tomosift.io.angles import from_relion
from tomosift.io.particles import relion, relion_columns
from tomosift.io.star_text import read_star
from tomosift.particles import Particles

IMAGE_LABEL = "rlnImageName"
FILE_COLUMNS = ("file", "filename", "file_name", "path", "image", "particle")
CLASS_COLUMNS = ("label", "class", "class_name")
POSITION_COLUMNS = ("z_vox", "y_vox", "x_vox")
ANGLE_COLUMNS = ("rot", "tilt", "psi")
_PARENTS_SEARCHED = 6
"""RELION names images from the project folder, which is at most this many folders above the table."""


@dataclass(frozen=True)
class SubtomogramTable:
    """A table as it is in its file, and the column that names the subtomograms."""

    path: Path
    columns: pd.DataFrame
    names: list[str] | None
    """Image names, row by row; None where no column holds them, so the rows follow the order of the subtomograms."""
    blocks: Mapping[str, pd.DataFrame]
    """The other blocks of a STAR file."""
    voxel_spacing_angstrom: float | None

    @property
    def is_star(self) -> bool:
        """Whether the file is STAR rather than CSV."""
        return _is_star(self.path)


class FileFinder:
    """Search for the files that a table names: beside it, above it, or below the folder under the same name.

    Parameters
    ----------
    table
        The table.
    folder
        Folder of the subtomograms.
    """

    def __init__(self, table: Path, folder: Path) -> None:
        self.table = table
        self.roots = list(dict.fromkeys([folder, table.parent, *table.resolve().parents[:_PARENTS_SEARCHED]]))
        self.folder = folder

    @cached_property
    def by_name(self) -> dict[str, Path]:
        """Files below the folder by name, with and without suffix; the first of each name."""
        names: dict[str, Path] = {}
        for entry in natural_order(self.folder.rglob("*")):
            names.setdefault(entry.name, entry)
            names.setdefault(entry.stem, entry)
        return names

    def find(self, name: str, row: int) -> Path:
        """Return the file of this name in a row, from 0.

        Raises
        ------
        FormatError
            There is no such file.
        """
        if not name or name == "nan":
            raise FormatError(self.table, f"image name of row {row + 1}", "empty", "the file of a subtomogram")
        for root in self.roots:
            if (candidate := root / name).is_file():
                # The root that held one file most likely holds the next.
                self.roots.remove(root)
                self.roots.insert(0, root)
                return candidate
        namesake = self.by_name.get(Path(name).name)
        if namesake is None or not namesake.is_file():
            expected = f"a file beside the table, above it or below {self.roots[0]}"
            raise FormatError(self.table, f"image name of row {row + 1}", f"{name}, which does not exist", expected)
        return namesake


def natural_order(paths: Iterable[Path]) -> list[Path]:
    """Return the paths sorted with numbers by value.

    Examples
    --------
    >>> [path.name for path in natural_order([Path("p10.mrc"), Path("p2.mrc")])]
    ['p2.mrc', 'p10.mrc']
    """
    return sorted(paths, key=lambda path: [(len(part), part) if part.isdigit() else (0, part) for part in _parts(path)])


def has_image_names(path: Path) -> bool:
    """Whether a table can be read and has a column with the names of subtomograms."""
    try:
        return read_table(path, None).names is not None
    except FormatError:
        return False


def read_table(path: Path, voxel_spacing_angstrom: float | None) -> SubtomogramTable:
    """Read a STAR or CSV table.

    Parameters
    ----------
    path
        The table.
    voxel_spacing_angstrom
        Size of one pixel of its coordinates, where it does not state that.

    Raises
    ------
    FormatError
        The text breaks its format or has no rows.
    """
    if _is_star(path):
        blocks = read_star(path)
        block = next((name for name, table in blocks.items() if IMAGE_LABEL in table), None)
        name = block if block is not None else next((n for n in ("particles", "images", "") if n in blocks), None)
        columns = blocks.pop(name if name is not None else next(reversed(blocks)))
        names = columns[IMAGE_LABEL].astype(str).tolist() if IMAGE_LABEL in columns else None
        return SubtomogramTable(path, columns, names, blocks, voxel_spacing_angstrom)
    try:
        columns = pd.read_csv(path, skipinitialspace=True)
    except (ValueError, UnicodeDecodeError, OSError) as error:
        raise FormatError(path, "table", f"unreadable ({error})", "comma-separated text with a header line") from error
    if columns.empty:
        raise FormatError(path, "table", "without rows", "one row for each subtomogram")
    column = _first(columns, FILE_COLUMNS)
    names = None if column is None else columns[column].astype(str).str.strip().tolist()
    return SubtomogramTable(path, columns, names, {}, voxel_spacing_angstrom)


def particles_of_table(
    table: SubtomogramTable, names: Sequence[str], folder: Path, voxel_spacing_angstrom: float | None
) -> tuple[Particles, list[str]]:
    """Return the rows of a table as particles, and notes on what is unknown.

    Positions are unknown where a STAR file has no coordinates, or centered ones without the tomogram's size.

    Parameters
    ----------
    table
        The table.
    names
        Name of the subtomogram of each row.
    folder
        Folder of the subtomograms; its name is the tomogram where no column names one.
    voxel_spacing_angstrom
        Of the subtomograms, in which a CSV table counts positions.

    Raises
    ------
    FormatError
        A CSV table has text in place of numbers.
    """
    if not table.is_star:
        return _particles_of_csv(table, names, folder, voxel_spacing_angstrom)
    try:
        # Not the spacing of the subtomograms: they are often binned, and coordinates count the unbinned pixels.
        return relion.read_particles(table.path, voxel_spacing_angstrom=table.voxel_spacing_angstrom), []
    except FormatError as error:
        columns, optics = table.columns, table.blocks.get("optics")
        rotation, _ = relion_columns.rotations(table.path, columns)
        particles = Particles.create(
            tomogram=relion_columns.tomogram_names(columns, folder.name),
            position_zyx_angstrom=np.full((len(columns), 3), np.nan),
            rotation=rotation,
            particle_id=_unique(names),
            columns=columns,
            tables=table.blocks,
            source=relion_columns.dialect(columns, optics),
        )
        return particles, [f"the positions of the subtomograms are unknown: {error}"]


def _particles_of_csv(
    table: SubtomogramTable, names: Sequence[str], folder: Path, spacing: float | None
) -> tuple[Particles, list[str]]:
    """Return the rows of a CSV table as particles; positions count voxels of the subtomograms."""
    columns, count, notes = table.columns, len(table.columns), []
    position, rotation = np.full((count, 3), np.nan), None
    if set(POSITION_COLUMNS) <= set(columns.columns):
        if spacing is None:
            notes.append("the positions of the subtomograms are unknown: they are in voxels of unknown size")
        else:
            position = _numbers(table, POSITION_COLUMNS) * spacing
    if set(ANGLE_COLUMNS) <= set(columns.columns):
        rotation = from_relion(_numbers(table, ANGLE_COLUMNS))
    column = _first(columns, CLASS_COLUMNS)
    tomogram = _first(columns, ("tomogram",))
    return Particles.create(
        tomogram=[folder.name] * count if tomogram is None else columns[tomogram].astype(str).tolist(),
        position_zyx_angstrom=position,
        rotation=rotation,
        class_name=None if column is None else _texts(columns[column]),
        particle_id=_unique(names),
        columns=columns,
    ), notes


def _is_star(path: Path) -> bool:
    """Whether the name ends in ``.star`` or ``.star.gz``."""
    return path.name.lower().removesuffix(".gz").endswith(".star")


def _parts(path: Path) -> list[str]:
    """Return the path cut into numbers and other text."""
    return re.split(r"(\d+)", path.as_posix())


def _first(columns: pd.DataFrame, names: Sequence[str]) -> Any:
    """Return the column with the first of these names, whatever its case; None without one."""
    by_lower = {str(name).strip().lower(): name for name in columns.columns}
    return next((by_lower[name] for name in names if name in by_lower), None)


def _numbers(table: SubtomogramTable, names: Sequence[str]) -> NDArray[np.float64]:
    """Return columns as numbers ``(n, k)``; `FormatError` where they hold text."""
    try:
        return table.columns[list(names)].to_numpy(dtype=np.float64)
    except ValueError as error:
        raise FormatError(table.path, ", ".join(names), f"not numbers ({error})", "numbers") from error


def _texts(column: "pd.Series[Any]") -> list[str]:
    """Return class names; whole numbers without a decimal point, empty where the cell is."""
    values = [int(v) if isinstance(v, float) and v.is_integer() else v for v in column]
    return ["" if pd.isna(value) else str(value).strip() for value in values]


def _unique(names: Sequence[str]) -> list[str]:
    """Return the same names, with the row number after those that repeat an earlier one."""
    earlier: set[str] = set()
    unique = []
    for row, name in enumerate(names):
        unique.append(f"{name}#{row + 1}" if name in earlier else name)
        earlier.add(name)
    return unique
