"""Dynamo tables (``.tbl``): one row of 26 to 42 numbers per particle, without a header.

Coordinates are pixels in which the *corner* of the tomogram is 0, so the centre of its first voxel is 0.5; columns 4 to
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
from tomosift.particles import Grid, Particles

FIRST_VOXEL_XYZ = (0.5, 0.5, 0.5)
FEWEST_COLUMNS = 26
STANDARD_COLUMNS = 35
ANGLES = ["tdrot", "tilt", "narot"]
TILT_RANGE = {"ftype": 1, "ymintilt": -60, "ymaxtilt": 60}


def _real(path: Path, column: pd.Series) -> NDArray[np.float64]:
    """The numbers of a column; MATLAB writes complex numbers where a root went below zero, and the real part counts."""
    if column.dtype.kind in "ifb":
        return column.to_numpy(dtype=np.float64)
    try:
        values = [complex(str(value).replace("i", "j").replace("jnf", "inf")) for value in column]
    except ValueError as error:
        raise FormatError(path, f"column {column.name}", str(error), "real or complex numbers") from error
    return np.real(np.array(values))


def read_table(path: Path) -> pd.DataFrame:
    """The table with Dynamo's own column names, complex numbers replaced by their real part.

    Raises
    ------
    FormatError
        Fewer than 26 columns, rows of unequal length, or something that is not a number.
    """
    try:
        table: pd.DataFrame = dynamotable.read(str(path))
    except (ValueError, EOFError, OSError, KeyError, IndexError) as error:
        raise FormatError(path, "table", str(error).strip(), "rows of numbers") from error
    if table.shape[1] < FEWEST_COLUMNS:
        raise FormatError(
            path, "number of columns", str(table.shape[1]), "26 to 42", "a table without x, y, z cannot be placed"
        )
    return pd.DataFrame({name: _real(path, table[name]) for name in table.columns})


def read_particles(
    path: Path, *, voxel_spacing_angstrom: float | None = None, grids: Mapping[str, Grid] | None = None
) -> Particles:
    """Read a Dynamo table; tomograms are named by the ``.doc`` beside it, otherwise by their number.

    Raises
    ------
    FormatError
        The table is malformed, or nothing says the pixel size.
    """
    table = read_table(path)
    tomogram = pixel_tables.read_tomogram_names(path, table["tomo"].to_numpy())
    spacings = pixel_tables.spacings_to_read(path, tomogram, voxel_spacing_angstrom, grids)
    xyz = table[["x", "y", "z"]].to_numpy() + np.nan_to_num(table[["dx", "dy", "dz"]].to_numpy())
    triples = table[ANGLES].to_numpy()
    return Particles.create(
        tomogram,
        pixel_tables.positions(path, xyz, FIRST_VOXEL_XYZ, spacings),
        rotation=pixel_tables.unknown_where_never_set(angles.from_dynamo(triples), triples),
        class_name=pixel_tables.class_names(table["class"].to_numpy()),
        score=table["cc"].to_numpy(),
        columns=table,
        source="dynamo",
    )


def _new_table(particles: Particles, spacings: NDArray[np.float64]) -> pd.DataFrame:
    n = len(particles)
    columns: dict[str, Any] = {name: np.zeros(n) for name in _names(STANDARD_COLUMNS)}
    columns["tag"] = np.arange(1, n + 1)
    columns["aligned_value"] = np.ones(n)
    for name, value in TILT_RANGE.items():
        columns[name] = np.full(n, value)
    columns["tomo"] = pixel_tables.tomogram_numbers(particles.tomogram)
    columns["class"] = pixel_tables.class_numbers(particles)
    columns["cc"] = np.nan_to_num(particles.score)
    columns.update(zip("xyz", pixel_tables.pixels(particles, FIRST_VOXEL_XYZ, spacings).T, strict=True))
    columns.update(zip(ANGLES, np.nan_to_num(angles.to_dynamo(particles.rotation)).T, strict=True))
    return pd.DataFrame(columns)


def _names(count: int) -> list[str]:
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
    added. Otherwise 35 columns are written; an unknown orientation becomes three zeros, which is Dynamo's word for it.
    Text columns have no place in this format and stay behind.

    Raises
    ------
    ValueError
        Nothing says the pixel size.
    """
    if particles.source == "dynamo":
        kept = [name for name in particles.columns if name in set(_names(len(particles.columns.columns)))]
        table = particles.columns[kept].copy()
        if "rlnClassNumber" in particles.columns:
            table["class"] = pixel_tables.class_numbers(particles)
    else:
        spacings = pixel_tables.spacings_to_write(particles.tomogram, voxel_spacing_angstrom, grids)
        table = _new_table(particles, spacings)
    with written_then_renamed(path) as temporary:
        table.to_csv(temporary, sep=" ", header=False, index=False, float_format="%.12g")
    pixel_tables.write_tomogram_names(path, particles.tomogram, table["tomo"].to_numpy().astype(np.int64))
