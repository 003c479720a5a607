"""CryoET Data Portal: points and oriented points (``.ndjson``), with the annotation's metadata beside them.

Locations are voxel indices of the annotation's voxel spacing, counted from 0 at the center of the first voxel. The
spacing and the run are in the portal's own folder names, ``<run>/Reconstructions/VoxelSpacing<Angstrom>/...``. The
object's name is in the metadata JSON. ``xyz_rotation_matrix`` takes the particle into the tomogram.

Points of the portal's version 2.0 and the coordinates of the 2024 object identification challenge describe the same
particles flipped on all three axes. Neither file says which it is, so nothing is flipped here.

Source: CryoET Data Portal, annotation file formats "Point" and "OrientedPoint".
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tomosift.errors import FormatError
from tomosift.files import read_json, written_then_renamed
from tomosift.io.angles import swap_xyz_zyx
from tomosift.io.file_content import read_bytes
from tomosift.io.particles.pixel_size import PixelSize
from tomosift.io.particles.pixel_tables import PixelConvention
from tomosift.io.particles.registry import Format, Opening
from tomosift.particles import Grid, Particles


def _is_portal_json(opening: Opening) -> bool:
    """Whether a JSON file is of the portal: metadata of an annotation or a tomogram, or a single point."""
    keys = opening.json_keys
    return "annotation_object" in keys or "omezarr_dir" in keys or {"location", "type"} <= keys


FORMAT = Format(
    "Points of the CryoET Data Portal, one JSON object per line (.ndjson).",
    suffixes=(".ndjson", ".json"),
    recognizes=_is_portal_json,
)
CONVENTION = PixelConvention("portal", first_voxel_xyz=(0.0, 0.0, 0.0))
SPACING_FOLDER = re.compile(r"VoxelSpacing(\d+(?:\.\d+)?)")


def spacing_from_folders(path: Path) -> float | None:
    """Return the Angstrom of the ``VoxelSpacing`` folder that ``path`` is in, if any.

    Examples
    --------
    >>> spacing_from_folders(Path("run/Reconstructions/VoxelSpacing7.84/Annotations/100/points.ndjson"))
    7.84
    """
    for part in reversed(path.resolve().parts):
        if match := SPACING_FOLDER.fullmatch(part):
            return float(match[1]) or None
    return None


LARGEST_COORDINATE_ANGSTROM = 1e9


def _run_name(path: Path) -> str:
    """Return the name of the folder above ``Reconstructions``, else the file's own name."""
    parts = path.resolve().parts
    if "Reconstructions" in parts[1:]:
        return parts[parts.index("Reconstructions") - 1]
    return path.name.split(".")[0]


def _read_metadata(path: Path) -> dict[str, Any]:
    """Return the metadata of the annotation: the JSON beside ``path`` of the same name up to the last underscore."""
    stem = path.name.removesuffix(".gz").removesuffix(".ndjson").rpartition("_")[0]
    candidate = path.with_name(f"{stem}.json")
    if not stem or not candidate.is_file():
        return {}
    content = read_json(candidate)
    return content if isinstance(content, dict) else {}


