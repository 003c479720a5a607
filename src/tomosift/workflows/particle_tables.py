"""Read and write particle tables, with the sizes of the tomograms that some formats need."""

from collections.abc import Mapping
from pathlib import Path

from tomosift.data.extraction.tomogram_sources import collect_grids
from tomosift.data.extraction.tomograms import Tomogram
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.io import particles as tables
from tomosift.particles import Grid, Particles

Tomograms = Mapping[str, Tomogram] | Subtomograms | None
"""Tomograms by name (`tomosift.open_tomograms`), or a set that records the sizes of its tomograms."""


def read_particles(
    path: Path | str, tomograms: Tomograms = None, *, voxel_spacing_angstrom: float | None = None
) -> Particles:
    """Read a particle table of any known format.

    Parameters
    ----------
    path
        File, or folder of a copick project; the format is recognized by suffix and content.
    tomograms
        Needed by formats whose positions count from the center of the tomogram or in its pixels, such as RELION 5.
    voxel_spacing_angstrom
        Pixel size of the positions, where a table in pixels does not state it.

    Returns
    -------
    Particles
        Positions in Angstrom (z, y, x) from the center of voxel 0; every column of the file is kept.

    Raises
    ------
    FormatError
        The file breaks its format, or a size that it needs is not known.

    Notes
    -----
    Source: `CONVENTIONS.md` states the convention of each format; the module of a format names its source.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import tomosift
    >>> path = tempfile.mkdtemp() + "/picks.csv"
    >>> picks = tomosift.Particles.create(["TS_01"], np.array([[300.0, 410.0, 555.0]]))
    >>> tomosift.write_particles(path, picks)
    >>> tomosift.read_particles(path).position_zyx_angstrom
    array([[300., 410., 555.]])
    """
    return tables.read_particles(
        Path(path), voxel_spacing_angstrom=voxel_spacing_angstrom, grids=_collect_grids(tomograms)
    )


def write_particles(
    path: Path | str,
    particles: Particles,
    tomograms: Tomograms = None,
    *,
    voxel_spacing_angstrom: float | None = None,
) -> None:
    """Write a particle table; the suffix names the format.

    Parameters
    ----------
    path
        File to write, or a copick configuration.
    particles
        The particles. A table that goes back into the format it came from keeps all its columns.
    tomograms
        Needed by formats whose positions count from the center of the tomogram or in its pixels.
    voxel_spacing_angstrom
        Pixel size of the positions in formats that count in pixels; by default that of ``tomograms``.

    Returns
    -------
    None

    Raises
    ------
    ValueError
        No format has this suffix, or a size or pixel size that the format needs is not known.

    Notes
    -----
    Source: as for `tomosift.read_particles`.

    Examples
    --------
    See `tomosift.read_particles`.
    """
    grids = _collect_grids(tomograms)
    if voxel_spacing_angstrom is None and isinstance(tomograms, Subtomograms):
        voxel_spacing_angstrom = tomograms.table_spacing_angstrom
    tables.write_particles(Path(path), particles, voxel_spacing_angstrom=voxel_spacing_angstrom, grids=grids)


def _collect_grids(tomograms: Tomograms) -> dict[str, Grid] | None:
    if tomograms is None:
        return None
    return tomograms.grids if isinstance(tomograms, Subtomograms) else collect_grids(tomograms)
