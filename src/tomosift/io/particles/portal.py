"""CryoET Data Portal: points and oriented points (``.ndjson``), with the annotation's metadata beside them.

Locations are voxel indices of the annotation's voxel spacing, counted from 0 at the centre of the first voxel. The
spacing and the run stand in the portal's own folder names, ``<run>/Reconstructions/VoxelSpacing<Angstrom>/...``; the
object's name stands in the metadata JSON. ``xyz_rotation_matrix`` takes the particle into the tomogram.

Points of the portal's version 2.0 and the coordinates of the 2024 object identification challenge describe the same
particles flipped on all three axes; neither file says which it is, so nothing is flipped here.

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
from tomosift.files import written_then_renamed
from tomosift.io.angles import swap_xyz_zyx
from tomosift.io.particles import pixel_tables
from tomosift.particles import Grid, Particles

FIRST_VOXEL_XYZ = (0.0, 0.0, 0.0)
SPACING_FOLDER = re.compile(r"VoxelSpacing(\d+(?:\.\d+)?)")


def spacing_from_folders(path: Path) -> float | None:
    """Angstrom of the ``VoxelSpacing`` folder that ``path`` lies in, if any."""
    for part in reversed(path.resolve().parts):
        if match := SPACING_FOLDER.fullmatch(part):
            return float(match[1]) or None
    return None


def _run_name(path: Path) -> str:
    """Name of the folder above ``Reconstructions``, else the file's own name."""
    parts = path.resolve().parts
    if "Reconstructions" in parts[1:]:
        return parts[parts.index("Reconstructions") - 1]
    return path.name.split(".")[0]


def _metadata(path: Path) -> dict[str, Any]:
    """Metadata of the annotation that ``path`` belongs to: the JSON beside it that shares the longest beginning."""
    stem = path.name.removesuffix(".gz").removesuffix(".ndjson").rpartition("_")[0]
    candidate = path.with_name(f"{stem}.json")
    if not stem or not candidate.is_file():
        return {}
    try:
        content = json.loads(candidate.read_text())
    except ValueError as error:
        raise FormatError(candidate, "content", "not JSON", "the annotation's metadata") from error
    return content if isinstance(content, dict) else {}


def _number(path: Path, line: int, value: Any, field: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise FormatError(path, f"{field} in line {line}", json.dumps(value)[:40], "a number")
    return float(value)


def _point(path: Path, line: int, text: str) -> dict[str, Any]:
    try:
        point = json.loads(text)
    except ValueError as error:
        raise FormatError(path, f"line {line}", repr(text[:40]), "one JSON object") from error
    if isinstance(point, dict) and "annotation_object" in point:
        raise FormatError(path, "content", "an annotation's metadata", "points", "name its .ndjson file instead")
    if not isinstance(point, dict) or not isinstance(point.get("location"), dict):
        raise FormatError(path, f"line {line}", "without location", "a point with location x, y and z")
    return point


def _lines(path: Path) -> list[str]:
    text = pixel_tables.content(path).decode("utf-8", errors="replace")
    if path.name.removesuffix(".gz").endswith(".json") and "annotation_object" in text:
        return [" ".join(text.split())]
    return [line for line in text.splitlines() if line.strip()]


def _matrix(path: Path, line: int, value: Any) -> NDArray[np.float64]:
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
    """Read points; the voxel spacing is that of the portal's folder unless given.

    Raises
    ------
    FormatError
        A line is no point, or nothing says the voxel spacing.
    """
    points = [_point(path, k + 1, line) for k, line in enumerate(_lines(path))]
    xyz = np.zeros((len(points), 3))
    rotation = np.full((len(points), 3, 3), np.nan)
    for k, point in enumerate(points):
        xyz[k] = [_number(path, k + 1, point["location"].get(axis), axis) for axis in "xyz"]
        if point.get("xyz_rotation_matrix") is not None:
            rotation[k] = _matrix(path, k + 1, point["xyz_rotation_matrix"])
    tomogram = np.full(len(points), _run_name(path), dtype=object)
    stated = spacing_from_folders(path)
    spacings = pixel_tables.spacings_to_read(path, tomogram, voxel_spacing_angstrom, grids, stated)
    columns = pd.DataFrame(xyz, columns=["x", "y", "z"])
    for key in sorted({key for point in points for key in point} - {"location", "xyz_rotation_matrix"}):
        columns[key] = [point.get(key) for point in points]
    named = _metadata(path).get("annotation_object")
    name = str(named.get("name", "")) if isinstance(named, dict) else ""
    return Particles.create(
        tomogram,
        pixel_tables.positions(path, xyz, FIRST_VOXEL_XYZ, spacings),
        rotation=swap_xyz_zyx(rotation),
        class_name=np.full(len(points), name, dtype=object),
        columns=columns,
        source="portal",
    )


def write_particles(
    path: Path,
    particles: Particles,
    *,
    voxel_spacing_angstrom: float | None = None,
    grids: Mapping[str, Grid] | None = None,
) -> None:
    """Write points, oriented where the orientation is known; one run and one object per file, as the portal has it.

    Points that came from the portal keep their locations and other fields, and columns that were added become fields.

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
    same = particles.source == "portal"
    if same:
        xyz = particles.columns[["x", "y", "z"]].to_numpy(dtype=np.float64)
    else:
        spacings = pixel_tables.spacings_to_write(particles.tomogram, voxel_spacing_angstrom, grids)
        xyz = pixel_tables.pixels(particles, FIRST_VOXEL_XYZ, spacings)
    turned = swap_xyz_zyx(particles.rotation)
    more = particles.columns.drop(columns=["x", "y", "z", "type"], errors="ignore")
    kept = more.astype(object).to_dict("records") if same else [{}] * len(particles)
    with written_then_renamed(path) as temporary, temporary.open("w") as stream:
        for location, matrix, fields in zip(xyz.tolist(), turned, kept, strict=True):
            point: dict[str, Any] = {"type": "point", "location": dict(zip("xyz", location, strict=True))}
            if np.isfinite(matrix).all():
                point |= {"type": "orientedPoint", "xyz_rotation_matrix": matrix.tolist()}
            point |= {str(name): value for name, value in fields.items() if value is not None and value == value}
            stream.write(json.dumps(point) + "\n")
