"""Plain tables of particles: CSV, TSV and other separators, with or without a header.

Coordinates are read by the first rule that fits. Upper and lower case are equal, and a separating ``_``, blank or
bracket does not matter. The unit is stated by the name, by the kind of table, or by the caller, and never guessed.

==============================================================  ===================================================
columns                                                         unit
==============================================================  ===================================================
``x_angstrom``, ``x_a``, ``X [A]``, ``x_ang`` and alike         Angstrom
``x_voxel``, ``x_pixel``, ``x_px``, ``x_vx`` and alike          voxels, of ``voxel_spacing_angstrom``
``experiment, particle_type, x, y, z`` (CZII challenge)         Angstrom
``x``, ``x_coord``, ``coord_x``, ``x_coordinate``, ``center_x``  voxels, of ``voxel_spacing_angstrom``
no header, the last three of three or four columns              voxels, of ``voxel_spacing_angstrom``
==============================================================  ===================================================

Bare coordinates are voxels, counted from the center of voxel 0, and need ``voxel_spacing_angstrom``. A table in
Angstrom with bare names is read with a voxel spacing of 1. Angles ``rot, tilt, psi`` are RELION's.
"""

import csv
import io
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tomosift.errors import FormatError
from tomosift.files import written_then_renamed
from tomosift.io.angles import drop_uniform_angles, from_relion, to_relion
from tomosift.io.file_content import read_text
from tomosift.io.particles.pixel_size import PixelSize, check_no_fractions
from tomosift.io.particles.pixel_tables import PixelConvention, check_coordinates
from tomosift.io.particles.registry import Format
from tomosift.particles import Grid, Particles

FORMAT = Format("A table with named columns, or plain x, y, z (.csv, .tsv).", suffixes=(".csv", ".tsv"))
CONVENTION = PixelConvention("csv", (0.0, 0.0, 0.0), from_relion, to_relion)
MAX_FIELD = 1 << 24
_ANGSTROM = ("angstrom", "angstroms", "angst", "ang", "a", "å")
_VOXEL = ("voxel", "voxels", "vox", "vx", "pixel", "pixels", "px", "pix")
_BARE = ("", "coord", "coordinate", "center", "centre", "pos", "position")
_TOMOGRAM = ("tomogram", "tomogram_name", "tomo", "tomo_name", "tomo_id", "experiment", "run", "run_name",
             "rlntomoname", "rlnmicrographname", "micrograph")  # fmt: skip
_CLASS = ("tomosiftclass", "class", "class_name", "label", "particle_type", "protein")
_SCORE = ("score", "confidence", "probability")
_ANGLES = (("rot", "tilt", "psi"), ("rlnanglerot", "rlnangletilt", "rlnanglepsi"))
_IDS = ("particle_id", "tomosiftparticleid")
_GEOMETRY = re.compile(
    r"particle_id|tomogram|[xyz]_angstrom|rot|tilt|psi|class|score|rln(Centered)?Coordinate[XYZ](Angst)?|[XYZ]|Shift[XYZ]|Z1|Z2|X_rotation|"
    r"rlnOrigin[XYZ](Angst)?|rlnAngle(Rot|Tilt|Psi)(Prior)?|rlnTomoSubtomogram(Rot|Tilt|Psi)|[xyz]|d[xyz]|tdrot|narot"
)
"""Columns that would contradict the ones that are written when a table of another program is carried over."""


