"""Motive lists of TOM and AV3: an EM file of 20 numbers per particle.

Counting rows from 1: 1 score, 4 particle number, 5 tomogram number, 6 object number, 7 tomogram number for the wedge,
8 to 10 x, y, z in pixels of which the first is 1, 11 to 13 shift in pixels that is added, 17 to 19 phi, psi, theta,
20 class. Angles are zero throughout a list that has none yet.

Source: TOM toolbox and AV3 motive list convention.
"""

import struct
from collections.abc import Mapping
from pathlib import Path

import emfile
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

FORMAT = Format("A TOM or AV3 motive list with 20 rows (.em).", suffixes=(".em",))
FIRST_VOXEL_XYZ = (1.0, 1.0, 1.0)
CONVENTION = PixelConvention("motive_list", FIRST_VOXEL_XYZ, angles.from_tom, angles.to_tom, zeros_are_unknown=True)
ROWS = [
    *["score", "x_mark", "y_mark", "particle", "tomogram", "object", "wedge"],
    *["x", "y", "z", "shift_x", "shift_y", "shift_z", "before_x", "before_y", "before_z"],
    *["phi", "psi", "theta", "class"],
]
ANGLES = ["phi", "psi", "theta"]
HEADER_BYTES = 512
BIG_ENDIAN_MACHINES = (b"\x03", b"\x04", b"\x05")
"""SGI, Sun and Mac."""


def is_big_endian(path: Path) -> bool:
    """Whether the header's first byte names a machine that stores the most significant byte first."""
    with path.open("rb") as stream:
        return stream.read(1) in BIG_ENDIAN_MACHINES


def _read_big_endian(path: Path) -> NDArray[np.float64]:
    """Return the values ``(sections, particles, rows)`` of a list of a Sun, SGI or Mac, which emfile does not read."""
    content = path.read_bytes()
    rows, particles, sections = (int(size) for size in np.frombuffer(content, ">i4", 3, 4))
    kind = {5: ">f4", 9: ">f8"}[content[3]]
    values = np.frombuffer(content, kind, rows * particles * sections, HEADER_BYTES)
    return values.reshape(sections, particles, rows).astype(np.float64)


def read_table(path: Path) -> pd.DataFrame:
    """Return the list with one named column for each of its 20 rows.

    Raises
    ------
    FormatError
        Not an EM file, cut short, or not 20 numbers per particle.
    """
    try:
        data = _read_big_endian(path) if is_big_endian(path) else emfile.read(path)[1]
    except (ValueError, KeyError, OSError, EOFError, MemoryError, OverflowError, struct.error) as error:
        raise FormatError(
            path, "EM content", f"unreadable ({error})", "an EM file of 20 numbers per particle"
        ) from error
    sections, particles, rows = data.shape
    if sections != 1 or rows != len(ROWS):
        raise FormatError(
            path,
            "motive list size",
            f"{rows} x {particles} x {sections}",
            "20 x particles x 1",
            "an EM file of another size is a volume, a wedge list or a malformed motive list",
        )
    return pd.DataFrame(data[0].astype(np.float64), columns=ROWS)


def read_particles(
    path: Path, *, voxel_spacing_angstrom: float | None = None, grids: Mapping[str, Grid] | None = None
) -> Particles:
    """Read a motive list; the tomogram is row 5, or row 7 where row 5 is zero throughout.

    Parameters
    ----------
    path
        The list; a ``.doc`` beside it (number and name per line) names the tomograms, else the number is the name.
    voxel_spacing_angstrom, grids
        Size of one pixel, see `tomosift.io.particles.read_particles`.

    Raises
    ------
    FormatError
        The list is malformed, or nothing says the pixel size.
    """
    table = read_table(path)
    tomogram = pixel_tables.read_tomogram_names(path, _tomogram_numbers(table).to_numpy())
    xyz = table[["x", "y", "z"]].to_numpy() + table[["shift_x", "shift_y", "shift_z"]].to_numpy()
    return CONVENTION.particles(
        path,
        tomogram,
        xyz,
        PixelSize(voxel_spacing_angstrom, grids),
        angles_deg=table[ANGLES].to_numpy(),
        class_name=pixel_tables.class_names(table["class"].to_numpy()),
        score=table["score"].to_numpy(),
        columns=table,
    )


def _tomogram_numbers(table: pd.DataFrame) -> "pd.Series[float]":
    """Return row 5, or row 7 where row 5 is zero throughout."""
    return table["tomogram"] if table["tomogram"].any() else table["wedge"]


def _derive_table(particles: Particles, size: PixelSize) -> pd.DataFrame:
    """Return the 20 rows from positions, rotations, classes and scores; coordinates are whole pixels plus a shift."""
    xyz = CONVENTION.pixels(particles, size)
    table = pd.DataFrame(0.0, index=range(len(particles)), columns=ROWS)
    table["score"] = np.nan_to_num(particles.score)
    table["particle"] = np.arange(1, len(particles) + 1)
    table["tomogram"] = table["wedge"] = pixel_tables.tomogram_numbers(particles.tomogram)
    table["class"] = pixel_tables.class_numbers(particles)
    table[["x", "y", "z"]] = np.round(xyz)
    table[["shift_x", "shift_y", "shift_z"]] = xyz - np.round(xyz)
    table[ANGLES] = CONVENTION.angles_deg(particles)
    return table


def write_particles(
    path: Path,
    particles: Particles,
    *,
    voxel_spacing_angstrom: float | None = None,
    grids: Mapping[str, Grid] | None = None,
) -> None:
    """Write a motive list of 32-bit floats, and a ``.doc`` with the tomogram names unless they are numbers.

    A list that came from an EM file keeps its rows; only row 20 follows ``rlnClassNumber`` where that was added.
    Otherwise coordinates are whole pixels with the rest in the shift, and an unknown orientation becomes three zeros.

    Parameters
    ----------
    path
        The list to write.
    particles
        What to write.
    voxel_spacing_angstrom, grids
        Size of one pixel, see `tomosift.io.particles.write_particles`.

    Raises
    ------
    ValueError
        There are no particles, which an EM file cannot hold, or nothing says the pixel size.
    """
    if not len(particles):
        raise ValueError("a motive list cannot hold 0 particles, expected at least 1; write .star instead")
    table = CONVENTION.rows_as_read(particles, ROWS)
    if table is None:
        table = _derive_table(particles, PixelSize(voxel_spacing_angstrom, grids))
    blank = {"comment": "", "username": "", "date": "", "userdata": ""}
    with written_then_renamed(path) as temporary:
        emfile.write(temporary, table.to_numpy(dtype=np.float32)[None], header_params=blank)
    numbers = _tomogram_numbers(table).to_numpy().astype(np.int64)
    pixel_tables.write_tomogram_names(path, particles.tomogram, numbers)
