"""Tables that name ready-made boxes: RELION STAR by ``rlnImageName``, CSV by a column of file names."""

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
from tomosift.io.particles import relion as star
from tomosift.io.particles import relion_columns as relion
from tomosift.io.star_text import read_star
from tomosift.particles import Particles

IMAGE_LABEL = "rlnImageName"
FILE_COLUMNS = ("file", "filename", "file_name", "path", "image", "particle")
CLASS_COLUMNS = ("label", "class", "class_name")
POSITION_COLUMNS = ("z_vox", "y_vox", "x_vox")
ANGLE_COLUMNS = ("rot", "tilt", "psi")
_PARENTS_SEARCHED = 6
"""RELION names images from the project folder, which lies this many folders above the table at most."""


@dataclass(frozen=True)
class BoxTable:
    """A table as it stands in its file, and the column that names the boxes."""

    path: Path
    columns: pd.DataFrame
    names: list[str] | None
    """Image names, row by row; None where no column holds them, so the rows follow the order of the boxes."""
    blocks: Mapping[str, pd.DataFrame]
    """The other blocks of a STAR file."""
    voxel_spacing_angstrom: float | None

    @property
    def is_star(self) -> bool:
        """Whether the file is STAR, as against CSV."""
        return _is_star(self.path)


class Places:
    """Where the files lie that a table names: beside it, above it, or among the boxes under the same name."""

    def __init__(self, table: Path, folder: Path) -> None:
        self.table = table
        self.roots = list(dict.fromkeys([folder, table.parent, *table.resolve().parents[:_PARENTS_SEARCHED]]))
        self.folder = folder

    @cached_property
    def by_name(self) -> dict[str, Path]:
        """Files below the boxes' folder by name, with and without suffix; the first of each name."""
        names: dict[str, Path] = {}
        for entry in natural_order(self.folder.rglob("*")):
            names.setdefault(entry.name, entry)
            names.setdefault(entry.stem, entry)
        return names

    def find(self, name: str, row: int) -> Path:
        """The file of this name.

        Raises
        ------
        FormatError
            If it is nowhere.
        """
        if not name or name == "nan":
            raise FormatError(self.table, f"image name of row {row + 1}", "empty", "the file of a box")
        for root in self.roots:
            if (candidate := root / name).is_file():
                # The root that held one file most likely holds the next.
                self.roots.remove(root)
                self.roots.insert(0, root)
                return candidate
        found = self.by_name.get(Path(name).name)
        if found is None or not found.is_file():
            expected = f"a file beside the table, above it or below {self.roots[0]}"
            raise FormatError(self.table, f"image name of row {row + 1}", f"{name}, which is not there", expected)
        return found


def natural_order(paths: Iterable[Path]) -> list[Path]:
    """Sorted so that box 2 comes before box 10."""
    return sorted(paths, key=lambda path: [(len(part), part) if part.isdigit() else (0, part) for part in _parts(path)])


def names_boxes(path: Path) -> bool:
    """Whether a table of this folder is one that names boxes; unreadable ones are not."""
    try:
        return read(path, None).names is not None
    except FormatError:
        return False


def read(path: Path, voxel_spacing_angstrom: float | None) -> BoxTable:
    """Read a STAR or CSV table.

    Raises
    ------
    FormatError
        If the text breaks its format or has no rows.
    """
    if _is_star(path):
        blocks = read_star(path)
        block = next((name for name, table in blocks.items() if IMAGE_LABEL in table), None)
        name = block if block is not None else next((n for n in ("particles", "images", "") if n in blocks), None)
        columns = blocks.pop(name if name is not None else next(reversed(blocks)))
        names = columns[IMAGE_LABEL].astype(str).tolist() if IMAGE_LABEL in columns else None
        return BoxTable(path, columns, names, blocks, voxel_spacing_angstrom)
    try:
        columns = pd.read_csv(path, skipinitialspace=True)
    except (ValueError, UnicodeDecodeError, OSError) as error:
        raise FormatError(path, "table", f"unreadable ({error})", "comma-separated text with a header line") from error
    if columns.empty:
        raise FormatError(path, "table", "without rows", "one row for each box")
    column = _first(columns, FILE_COLUMNS)
    names = None if column is None else columns[column].astype(str).str.strip().tolist()
    return BoxTable(path, columns, names, {}, voxel_spacing_angstrom)


def particles(
    table: BoxTable, identities: Sequence[str], folder: Path, spacing: float | None
) -> tuple[Particles, list[str]]:
    """The rows of a table as particles, and sentences on what it leaves open.

    A STAR file whose coordinates cannot be placed (centered ones without the tomogram's size, none at all) still names
    good boxes: its positions are then unknown.
    """
    if not table.is_star:
        return _from_csv(table, identities, folder, spacing)
    try:
        # Not the spacing of the boxes: they are often binned, and the coordinates count the unbinned pixels.
        return star.read_particles(table.path, voxel_spacing_angstrom=table.voxel_spacing_angstrom), []
    except FormatError as error:
        columns, optics = table.columns, table.blocks.get("optics")
        rotation, _ = relion.rotations(table.path, columns)
        unplaced = Particles.create(
            tomogram=relion.tomogram_names(columns, folder.name),
            position_zyx_angstrom=np.full((len(columns), 3), np.nan),
            rotation=rotation,
            particle_id=_unique(identities),
            columns=columns,
            tables=table.blocks,
            source=relion.dialect(columns, optics),
        )
        return unplaced, [f"the positions of the boxes are unknown: {error}"]


def _from_csv(
    table: BoxTable, identities: Sequence[str], folder: Path, spacing: float | None
) -> tuple[Particles, list[str]]:
    columns, count, notes = table.columns, len(table.columns), []
    position, rotation = np.full((count, 3), np.nan), None
    if set(POSITION_COLUMNS) <= set(columns.columns):
        if spacing is None:
            notes.append("the positions of the boxes are unknown: they are in voxels of unknown size")
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
        particle_id=_unique(identities),
        columns=columns,
    ), notes


def _is_star(path: Path) -> bool:
    return path.name.lower().removesuffix(".gz").endswith(".star")


def _parts(path: Path) -> list[str]:
    return re.split(r"(\d+)", path.as_posix())


def _first(columns: pd.DataFrame, wanted: Sequence[str]) -> Any:
    """The column whose name is the first of these, whatever its case; None without one."""
    by_lower = {str(name).strip().lower(): name for name in columns.columns}
    return next((by_lower[name] for name in wanted if name in by_lower), None)


def _numbers(table: BoxTable, names: Sequence[str]) -> NDArray[np.float64]:
    try:
        return table.columns[list(names)].to_numpy(dtype=np.float64)
    except ValueError as error:
        raise FormatError(table.path, ", ".join(names), f"not numbers ({error})", "numbers") from error


def _texts(column: "pd.Series[Any]") -> list[str]:
    """Class names; whole numbers without a decimal point, nothing where the cell is empty."""
    values = [int(v) if isinstance(v, float) and v.is_integer() else v for v in column]
    return ["" if pd.isna(value) else str(value).strip() for value in values]


def _unique(identities: Sequence[str]) -> list[str]:
    """The same names, with the row number behind those that come twice."""
    seen: set[str] = set()
    unique = []
    for row, name in enumerate(identities):
        unique.append(f"{name}#{row + 1}" if name in seen else name)
        seen.add(name)
    return unique
