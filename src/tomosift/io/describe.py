"""What a file holds, as lines for people: a volume, an atomic structure or a particle table."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomosift.errors import FormatError
from tomosift.io.file_content import suffix_of
from tomosift.io.particles import FORMATS, detect_format, read_particles, relion_columns
from tomosift.io.particles.relion_blocks import find_particle_block
from tomosift.io.star_text import read_star
from tomosift.io.structures import SUFFIXES as STRUCTURE_SUFFIXES
from tomosift.io.structures import read_structure
from tomosift.io.volumes import is_volume_path, open_volume
from tomosift.io.volumes.mrc_header import HEADER_BYTES
from tomosift.particles import Grid, Particles

SAMPLE_SECTIONS = 16
"""Sections about the center that value ranges are taken from; a whole tomogram may not fit into memory."""
LARGEST_SAMPLE = 1024
"""Voxels along y and x of that sample, at most."""
PILED_FROM, PILED_SHARE = 100, 0.001
MOST_NAMES = 6
"""Tomograms and classes listed by name."""
Lines = list[tuple[str, str]]


def describe(path: Path, voxel_spacing_angstrom: float | None = None) -> Lines:
    """Return what a file holds, as pairs of a label and a text.

    Parameters
    ----------
    path
        A volume, an atomic structure or a particle table.
    voxel_spacing_angstrom
        Edge of one pixel of a table's coordinates. Positions are in pixels where neither this nor the file says it.

    Raises
    ------
    FormatError
        The file is none of these, or is damaged.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     table = Path(folder, "picks.csv")
    ...     _ = table.write_text("x,y,z\\n10,20,30\\n")
    ...     dict(describe(table))["Position z"]
    '30.0 to 30.0 pixels'
    """
    path = Path(path)
    if not path.exists():
        raise FormatError(path, "file", "missing", "a volume, structure or particle table", "check the path")
    if suffix_of(path) in STRUCTURE_SUFFIXES:
        return _describe_structure(path)
    if (is_volume_path(path) or is_mrc(path)) and not is_flat_em(path):
        return _describe_volume(path)
    return _describe_particles(path, voxel_spacing_angstrom)


def is_flat_em(path: Path) -> bool:
    """Whether an EM file has one section only, as motive lists have and volumes have not."""
    if suffix_of(path) != ".em" or not path.is_file():
        return False
    with path.open("rb") as stream:
        head = stream.read(16).ljust(16, b"\0")
    return 1 in (int.from_bytes(head[12:16], "little"), int.from_bytes(head[12:16], "big"))


def is_mrc(path: Path) -> bool:
    """Whether a file of any name starts as an MRC volume does."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(HEADER_BYTES)[208:211] == b"MAP"


