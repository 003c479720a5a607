"""Particle tables: one module for each format, and the door that reads and writes all of them.

The formats are found among the modules of this room, see `tomosift.io.particles.registry`. Helper modules
(`pixel_size`, `pixel_tables`, `class_values`, `relion_columns`, `relion_pixels`, `relion_blocks`, `copick_project`)
hold what formats share. The room is large because each of the ten formats is one module.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tomosift.io.file_content import named_errors
from tomosift.io.particles.class_values import clean_class_names
from tomosift.io.particles.registry import (
    detect_format,
    find_formats,
    format_to_write,
    formats_by_suffix,
    load_module,
)
from tomosift.particles import Grid, Particles

__all__ = ["FORMATS", "SUFFIXES", "detect_format", "format_to_write", "read_particles", "write_particles"]

FORMATS: dict[str, str]
"""One sentence on each particle format, by name: the name of its module and its word on the command line."""

SUFFIXES: dict[str, tuple[str, ...]]
"""Names of the formats of each suffix; the first one is written under it."""


def __getattr__(name: str) -> Any:
    # The tables import every format module, so they are made on first use and not when a command starts.
    if name == "FORMATS":
        return {name: declared.description for name, declared in find_formats().items()}
    if name == "SUFFIXES":
        return formats_by_suffix()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def read_particles(
    path: Path | str,
    *,
    voxel_spacing_angstrom: float | None = None,
    grids: Mapping[str, Grid] | None = None,
    format: str | None = None,
) -> Particles:
    """Read the particles of a file of any format in ``FORMATS``.

    Parameters
    ----------
    path
        The table; a copick project is named by its configuration file or its folder.
    voxel_spacing_angstrom
        Edge of one pixel of the table's coordinates; needed where they are in pixels and the file does not say.
    grids
        Voxel grid by tomogram name; needed for centered coordinates (RELION 5) whose file states no tomogram size.
    format
        Name in ``FORMATS``; detected by default.

    Returns
    -------
    Particles
        Positions in Angstrom from the center of voxel 0, rotations from the reference into the tomogram, and every
        column of the file.

    Raises
    ------
    FormatError
        The file breaks its format, or lacks what is needed from it.
    ValueError
        There is no format of that name.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     table = Path(folder, "picks.csv")
    ...     _ = table.write_text("tomogram,x,y,z\\nTS_01,10,20,30\\n")
    ...     read_particles(table, voxel_spacing_angstrom=2.0).position_zyx_angstrom.tolist()
    [[60.0, 40.0, 20.0]]
    """
    path = Path(path)
    if voxel_spacing_angstrom is not None and not 0 < voxel_spacing_angstrom < float("inf"):
        raise ValueError(f"voxel spacing is {voxel_spacing_angstrom} A, expected a positive number")
    module = load_module(format or detect_format(path))
    with named_errors(path, "a particle table"):
        particles: Particles = module.read_particles(path, voxel_spacing_angstrom=voxel_spacing_angstrom, grids=grids)
    class_name, notes = clean_class_names(particles.class_name)
    return replace(particles, class_name=class_name).with_notes(*notes)


def write_particles(
    path: Path | str,
    particles: Particles,
    *,
    voxel_spacing_angstrom: float | None = None,
    grids: Mapping[str, Grid] | None = None,
    format: str | None = None,
) -> None:
    """Write particles in the format of the suffix, or in ``format``.

    A table that goes back into the dialect it came from keeps every column with its values. Other dialects get
    coordinates and angles derived anew.

    Parameters
    ----------
    path
        The file to write; it is complete or absent.
    particles
        What to write.
    voxel_spacing_angstrom
        Edge of one pixel of the coordinates to be written; needed by formats in pixels unless ``grids`` say it.
    grids
        Voxel grid by tomogram name.
    format
        Name in ``FORMATS``; by default the format of the suffix.

    Raises
    ------
    ValueError
        The suffix belongs to no format, or the format cannot hold these particles.

    Examples
    --------
    >>> import numpy as np
    >>> from tempfile import TemporaryDirectory
    >>> particles = Particles.create(["TS_01"], np.array([[60.0, 40.0, 20.0]]))
    >>> with TemporaryDirectory() as folder:
    ...     write_particles(Path(folder, "picks.star"), particles, voxel_spacing_angstrom=2.0)
    ...     read_particles(Path(folder, "picks.star")).position_zyx_angstrom.tolist()
    [[60.0, 40.0, 20.0]]
    """
    path = Path(path)
    arguments: dict[str, Any] = {"voxel_spacing_angstrom": voxel_spacing_angstrom, "grids": grids}
    load_module(format or format_to_write(path)).write_particles(path, particles, **arguments)