def _parse_number(path: Path, line: int, value: Any, field: str) -> float:
    """Return a JSON number as float."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise FormatError(path, f"{field} in line {line}", json.dumps(value)[:40], "a number")
    try:
        number = float(value)
    except OverflowError:
        number = float("inf")
    if not abs(number) < LARGEST_COORDINATE_ANGSTROM:
        raise FormatError(path, f"{field} in line {line}", str(value)[:40], "a finite number")
    return number


def _parse_point(path: Path, line: int, text: str) -> dict[str, Any]:
    """Return the JSON object of one line."""
    try:
        point = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FormatError(path, f"line {line}", repr(text[:40]), "one JSON object") from error
    if isinstance(point, dict) and "omezarr_dir" in point:
        advice = "name the tomogram's own file"
        raise FormatError(path, "content", "the metadata of a tomogram", "particles", advice)
    if isinstance(point, dict) and "annotation_object" in point:
        raise FormatError(path, "content", "an annotation's metadata", "points", "name its .ndjson file instead")
    if not isinstance(point, dict) or not isinstance(point.get("location"), dict):
        raise FormatError(path, f"line {line}", "without location", "a point with location x, y and z")
    return point


def _read_lines(path: Path) -> list[str]:
    """Return the lines that are not blank; metadata, which has many lines, as one."""
    text = read_bytes(path).decode("utf-8", errors="replace")
    is_metadata = "annotation_object" in text or "omezarr_dir" in text
    if path.name.removesuffix(".gz").endswith(".json") and is_metadata:
        return [" ".join(text.split())]
    return [line for line in text.splitlines() if line.strip()]


def _parse_matrix(path: Path, line: int, value: Any) -> NDArray[np.float64]:
    """Return a rotation matrix for xyz vectors."""
    try:
        matrix = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        matrix = np.zeros(0)
    if matrix.shape != (3, 3) or not np.allclose(matrix @ matrix.T, np.eye(3), atol=1e-2):
        raise FormatError(
            path, f"xyz_rotation_matrix in line {line}", json.dumps(value)[:60], "a 3 x 3 rotation matrix"
        )
    return matrix


def read_particles(
    path: Path, *, voxel_spacing_angstrom: float | None = None, grids: Mapping[str, Grid] | None = None
) -> Particles:
    """Read points; the voxel spacing is that of the portal's folder unless the caller requests another.

    Parameters
    ----------
    path
        The points; the metadata JSON beside them names the object.
    voxel_spacing_angstrom, grids
        Size of one pixel, see `tomosift.io.particles.read_particles`.

    Raises
    ------
    FormatError
        A line is no point, or nothing says the voxel spacing.
    """
    points = [_parse_point(path, k + 1, line) for k, line in enumerate(_read_lines(path))]
    xyz = np.zeros((len(points), 3))
    rotation = np.full((len(points), 3, 3), np.nan)
    for k, point in enumerate(points):
        xyz[k] = [_parse_number(path, k + 1, point["location"].get(axis), axis) for axis in "xyz"]
        if point.get("xyz_rotation_matrix") is not None:
            rotation[k] = _parse_matrix(path, k + 1, point["xyz_rotation_matrix"])
    tomogram = np.full(len(points), _run_name(path), dtype=object)
    columns = pd.DataFrame(xyz, columns=["x", "y", "z"])
    for key in sorted({key for point in points for key in point} - {"location", "xyz_rotation_matrix"}):
        columns[key] = [point.get(key) for point in points]
    metadata = _read_metadata(path).get("annotation_object")
    name = str(metadata.get("name", "")) if isinstance(metadata, dict) else ""
    return CONVENTION.particles(
        path,
        tomogram,
        xyz,
        PixelSize(voxel_spacing_angstrom, grids, spacing_from_folders(path)),
        rotation=swap_xyz_zyx(rotation),
        class_name=np.full(len(points), name, dtype=object),
        columns=columns,
    )


def write_particles(
    path: Path,
    particles: Particles,
    *,
    voxel_spacing_angstrom: float | None = None,
    grids: Mapping[str, Grid] | None = None,
) -> None:
    """Write points, oriented where the orientation is known; one run and one object per file, as on the portal.

    Points that came from the portal keep their locations and other fields, and columns that were added become fields.

    Parameters
    ----------
    path
        The file to write; inside a ``VoxelSpacing`` folder its spacing is the default.
    particles
        What to write.
    voxel_spacing_angstrom, grids
        Size of one pixel, see `tomosift.io.particles.write_particles`.

    Raises
    ------
    ValueError
        Particles of several tomograms or classes, or nothing says the voxel spacing.
    """
    for what, names in (("tomogram", particles.tomogram), ("class", particles.class_name)):
        if len(set(names)) > 1:
            raise ValueError(f"a portal file holds one {what} but {len(set(names))} were given; write a file for each")
    if voxel_spacing_angstrom is None:
        voxel_spacing_angstrom = spacing_from_folders(path)
    is_unchanged = particles.source == CONVENTION.source
    if is_unchanged:
        xyz = particles.columns[["x", "y", "z"]].to_numpy(dtype=np.float64)
    else:
        xyz = CONVENTION.pixels(particles, PixelSize(voxel_spacing_angstrom, grids))
    rotation_xyz = swap_xyz_zyx(particles.rotation)
    others = particles.columns.drop(columns=["x", "y", "z", "type"], errors="ignore")
    records = others.astype(object).to_dict("records") if is_unchanged else [{}] * len(particles)
    with written_then_renamed(path) as temporary, temporary.open("w") as stream:
        for location, matrix, fields in zip(xyz.tolist(), rotation_xyz, records, strict=True):
            point: dict[str, Any] = {"type": "point", "location": dict(zip("xyz", location, strict=True))}
            if np.isfinite(matrix).all():
                point |= {"type": "orientedPoint", "xyz_rotation_matrix": matrix.tolist()}
            point |= {str(name): value for name, value in fields.items() if value is not None and value == value}
            stream.write(json.dumps(point) + "\n")