def _describe_volume(path: Path) -> Lines:
    """Return size, number format, voxel spacing, values and notes of a volume."""
    volume = open_volume(path)
    depth, height, width = volume.shape_zyx
    first = max(0, depth // 2 - SAMPLE_SECTIONS // 2)
    along = slice(first, first + SAMPLE_SECTIONS)
    if isinstance(volume.data, np.ndarray):
        down, across = (slice(0, None, max(1, edge // LARGEST_SAMPLE)) for edge in (height, width))
        sample = volume.read((along, down, across))
    else:  # chunks are decompressed whole, so only the first ones are read
        sample = volume.read((along, slice(0, LARGEST_SAMPLE), slice(0, LARGEST_SAMPLE)))
    spacing = volume.voxel_spacing_angstrom
    finite = sample[np.isfinite(sample)]
    lines = [
        ("Kind", "volume"),
        ("Size (z, y, x)", f"{depth} x {height} x {width}"),
        ("Numbers", str(volume.dtype)),
        ("Voxel spacing", f"{spacing:g} A" if spacing else "unknown; state it with --tomogram-spacing"),
    ]
    if finite.size:
        where = "" if len(sample) == depth else f", in {len(sample)} sections about the center"
        values = f"{finite.min():.4g} to {finite.max():.4g}, mean {finite.mean():.4g}, deviation {finite.std():.4g}"
        lines.append(("Values", values + where))
    if piled_up(finite, volume.dtype):
        lines.append(("Warning", PILED_UP))
    if finite.size < sample.size:
        lines.append(("Note", f"{sample.size - finite.size} of {sample.size} values are not numbers"))
    return [*lines, *(("Note", note) for note in volume.notes)]


def _describe_structure(path: Path) -> Lines:
    """Return title, assembly, size and warnings of an atomic structure."""
    structure = read_structure(path)
    extent = np.ptp(structure.position_zyx_angstrom, axis=0)
    return [
        ("Kind", "atomic structure"),
        ("Title", structure.title or "none"),
        ("Assembly", str(structure.assembly)),
        ("Atoms", str(len(structure.position_zyx_angstrom))),
        ("Extent (z, y, x)", " x ".join(f"{edge:.0f}" for edge in extent) + " A"),
        *(("Note", warning) for warning in structure.warnings),
    ]


PILED_UP = (
    "values pile up at both ends of the range of signed bytes, so they were probably written unsigned (0 to 255); "
    "convert the file to 32-bit reals"
)


def piled_up(values: NDArray[Any], kind: np.dtype[Any]) -> bool:
    """Whether signed bytes are many at both ends of their range, as unsigned ones that were read as signed."""
    if kind != np.int8 or not values.size:
        return False
    low, high = (values < -PILED_FROM).mean(), (values > PILED_FROM).mean()
    return bool(min(low, high) > PILED_SHARE)


def _read_in_any_unit(path: Path, voxel_spacing_angstrom: float | None) -> tuple[Particles, str]:
    """Return the particles and the unit of their positions, Angstrom where the file and the caller say enough."""
    try:
        return read_particles(path, voxel_spacing_angstrom=voxel_spacing_angstrom), "A"
    except FormatError as error:
        if error.field.startswith("size of tomogram"):
            # A grid of no size: its center is its corner, so centered coordinates stay as they are.
            grids = dict.fromkeys(_list_tomograms(path), Grid((0, 0, 0), 1.0))
            particles = read_particles(path, voxel_spacing_angstrom=voxel_spacing_angstrom, grids=grids)
            return particles, "A from the tomogram's center"
        if "--picks-spacing" in error.advice:
            return read_particles(path, voxel_spacing_angstrom=1.0), "pixels"
        raise


def _list_tomograms(path: Path) -> list[str]:
    """Names of the tomograms of a particle list of RELION, or that of the file."""
    blocks = read_star(path)
    columns = blocks[find_particle_block(path, blocks)]
    return list(
        dict.fromkeys(relion_columns.tomogram_names(columns, path.name.removesuffix(".gz").removesuffix(".star")))
    )


def _describe_particles(path: Path, voxel_spacing_angstrom: float | None) -> Lines:
    """Return format, counts, extent of positions, classes, scores and columns of a particle table."""
    name = detect_format(path)
    particles, unit = _read_in_any_unit(path, voxel_spacing_angstrom)
    is_oriented = np.isfinite(particles.rotation).all(axis=(1, 2))
    names, counts = np.unique(particles.tomogram.astype(str), return_counts=True)
    labels, sizes = np.unique([str(label) for label in particles.class_name if label], return_counts=True)
    lines = [
        ("Kind", f"particle table: {FORMATS[name]}"),
        ("Dialect", particles.source),
        ("Particles", str(len(particles))),
        ("Tomograms", f"{len(names)}: {_list_counts(names, counts)}"),
    ]
    for axis, values in zip("zyx", particles.position_zyx_angstrom.T, strict=True):
        if len(values):
            lines.append((f"Position {axis}", f"{values.min():.1f} to {values.max():.1f} {unit}"))
    if unit == "pixels":
        lines.append(("Note", "the file states no pixel size; give it with --picks-spacing"))
    elif unit != "A":
        lines.append(("Note", "positions in the tomogram follow once its size is known: give the tomograms too"))
    lines.append(("Orientations", f"{int(is_oriented.sum())} of {len(particles)}"))
    lines.append(("Classes", _list_counts(labels, sizes) if len(labels) else "none"))
    if np.isfinite(particles.score).any():
        lines.append(("Score", f"{np.nanmin(particles.score):.4g} to {np.nanmax(particles.score):.4g}"))
    return [*lines, ("Columns", ", ".join(map(str, particles.columns.columns)) or "none")]


def _list_counts(names: NDArray[Any], counts: NDArray[Any]) -> str:
    """Return the first names with their counts, and how many more there are."""
    listed = ", ".join(f"{name} ({count})" for name, count in zip(names[:MOST_NAMES], counts[:MOST_NAMES], strict=True))
    return listed + (f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else "")
