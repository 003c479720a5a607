"""The door to every particle table: which format a file is, and reading and writing by that format."""

import gzip
import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomosift.errors import FormatError
from tomosift.particles import Grid, Particles

FORMATS: dict[str, str] = {
    "relion": "Particle lists of RELION 3, 3.1, 4 and 5, Warp, M and PyTom (.star).",
    "csv": "A table with named columns, or plain x, y, z (.csv, .tsv).",
    "dynamo": "A Dynamo table with 26 to 42 columns (.tbl) and its list of tomograms (.doc).",
    "motive_list": "A TOM or AV3 motive list with 20 rows (.em).",
    "imod": "An IMOD model: points of every contour, slicer angles (.mod).",
    "portal": "Points of the CryoET Data Portal, one JSON object per line (.ndjson).",
    "copick": "A copick project (its configuration, .json) or one of its picks files.",
    "deepfinder": "A DeepFinder object list (.xml).",
    "pytom": "A PyTom particle list (.xml) or list of coordinates (.txt).",
}
"""Name of each particle format, which is the name of its module and its word on the command line."""

SUFFIXES = {
    ".star": "relion",
    ".csv": "csv",
    ".tsv": "csv",
    ".tbl": "dynamo",
    ".em": "motive_list",
    ".mod": "imod",
    ".ndjson": "portal",
    ".txt": "pytom",
}
"""Suffixes that decide by themselves; JSON and XML are told apart by what they hold."""

KNOWN = ".star, .csv, .tbl, .em, .mod, .ndjson, .json (copick), .xml (DeepFinder, PyTom) or .txt"


