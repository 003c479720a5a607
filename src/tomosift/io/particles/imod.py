"""IMOD models (``.mod``): points in contours in objects, and slicer angles for oriented particles.

Coordinates are pixels of the displayed tomogram. The centre of its first voxel is (0.5, 0.5, 0): in x and y the corner
counts 0, in z the section counts whole numbers. Models older than that rule lack a header flag and count z like x.

A model belongs to one tomogram and does not name it, so its own name stands in. The header's pixel size is used when it
has a unit. Meshes, views and clipping planes are skipped.

Source: IMOD's "Binary File Format" (big-endian chunks), flag bit 10 "Z coordinates start from -0.5".
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial import KDTree

from tomosift.errors import FormatError
from tomosift.files import written_then_renamed
from tomosift.io import angles
from tomosift.io.particles import pixel_tables
from tomosift.particles import Grid, Particles

MODEL_HEADER = struct.Struct(">128s4iI4i6f5if2i3f")
OBJECT_HEADER = struct.Struct(">64s16IiI2i3fi8B2i")
CONTOUR_HEADER = struct.Struct(">iI2i")
MESH_HEADER = struct.Struct(">2iI2h")
SLICER_ANGLES = struct.Struct(">i3f3f32s")
Z_FROM_MINUS_HALF = 1 << 10
WRITTEN_FLAGS = 0x3E00  # z from -0.5, byte-sized material, several clipping planes, not yet written by 3dmod
SCATTERED = 1 << 9
NANOMETER = -9
FIRST_VOXEL_XYZ = (0.5, 0.5, 0.0)
FARTHEST_SLICER_CENTER = 3.0  # pixels; a person sets point and slicer by hand, less than a particle apart


@dataclass
class Contour:
    """Points of one contour, with their sizes where the file has them."""

    object_id: int
    contour_id: int
    object_name: str
    points: NDArray[np.float64]
    sizes: NDArray[np.float64] | None = None


@dataclass
class Model:
    """What of a model concerns particles."""

    voxel_spacing_angstrom: float | None
    shape_xyz: tuple[int, int, int]
    first_voxel_xyz: tuple[float, float, float]
    contours: list[Contour] = field(default_factory=list)
    slicer: list[tuple[float, ...]] = field(default_factory=list)
    """Angles x, y, z in degrees and centre x, y, z in pixels."""


class _Stream:
    """Bytes read in order; running out of them is the file's fault."""

    def __init__(self, path: Path) -> None:
        self.path, self.content, self.at = path, pixel_tables.content(path), 0

    def take(self, count: int, what: str) -> bytes:
        if count < 0 or self.at + count > len(self.content):
            left = len(self.content) - self.at
            raise FormatError(self.path, what, f"{left} bytes", f"{count} bytes", "the model is cut short or damaged")
        self.at += count
        return self.content[self.at - count : self.at]

    def unpack(self, layout: struct.Struct, what: str) -> tuple[Any, ...]:
        return layout.unpack(self.take(layout.size, what))

    def floats(self, count: int, what: str) -> NDArray[np.float64]:
        return np.frombuffer(self.take(4 * count, what), dtype=">f4").astype(np.float64)


def _header(stream: _Stream) -> Model:
    if stream.take(8, "file mark")[:5] != b"IMODV":
        raise FormatError(stream.path, "file mark", "another one", "IMODV1.2", "only binary IMOD models are read")
    values = stream.unpack(MODEL_HEADER, "model header")
    flags, pixel_size, unit = int(values[5]), float(values[21]), int(values[22])
    spacing = pixel_size * 10.0 ** (unit + 10) if unit and pixel_size > 0 and -10 <= unit <= 3 else None
    z_first = FIRST_VOXEL_XYZ[2] if flags & Z_FROM_MINUS_HALF else 0.5
    shape = (int(values[1]), int(values[2]), int(values[3]))
    return Model(spacing, shape, (FIRST_VOXEL_XYZ[0], FIRST_VOXEL_XYZ[1], z_first))


