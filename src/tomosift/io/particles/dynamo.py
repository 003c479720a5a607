"""Dynamo tables (``.tbl``): one row of 26 to 42 numbers per particle, without a header.

Coordinates are pixels in which the *corner* of the tomogram is 0, so the center of its first voxel is 0.5; columns 4 to
6 hold a shift that is added. Angles (columns 7 to 9) are zero in every row of a table that has none yet.

Source: Dynamo's wiki, "Table convention" and "Volume center" ("the origin of coordinates in a volume is the corner of
the first pixel"; cropped particles have semi-integer coordinates, "i.e. centers of voxels").
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dynamotable
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tomosift.errors import FormatError
from tomosift.files import written_then_renamed
from tomosift.io import angles
from tomosift.io.particles import pixel_tables
from tomosift.io.particles.pixel_size import PixelSize
from tomosift.io.particles.pixel_tables import PixelConvention
from tomosift.io.particles.registry import Format
from tomosift.particles import Grid, Particles

FORMAT = Format("A Dynamo table with 26 to 42 columns (.tbl) and its list of tomograms (.doc).", suffixes=(".tbl",))
FIRST_VOXEL_XYZ = (0.5, 0.5, 0.5)
CONVENTION = PixelConvention("dynamo", FIRST_VOXEL_XYZ, angles.from_dynamo, angles.to_dynamo, zeros_are_unknown=True)
FEWEST_COLUMNS = 26
STANDARD_COLUMNS = 35
MOST_COLUMNS = 42
ANGLES = ["tdrot", "tilt", "narot"]
TILT_RANGE = {"ftype": 1, "ymintilt": -60, "ymaxtilt": 60}


def _real(path: Path, column: pd.Series) -> NDArray[np.float64]:
    """Return the numbers of a column, the real part of complex ones: MATLAB writes those for roots below zero."""
    if column.dtype.kind in "ifb":
        return column.to_numpy(dtype=np.float64)
    try:
        values = [complex(str(value).replace("i", "j").replace("jnf", "inf")) for value in column]
    except ValueError as error:
        raise FormatError(path, f"column {column.name}", str(error), "real or complex numbers") from error
    return np.real(np.array(values))


def read_table(path: Path) -> pd.DataFrame:
    """Return the table with Dynamo's own column names; complex numbers are replaced by their real part.

    Raises
    ------
    FormatError
        Fewer than 26 columns, rows of unequal length, or something that is not a number.
    """
    try:
        table: pd.DataFrame = dynamotable.read(str(path))
    except Exception as error:  # pandas raises errors of its own
        raise FormatError(path, "table", str(error).strip(), "rows of numbers") from error
    if not FEWEST_COLUMNS <= table.shape[1] <= MOST_COLUMNS or not table.columns.is_unique:
        raise FormatError(
            path, "number of columns", str(table.shape[1]), "26 to 42", "a table without x, y, z cannot be placed"
        )
    return pd.DataFrame({name: _real(path, table[name]) for name in table.columns})


def read_particles(
    path: Path, *, voxel_spacing_angstrom: float | None = None, grids: Mapping[str, Grid] | None = None
) -> Particles:
    """Read a Dynamo table.

    Parameters
    ----------
    path
        The table; the ``.doc`` beside it names the tomograms, which otherwise have their number as name.
    voxel_spacing_angstrom, grids
        Size of one pixel, see `tomosift.io.particles.read_particles`.

    Raises
    ------
    FormatError
        The table is malformed, or nothing says the pixel size.
    """
    table = read_table(path)
    tomogram = pixel_tables.read_tomogram_names(path, table["tomo"].to_numpy())
    xyz = table[["x", "y", "z"]].to_numpy() + np.nan_to_num(table[["dx", "dy", "dz"]].to_numpy())
    return CONVENTION.particles(
        path,
        tomogram,
        xyz,
        PixelSize(voxel_spacing_angstrom, grids),
        angles_deg=table[ANGLES].to_numpy(),
        class_name=pixel_tables.class_names(table["class"].to_numpy()),
        score=table["cc"].to_numpy(),
        columns=table,
    )


def _derive_table(particles: Particles, size: PixelSize) -> pd.DataFrame:
    """Return 35 columns from positions, rotations, classes and scores."""
    n = len(particles)
    columns: dict[str, Any] = {name: np.zeros(n) for name in _names(STANDARD_COLUMNS)}
    columns["tag"] = np.arange(1, n + 1)
    columns["aligned_value"] = np.ones(n)
    for name, value in TILT_RANGE.items():
        columns[name] = np.full(n, value)
    columns["tomo"] = pixel_tables.tomogram_numbers(particles.tomogram)
    columns["class"] = pixel_tables.class_numbers(particles)
    columns["cc"] = np.nan_to_num(particles.score)
    columns.update(zip("xyz", CONVENTION.pixels(particles, size).T, strict=True))
    columns.update(zip(ANGLES, CONVENTION.angles_deg(particles).T, strict=True))
    return pd.DataFrame(columns)


def _names(count: int) -> list[str]:
    """Return Dynamo's names of the first columns."""
    return list(dynamotable.utils.generate_column_names(count))


def write_particles(
    path: Path,
    particles: Particles,
    *,
    voxel_spacing_angstrom: float | None = None,
    grids: Mapping[str, Grid] | None = None,
) -> None:
    """Write a Dynamo table, and a ``.doc`` with the tomogram names unless they are numbers.

    A table that came from Dynamo keeps its columns; only its class column follows ``rlnClassNumber`` where that was
    added. Otherwise 35 columns are written, and an unknown orientation becomes three zeros, as in Dynamo. The format
    holds no text, so text columns are not written.

    Parameters
    ----------
    path
        The table to write.
    particles
        What to write.
    voxel_spacing_angstrom, grids
        Size of one pixel, see `tomosift.io.particles.write_particles`.

    Raises
    ------
    ValueError
        Nothing says the pixel size.
    """
    table = CONVENTION.rows_as_read(particles, _names(len(particles.columns.columns)))
    if table is None:
        table = _derive_table(particles, PixelSize(voxel_spacing_angstrom, grids))
    with written_then_renamed(path) as temporary:
        table.to_csv(temporary, sep=" ", header=False, index=False, float_format="%.12g")
    pixel_tables.write_tomogram_names(path, particles.tomogram, table["tomo"].to_numpy().astype(np.int64))