def suffix_of(path: Path) -> str:
    """The suffix in lower case, without a closing ``.gz`` or ``.bz2``."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in {".gz", ".bz2"}:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _opening(path: Path, size: int = 65536) -> str:
    """The first characters of a file, whatever its encoding; compressed files are opened first."""
    with path.open("rb") as stream:
        zipped = stream.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(path) if zipped else path.open("rb") as stream:
            return stream.read(size).decode("latin-1")
    except (EOFError, OSError) as error:
        raise FormatError(path, "compressed content", "cut short or damaged", "a complete gzip file") from error


def _format_of_json(path: Path) -> str:
    try:
        keys = json.loads(path.read_text())
    except ValueError as error:
        raise FormatError(path, "content", "not JSON", "a copick configuration or picks file") from error
    if isinstance(keys, dict) and ("pickable_objects" in keys or "pickable_object_name" in keys):
        return "copick"
    if isinstance(keys, dict) and ("annotation_object" in keys or {"location", "type"} <= keys.keys()):
        return "portal"
    if isinstance(keys, dict) and "omezarr_dir" in keys:
        raise FormatError(path, "content", "the metadata of a tomogram", "particles", "name the tomogram's own file")
    raise FormatError(path, "content", "JSON of another kind", "a copick configuration, copick picks or portal points")


def _format_of_text(path: Path) -> str:
    opening = _opening(path)
    if "<objlist" in opening:
        return "deepfinder"
    if "<ParticleList" in opening:
        return "pytom"
    if opening.startswith("IMOD"):
        return "imod"
    if opening.startswith("data_") or "\ndata_" in opening:
        return "relion"
    raise FormatError(path, "content", f"of an unknown kind ({path.suffix or 'no suffix'})", KNOWN)


def detect_format(path: Path) -> str:
    """Name in ``FORMATS`` of the particle format of ``path``, by its suffix and then by what it holds.

    Raises
    ------
    FormatError
        The file is missing or of no particle format.
    """
    if path.is_dir():
        if (path / "ExperimentRuns").is_dir():
            return "copick"
        raise FormatError(path, "folder", "without ExperimentRuns", "a copick project", "name the table itself")
    if not path.exists():
        raise FormatError(path, "file", "missing", "a particle table", "check the path")
    suffix = suffix_of(path)
    if suffix in SUFFIXES:
        return SUFFIXES[suffix]
    return _format_of_json(path) if suffix == ".json" else _format_of_text(path)


def _module(name: str) -> ModuleType:
    if name not in FORMATS:
        raise ValueError(f"particle format is {name!r}, expected one of {', '.join(FORMATS)}")
    return importlib.import_module(f"tomosift.io.particles.{name}")


def read_particles(
    path: Path | str,
    *,
    voxel_spacing_angstrom: float | None = None,
    grids: Mapping[str, Grid] | None = None,
    format: str | None = None,
) -> Particles:
    """The particles of any file in ``FORMATS``, in Angstrom from the centre of voxel 0.

    Parameters
    ----------
    path
        The table; a copick project is named by its configuration file or its folder.
    voxel_spacing_angstrom
        Edge of one pixel of the table's coordinates; needed where they are in pixels and the file does not say.
    grids
        Voxel grid by tomogram name; needed for centred coordinates (RELION 5) whose file states no tomogram size.
    format
        Name in ``FORMATS`` instead of the detected one.

    Raises
    ------
    FormatError
        The file breaks its format, or lacks what is needed from it.
    """
    path = Path(path)
    module = _module(format or detect_format(path))
    particles: Particles = module.read_particles(path, voxel_spacing_angstrom=voxel_spacing_angstrom, grids=grids)
    return particles


def format_to_write(path: Path) -> str:
    """Name in ``FORMATS`` that the suffix of ``path`` asks for; the file need not exist."""
    suffix = suffix_of(path)
    if suffix in SUFFIXES:
        return SUFFIXES[suffix]
    if suffix == ".json" or path.is_dir():
        return "copick"
    if suffix == ".xml":
        return "deepfinder"
    raise ValueError(f"{path} has the suffix {suffix!r}, expected {KNOWN}")


def write_particles(
    path: Path | str,
    particles: Particles,
    *,
    voxel_spacing_angstrom: float | None = None,
    grids: Mapping[str, Grid] | None = None,
    format: str | None = None,
) -> None:
    """Write particles in the format that the suffix asks for, or in ``format``.

    A table that goes back into the dialect it came from keeps every column with its values; other dialects get
    coordinates and angles derived anew.

    Raises
    ------
    ValueError
        The suffix belongs to no format, or the format cannot hold these particles.
    """
    path = Path(path)
    arguments: dict[str, Any] = {"voxel_spacing_angstrom": voxel_spacing_angstrom, "grids": grids}
    _module(format or format_to_write(path)).write_particles(path, particles, **arguments)


STRUCTURE_SUFFIXES = {".pdb", ".ent", ".cif", ".mmcif"}
SAMPLE_SECTIONS = 16
"""Sections about the middle that value ranges are taken from; a whole tomogram may not fit into memory."""


def _lines_of_volume(path: Path) -> list[tuple[str, str]]:
    from tomosift.io.volumes import open_volume

    volume = open_volume(path)
    depth, height, width = volume.shape_zyx
    first = max(0, depth // 2 - SAMPLE_SECTIONS // 2)
    sample = volume.read((slice(first, first + SAMPLE_SECTIONS), slice(None), slice(None)))
    spacing = volume.voxel_spacing_angstrom
    finite = sample[np.isfinite(sample)]
    lines = [
        ("Kind", "volume"),
        ("Size (z, y, x)", f"{depth} x {height} x {width}"),
        ("Numbers", str(volume.dtype)),
        ("Voxel spacing", f"{spacing:g} A" if spacing else "unknown; state it with --tomogram-spacing"),
    ]
    if finite.size:
        where = "" if len(sample) == depth else f", in {len(sample)} sections about the middle"
        spread = f"{finite.min():.4g} to {finite.max():.4g}, mean {finite.mean():.4g}, deviation {finite.std():.4g}"
        lines.append(("Values", spread + where))
    if finite.size < sample.size:
        lines.append(("Note", f"{sample.size - finite.size} of {sample.size} values are not numbers"))
    return [*lines, *(("Note", note) for note in volume.notes)]


def _lines_of_structure(path: Path) -> list[tuple[str, str]]:
    from tomosift.io.structures import read_structure

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


class _WithoutSize(dict[str, Grid]):
    """A grid of no size for every name: its center is its corner, so centered coordinates stay as they are."""

    def __bool__(self) -> bool:
        return True

    def __contains__(self, key: object) -> bool:
        return True

    def __missing__(self, key: str) -> Grid:
        return Grid((0, 0, 0), 1.0)


def _lines_of_particles(path: Path, voxel_spacing_angstrom: float | None) -> list[tuple[str, str]]:
    unit, name = "A", detect_format(path)
    try:
        particles = read_particles(path, voxel_spacing_angstrom=voxel_spacing_angstrom)
    except FormatError as error:
        if error.field.startswith("size of tomogram"):
            unit = "A from the tomogram's center"
            particles = read_particles(path, voxel_spacing_angstrom=voxel_spacing_angstrom, grids=_WithoutSize())
        elif "--picks-spacing" in error.advice:
            particles, unit = read_particles(path, voxel_spacing_angstrom=1.0), "pixels"
        else:
            raise
    known = np.isfinite(particles.rotation).all(axis=(1, 2))
    names, counts = np.unique(particles.tomogram.astype(str), return_counts=True)
    labels, sizes = np.unique([str(label) for label in particles.class_name if label], return_counts=True)
    lines = [
        ("Kind", f"particle table: {FORMATS[name]}"),
        ("Dialect", particles.source),
        ("Particles", str(len(particles))),
        ("Tomograms", f"{len(names)}: {_listing(names, counts)}"),
    ]
    for axis, values in zip("zyx", particles.position_zyx_angstrom.T, strict=True):
        if len(values):
            lines.append((f"Position {axis}", f"{values.min():.1f} to {values.max():.1f} {unit}"))
    if unit == "pixels":
        lines.append(("Note", "the file states no pixel size; give it with --picks-spacing"))
    elif unit != "A":
        lines.append(("Note", "positions in the tomogram follow once its size is known: give the tomograms too"))
    lines.append(("Orientations", f"{int(known.sum())} of {len(particles)}"))
    lines.append(("Classes", _listing(labels, sizes) if len(labels) else "none"))
    if np.isfinite(particles.score).any():
        lines.append(("Score", f"{np.nanmin(particles.score):.4g} to {np.nanmax(particles.score):.4g}"))
    return [*lines, ("Columns", ", ".join(map(str, particles.columns.columns)) or "none")]


def _listing(names: NDArray[Any], counts: NDArray[Any], most: int = 6) -> str:
    shown = ", ".join(f"{name} ({count})" for name, count in zip(names[:most], counts[:most], strict=True))
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")


def describe(path: Path, voxel_spacing_angstrom: float | None = None) -> list[tuple[str, str]]:
    """What a file holds, as label and text: a volume, an atomic structure or a particle table.

    Positions in pixels are reported as such where nothing says the pixel size.

    Raises
    ------
    FormatError
        The file is none of these, or is damaged.
    """
    from tomosift.io.volumes import is_volume_path

    path = Path(path)
    if not path.exists():
        raise FormatError(path, "file", "missing", "a volume, structure or particle table", "check the path")
    if suffix_of(path) in STRUCTURE_SUFFIXES:
        return _lines_of_structure(path)
    if is_volume_path(path) and not is_flat_em(path):
        return _lines_of_volume(path)
    return _lines_of_particles(path, voxel_spacing_angstrom)


def is_flat_em(path: Path) -> bool:
    """Whether an EM file has one section only, as motive lists have and volumes have not."""
    if suffix_of(path) != ".em" or not path.is_file():
        return False
    with path.open("rb") as stream:
        sizes = np.frombuffer(stream.read(16).ljust(16, b"\0"), dtype="<i4")
    return bool(sizes[3] == 1)