def read_particles(
    path: Path,
    *,
    voxel_spacing_angstrom: float | None = None,
    grids: Mapping[str, Grid] | None = None,
) -> Particles:
    """Read a delimited text file; see the module for how coordinates and units are recognized.

    Parameters
    ----------
    path
        The table; its name is the tomogram where no column names one.
    voxel_spacing_angstrom
        Size of the voxels that coordinates count, where they are not in Angstrom.
    grids
        Tomograms by name, from which the voxel spacing is inferred where that is one-sided; see `PixelSize`.

    Raises
    ------
    FormatError
        The table has no coordinates, rows of different length, text in place of numbers, or an unknown unit.
    """
    path = Path(path)
    columns, has_header = _read_table(path)
    keys = {_key(label): label for label in columns.columns}
    labels, unit = _coordinate_columns(path, keys, columns, has_header)
    xyz = np.stack([_numbers(path, columns, label) for label in labels], axis=1)
    tomogram_label = _label(keys, _TOMOGRAM)
    tomogram = (
        np.full(len(columns), path.name.removesuffix(".gz").rsplit(".", 1)[0], dtype=object)
        if tomogram_label is None
        else columns[tomogram_label].to_numpy(dtype=object)
    )
    check_coordinates(path, xyz)
    check_no_fractions(path, xyz)
    if not has_header and len(columns.columns) > 3 and ((xyz[:, 2] >= 0) & (xyz[:, 2] <= 1)).all():
        got = "between 0 and 1 in a table without column names, as scores are"
        raise FormatError(path, "last column", got, "z", "name the columns in the first line")
    spacing, notes = np.ones(len(columns)), tuple[str, ...]()
    headless = "" if has_header else "the table has no column names; its last three columns are taken for x, y and z"
    if unit == "voxel":
        spacing, notes = _spacing(path, labels, tomogram, xyz, PixelSize(voxel_spacing_angstrom, grids))
    angles = next((names for names in _ANGLES if all(name in keys for name in names)), None)
    rotation = None
    if angles is not None:
        values = [_numbers(path, columns, keys[name], may_be_empty=True) for name in angles]
        known, note = drop_uniform_angles(np.stack(values, axis=1))
        rotation, notes = from_relion(known), (*notes, note)
    class_label, score_label = _label(keys, _CLASS), _label(keys, _SCORE)
    id_label = next((keys[k] for k in _IDS if k in keys and columns[keys[k]].is_unique), None)
    return Particles.create(
        tomogram=tomogram,
        position_zyx_angstrom=CONVENTION.positions(path, xyz, spacing),
        rotation=rotation,
        class_name=None if class_label is None else columns[class_label].to_numpy(dtype=object),
        score=None if score_label is None else _numbers(path, columns, score_label, may_be_empty=True),
        particle_id=None if id_label is None else columns[id_label].to_numpy(dtype=object),
        columns=columns,
        source=CONVENTION.source,
        is_named_by_file=tomogram_label is None,
    ).with_notes(headless, *notes)


def _read_table(path: Path) -> tuple[pd.DataFrame, bool]:
    """Return every column as text, and whether the first line names them."""
    text = "\n".join(line for line in read_text(path).lstrip("\ufeff").splitlines() if line.strip())
    lines = [line for line in text.split("\n") if line and not line.startswith("#")]
    if not lines:
        raise FormatError(path, "table", "empty", "a line for each particle")
    separator = max("\t,;", key=lines[0].count)
    if separator not in lines[0]:
        lines, separator = [",".join(line.split()) for line in lines], ","
    csv.field_size_limit(MAX_FIELD)
    rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO("\n".join(lines)), delimiter=separator)]
    has_header = not any(_is_number(cell) for cell in rows[0])
    names = rows[0] if has_header else [f"column_{k}" for k in range(1, len(rows[0]) + 1)]
    body = rows[1:] if has_header else rows
    wrong = next((k for k, row in enumerate(body, 1) if len(row) != len(names)), None)
    if wrong is not None:
        raise FormatError(path, f"row {wrong}", f"{len(body[wrong - 1])} values", f"{len(names)}, one for each column")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise FormatError(path, f"column {twice}", "given twice", "each name once")
    if not body:
        raise FormatError(path, "table", "a header without rows", "a line for each particle")
    return pd.DataFrame(body, columns=names, dtype=object), has_header


def _is_number(cell: str) -> bool:
    """Whether a cell parses as a number."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _label(keys: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    """Return the column with the first of these names that the table has, or None."""
    return next((keys[name] for name in names if name in keys), None)


def _key(label: str) -> str:
    """Return a column's name in lower case, with one underscore for every separator."""
    return re.sub(r"[\s\[\]()_-]+", "_", label.strip()).strip("_").lower()


def _coordinate_columns(
    path: Path, keys: Mapping[str, str], columns: pd.DataFrame, has_header: bool
) -> tuple[list[str], str]:
    """Return the labels of x, y, z and their unit, ``angstrom`` or ``voxel``."""
    if not has_header:
        if len(columns.columns) not in (3, 4):
            raise FormatError(path, "header", "missing", "column names, or rows of x, y, z",
                              "name the columns in the first line")  # fmt: skip
        return list(columns.columns[-3:]), "voxel"
    for endings, unit in ((_ANGSTROM, "angstrom"), (_VOXEL, "voxel"), (_BARE, "voxel")):
        for ending in endings:
            for pattern in ("{axis}_{ending}", "{ending}_{axis}", "coord_{axis}_{ending}", "{axis}_coord_{ending}"):
                names = [pattern.format(axis=axis, ending=ending).strip("_") for axis in "xyz"]
                if all(name in keys for name in names):
                    challenge = ending == "" and {"experiment", "particle_type"} <= set(keys)
                    return [keys[name] for name in names], "angstrom" if challenge else unit
    missing = next((axis for axis in "xyz" if axis not in keys), "x")
    expected = f"columns for x, y and z among {', '.join(columns.columns)}"
    raise FormatError(path, f"column {missing}", "missing", expected, "name them x_angstrom, y_angstrom, z_angstrom")