def _chunks(stream: _Stream) -> Iterator[str]:
    while (mark := stream.take(4, "next chunk").decode("latin-1")) != "IEOF":
        yield mark


def read_model(path: Path) -> Model:
    """Parse a binary model.

    Raises
    ------
    FormatError
        Not an IMOD model, or cut short.
    """
    stream = _Stream(path)
    model = _header(stream)
    name, object_id, contour_id = "", -1, -1
    for mark in _chunks(stream):
        if mark == "OBJT":
            raw = OBJECT_HEADER.unpack(stream.take(OBJECT_HEADER.size, "object header"))[0]
            name, object_id, contour_id = raw.split(b"\0")[0].decode("latin-1").strip(), object_id + 1, -1
        elif mark == "CONT":
            count = int(stream.unpack(CONTOUR_HEADER, "contour header")[0])
            contour_id += 1
            points = stream.floats(3 * count, f"points of contour {contour_id + 1}").reshape(-1, 3)
            model.contours.append(Contour(object_id, contour_id, name, points))
        elif mark == "MESH":
            vertices, indices = (int(value) for value in stream.unpack(MESH_HEADER, "mesh header")[:2])
            stream.take(12 * vertices + 4 * indices, "mesh")
        else:
            content = stream.take(struct.unpack(">I", stream.take(4, f"size of {mark!r}"))[0], f"chunk {mark!r}")
            _take_note(path, model, mark, content)
    return model


def _take_note(path: Path, model: Model, mark: str, content: bytes) -> None:
    if mark == "SIZE" and model.contours:
        sizes = np.frombuffer(content, dtype=">f4").astype(np.float64) if len(content) % 4 == 0 else np.zeros(0)
        if len(sizes) != len(model.contours[-1].points):
            raise FormatError(path, "point sizes", str(len(sizes)), f"{len(model.contours[-1].points)}, one per point")
        model.contours[-1].sizes = sizes
    elif mark == "SLAN" and len(content) >= SLICER_ANGLES.size:
        model.slicer.append(SLICER_ANGLES.unpack(content[: SLICER_ANGLES.size])[1:7])


def _rotations(model: Model, xyz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Orientation of the nearest slicer angles; unknown where none are within a few pixels."""
    rotation = np.full((len(xyz), 3, 3), np.nan)
    slicer = np.array(model.slicer).reshape(-1, 6)
    slicer = slicer[np.isfinite(slicer).all(axis=1)]
    if len(slicer) and len(xyz):
        distance, nearest = KDTree(slicer[:, 3:]).query(xyz)
        near, nearest = distance <= FARTHEST_SLICER_CENTER, np.asarray(nearest)
        rotation[near] = angles.from_slicer(slicer[nearest[near], :3])
    return rotation


def read_particles(
    path: Path, *, voxel_spacing_angstrom: float | None = None, grids: Mapping[str, Grid] | None = None
) -> Particles:
    """Every point of every contour as a particle; the class is the object's name.

    Raises
    ------
    FormatError
        The model is malformed or holds no point, or nothing says the pixel size.
    """
    model = read_model(path)
    contours = [contour for contour in model.contours if len(contour.points)]
    if not contours:
        raise FormatError(path, "number of points", "0", "at least one", "the model is empty")
    counts = [len(contour.points) for contour in contours]
    xyz = np.concatenate([contour.points for contour in contours])
    columns = pd.DataFrame(xyz, columns=["x", "y", "z"])
    columns.insert(0, "object_id", np.repeat([contour.object_id for contour in contours], counts))
    columns.insert(1, "contour_id", np.repeat([contour.contour_id for contour in contours], counts))
    if any(contour.sizes is not None for contour in contours):
        columns["size"] = np.concatenate(
            [np.full(n, np.nan) if c.sizes is None else c.sizes for n, c in zip(counts, contours, strict=True)]
        )
    tomogram = np.full(len(xyz), path.stem, dtype=object)
    spacings = pixel_tables.spacings_to_read(
        path, tomogram, voxel_spacing_angstrom, grids, model.voxel_spacing_angstrom
    )
    return Particles.create(
        tomogram,
        pixel_tables.positions(path, xyz, model.first_voxel_xyz, spacings),
        rotation=_rotations(model, xyz),
        class_name=np.repeat(np.array([contour.object_name for contour in contours], dtype=object), counts),
        columns=columns,
        source="imod",
    )


def _object_chunk(
    name: str, points: NDArray[np.float64], sizes: NDArray[np.float64], color: tuple[float, float, float]
) -> bytes:
    header = OBJECT_HEADER.pack(
        name.encode("latin-1", "replace")[:63], *[0] * 16, 1, SCATTERED, 0, 1, *color, 6, 1, 3, 1, 1, 0, 0, 0, 0, 0, 0
    )
    contour = CONTOUR_HEADER.pack(len(points), 0, 0, 0) + points.astype(">f4").tobytes()
    if np.isfinite(sizes).any():
        stated = np.where(np.isfinite(sizes), sizes, -1).astype(">f4").tobytes()  # -1: the object's own size
        contour += b"SIZE" + struct.pack(">I", len(stated)) + stated
    return b"OBJT" + header + b"CONT" + contour


def write_particles(
    path: Path,
    particles: Particles,
    *,
    voxel_spacing_angstrom: float | None = None,
    grids: Mapping[str, Grid] | None = None,
) -> None:
    """Write a binary model: one object of scattered points per class, slicer angles where orientations are known.

    Coordinates are 32-bit floats. Particles are grouped by class, so contours that were read do not survive,
    point sizes do; other columns have no place in a model.

    Raises
    ------
    ValueError
        Particles of several tomograms, or nothing says the pixel size.
    """
    names = list(dict.fromkeys(str(name) for name in particles.tomogram))
    if len(names) > 1:
        raise ValueError(f"an IMOD model belongs to one tomogram but {len(names)} were given; write one model for each")
    spacings = pixel_tables.spacings_to_write(particles.tomogram, voxel_spacing_angstrom, grids)
    xyz = pixel_tables.pixels(particles, FIRST_VOXEL_XYZ, spacings)
    grid = (grids or {}).get(names[0]) if names else None
    extent = grid.shape_zyx[::-1] if grid else tuple(int(edge) + 2 for edge in xyz.max(axis=0, initial=0.0))
    classes = sorted({str(name) for name in particles.class_name})
    spacing = float(spacings[0]) if len(spacings) else 0.0
    unit = NANOMETER if spacing else 0
    header = MODEL_HEADER.pack(
        b"particles", *extent, len(classes), WRITTEN_FLAGS, 1, 2, 0, 255, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0,
        0, 0, -1, 3, 128, spacing / 10 or 1.0, unit, 0, 0.0, 0.0, 0.0,
    )  # fmt: skip
    stated = particles.columns["size"] if particles.source == "imod" and "size" in particles.columns else np.nan
    sizes = np.broadcast_to(np.asarray(stated, dtype=np.float64), len(particles))
    colors = [(0.0, 1.0, 0.0), (0.0, 1.0, 1.0), (1.0, 0.0, 1.0), (1.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1.0, 0.0, 0.0)]
    content = [b"IMODV1.2", header]
    for k, name in enumerate(classes):
        rows = particles.class_name == name
        content.append(_object_chunk(name, xyz[rows], sizes[rows], colors[k % len(colors)]))
    slicer = angles.to_slicer(particles.rotation)
    for triple, center in zip(slicer, xyz, strict=True):
        if np.isfinite(triple).all():
            content.append(b"SLAN" + struct.pack(">I", SLICER_ANGLES.size))
            content.append(SLICER_ANGLES.pack(1, *triple, *center, b""))
    with written_then_renamed(path) as temporary:
        temporary.write_bytes(b"".join([*content, b"IEOF"]))