def _numbers(path: Path, columns: pd.DataFrame, label: str, may_be_empty: bool = False) -> NDArray[np.float64]:
    """Return a column as numbers; NaN for empty cells where they are allowed."""
    parsed = pd.to_numeric(columns[label], errors="coerce").to_numpy(np.float64)
    allowed = columns[label].str.lower().isin(["", "nan"]).to_numpy(bool) if may_be_empty else False
    wrong = np.flatnonzero(~np.isfinite(parsed) & ~np.asarray(allowed))
    if wrong.size:
        raise FormatError(path, f"{label} of row {wrong[0] + 1}", repr(columns[label].iloc[wrong[0]]), "a number")
    return parsed


def _spacing(
    path: Path, labels: list[str], tomogram: NDArray[np.object_], xyz: NDArray[np.float64], size: PixelSize
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Return Angstrom per voxel of each row ``(n,)``, and notes."""
    try:
        return size.to_read(path, tomogram, xyz)
    except FormatError:
        expected = "names such as x_angstrom or a voxel spacing"
        advice = "give --picks-spacing if they are voxels, or --picks-spacing 1 if they are Angstrom"
        raise FormatError(path, f"unit of {', '.join(labels)}", "not stated", expected, advice) from None


def write_particles(
    path: Path,
    particles: Particles,
    *,
    voxel_spacing_angstrom: float | None = None,
    grids: Mapping[str, Grid] | None = None,
) -> None:
    """Write ``particle_id, tomogram, x_angstrom, y_angstrom, z_angstrom, rot, tilt, psi, class, score``.

    Unknown angles and scores are empty. Every other column that the particles came with follows. A table that was
    read from CSV and not moved since keeps its columns as they are, and gains ``tomosiftClass`` where classes differ.

    Parameters
    ----------
    path
        The table to write; separated by tabs for ``.tsv``.
    particles
        What to write.
    voxel_spacing_angstrom, grids
        Not needed: the unit is always Angstrom.
    """
    is_unchanged = particles.source == CONVENTION.source and len(particles.columns.columns)
    table = _table_as_read(particles) if is_unchanged else _derive_table(particles)
    with written_then_renamed(Path(path)) as temporary:
        separator = "\t" if ".tsv" in path.suffixes else ","
        has_header = not all(re.fullmatch(r"column_\d+", str(label)) for label in table.columns)
        table.to_csv(temporary, index=False, sep=separator, header=has_header)


def _table_as_read(particles: Particles) -> pd.DataFrame:
    """Return the columns as they were read, with ``tomosiftClass`` where the classes differ from them."""
    table = particles.columns
    label = _label({_key(str(label)): label for label in table.columns}, _CLASS)
    names = np.full(len(particles), "", dtype=object) if label is None else table[label].to_numpy(dtype=object)
    return table if np.array_equal(names, particles.class_name) else table.assign(tomosiftClass=particles.class_name)


def _derive_table(particles: Particles) -> pd.DataFrame:
    """Return the columns of positions, rotations, classes and scores, then those that do not contradict them."""
    x, y, z = particles.position_zyx_angstrom[:, ::-1].T
    rot, tilt, psi = CONVENTION.angles_deg(particles).T
    table = pd.DataFrame(
        {
            "particle_id": particles.particle_id, "tomogram": particles.tomogram,
            "x_angstrom": x, "y_angstrom": y, "z_angstrom": z, "rot": rot, "tilt": tilt, "psi": psi,
            "class": particles.class_name, "score": particles.score,
        }
    )  # fmt: skip
    written = {_key(name) for name in table.columns}
    labels = particles.columns.columns
    others = [name for name in labels if not _GEOMETRY.fullmatch(str(name)) and _key(str(name)) not in written]
    return table.join(particles.columns[others])
