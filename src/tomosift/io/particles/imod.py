"""IMOD models (``.mod``): points in contours in objects, and slicer angles for oriented particles.

Coordinates are pixels of the displayed tomogram. The center of its first voxel is (0.5, 0.5, 0): x and y are zero at
the corner of the tomogram, z counts sections in whole numbers. Models older than that rule lack a header flag, and
their z is counted like x.

A model belongs to one tomogram and does not name it, so the name of the model is taken. The header's pixel size is used
when it has a unit. Meshes, views and clipping planes are skipped.

Source: IMOD's "Binary File Format" (big-endian chunks), flag bit 10 "Z coordinates start from -0.5".
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial import KDTree

from tomosift.errors import FormatError
from tomosift.files import written_then_renamed
from tomosift.io import angles
from tomosift.io.file_content import read_bytes
from tomosift.io.particles.pixel_size import PixelSize
from tomosift.io.particles.pixel_tables import PixelConvention, check_coordinates
from tomosift.io.particles.registry import Format, Opening
from tomosift.particles import Grid, Particles


def _is_model(opening: Opening) -> bool:
    """Whether the file mark is IMOD's."""
    return opening.text.startswith("IMOD")


FORMAT = Format(
    "An IMOD model: points of every contour, slicer angles (.mod).", suffixes=(".mod",), recognizes=_is_model
)
MODEL_HEADER = struct.Struct(">128s4iI4i6f5if2i3f")
OBJECT_HEADER = struct.Struct(">64s16IiI2i3fi8B2i")
CONTOUR_HEADER = struct.Struct(">iI2i")
MESH_HEADER = struct.Struct(">2iI2h")
SLICER_ANGLES = struct.Struct(">i3f3f32s")
Z_FROM_MINUS_HALF = 1 << 10
FLIPPED_YZ = 1 << 16
WRITTEN_FLAGS = 0x3E00  # z from -0.5, byte-sized material, several clipping planes, not yet written by 3dmod
SCATTERED = 1 << 9
NANOMETER = -9
FIRST_VOXEL_XYZ = (0.5, 0.5, 0.0)
CONVENTION = PixelConvention("imod", FIRST_VOXEL_XYZ, angles.from_slicer, angles.to_slicer)
MOST_SLICER_DISTANCE_PIXELS = 3.0
"""A person sets point and slicer by hand, less than a particle apart."""
COLORS = ((0.0, 1.0, 0.0), (0.0, 1.0, 1.0), (1.0, 0.0, 1.0), (1.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1.0, 0.0, 0.0))
"""Red, green and blue of the objects, in the order of 3dmod."""


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
    """What a model says about particles."""

    voxel_spacing_angstrom: float | None
    shape_xyz: tuple[int, int, int]
    first_voxel_xyz: tuple[float, float, float]
    is_flipped_yz: bool = False
    """Points are stored with y and z exchanged, as the volume was when the model was made."""
    contours: list[Contour] = field(default_factory=list)
    slicer: list[tuple[float, ...]] = field(default_factory=list)
    """Angles x, y, z in degree and center x, y, z in pixels."""


class _Stream:
    """The bytes of a model, read in order; a `FormatError` where they run out."""

    def __init__(self, path: Path) -> None:
        self.path, self.content, self.position = path, read_bytes(path), 0

    def take(self, count: int, what: str) -> bytes:
        """Return the next bytes."""
        if count < 0 or self.position + count > len(self.content):
            left = len(self.content) - self.position
            raise FormatError(self.path, what, f"{left} bytes", f"{count} bytes", "the model is cut short or damaged")
        self.position += count
        return self.content[self.position - count : self.position]

    def unpack(self, layout: struct.Struct, what: str) -> tuple[Any, ...]:
        """Return the next values of this layout."""
        return layout.unpack(self.take(layout.size, what))

    def floats(self, count: int, what: str) -> NDArray[np.float64]:
        """Return the next 32-bit floats."""
        return np.frombuffer(self.take(4 * count, what), dtype=">f4").astype(np.float64)


def _read_header(stream: _Stream) -> Model:
    """Return the model of a header, without contours."""
    if stream.take(8, "file mark")[:5] != b"IMODV":
        raise FormatError(stream.path, "file mark", "another one", "IMODV1.2", "only binary IMOD models are read")
    values = stream.unpack(MODEL_HEADER, "model header")
    flags, pixel_size, unit = int(values[5]), float(values[21]), int(values[22])
    spacing = pixel_size * 10.0 ** (unit + 10) if unit and pixel_size > 0 and -10 <= unit <= 3 else None
    z_first = FIRST_VOXEL_XYZ[2] if flags & Z_FROM_MINUS_HALF else 0.5
    shape = (int(values[1]), int(values[2]), int(values[3]))
    is_flipped = bool(flags & FLIPPED_YZ)
    return Model(spacing, shape, (FIRST_VOXEL_XYZ[0], FIRST_VOXEL_XYZ[1], z_first), is_flipped)


def _iterate_marks(stream: _Stream) -> Iterator[str]:
    """Yield the four-letter mark of each chunk up to the end of the model."""
    while (mark := stream.take(4, "next chunk").decode("latin-1")) != "IEOF":
        yield mark


def read_model(path: Path) -> Model:
    """Parse a binary model, plain or gzipped.

    Raises
    ------
    FormatError
        Not an IMOD model, or cut short.
    """
    stream = _Stream(path)
    model = _read_header(stream)
    name, object_id, contour_id = "", -1, -1
    for mark in _iterate_marks(stream):
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
            _add_chunk(path, model, mark, content)
    return model


def _add_chunk(path: Path, model: Model, mark: str, content: bytes) -> None:
    """Add point sizes or slicer angles to the model; other chunks do not matter here."""
    if mark == "SIZE" and model.contours:
        sizes = np.frombuffer(content, dtype=">f4").astype(np.float64) if len(content) % 4 == 0 else np.zeros(0)
        if len(sizes) != len(model.contours[-1].points):
            raise FormatError(path, "point sizes", str(len(sizes)), f"{len(model.contours[-1].points)}, one per point")
        model.contours[-1].sizes = sizes
    elif mark == "SLAN" and len(content) >= SLICER_ANGLES.size:
        model.slicer.append(SLICER_ANGLES.unpack(content[: SLICER_ANGLES.size])[1:7])


def _find_rotations(model: Model, xyz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the orientation of the nearest slicer angles; unknown where none are within a few pixels."""
    rotation = np.full((len(xyz), 3, 3), np.nan)
    slicer = np.array(model.slicer).reshape(-1, 6)
    slicer = slicer[np.isfinite(slicer).all(axis=1)]
    if len(slicer) and len(xyz):
        tree = KDTree(slicer[:, 3:])
        distance, nearest = tree.query(xyz)
        is_near, nearest = distance <= MOST_SLICER_DISTANCE_PIXELS, np.asarray(nearest)
        for point in np.unique(xyz[is_near], axis=0):
            here = np.flatnonzero((xyz == point).all(axis=1))
            if len(here) > 1:  # particles of one position take the angles of that position in their order
                at = sorted(tree.query_ball_point(point, float(np.asarray(distance)[here[0]]) + 1e-4))
                nearest[here] = [at[min(k, len(at) - 1)] for k in range(len(here))]
        rotation[is_near] = angles.from_slicer(slicer[nearest[is_near], :3])
    return rotation


def read_particles(
    path: Path, *, voxel_spacing_angstrom: float | None = None, grids: Mapping[str, Grid] | None = None
) -> Particles:
    """Read every point of every contour as a particle; the class is the object's name.

    Parameters
    ----------
    path
        The model.
    voxel_spacing_angstrom, grids
        Size of one pixel, see `tomosift.io.particles.read_particles`.

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
    first_voxel_xyz = model.first_voxel_xyz
    if model.is_flipped_yz:  # stored z, which counts from another place, is y
        xyz, first_voxel_xyz = xyz[:, [0, 2, 1]], (first_voxel_xyz[0], first_voxel_xyz[2], first_voxel_xyz[1])
    check_coordinates(path, xyz)
    columns = pd.DataFrame(xyz, columns=["x", "y", "z"])
    columns.insert(0, "object_id", np.repeat([contour.object_id for contour in contours], counts))
    columns.insert(1, "contour_id", np.repeat([contour.contour_id for contour in contours], counts))
    if any(contour.sizes is not None for contour in contours):
        columns["size"] = np.concatenate(
            [np.full(n, np.nan) if c.sizes is None else c.sizes for n, c in zip(counts, contours, strict=True)]
        )
    tomogram = np.full(len(xyz), path.stem, dtype=object)
    return replace(CONVENTION, first_voxel_xyz=first_voxel_xyz).particles(
        path,
        tomogram,
        xyz,
        PixelSize(voxel_spacing_angstrom, grids, model.voxel_spacing_angstrom, model.shape_xyz),
        rotation=_find_rotations(model, xyz),
        class_name=np.repeat(np.array([contour.object_name for contour in contours], dtype=object), counts),
        columns=columns,
    )


def _pack_header(extent_xyz: tuple[int, ...], classes: int, spacing_angstrom: float) -> bytes:
    """Return the file mark and the model header; without a pixel size, 0, the unit is missing."""
    unit = NANOMETER if spacing_angstrom else 0
    return b"IMODV1.2" + MODEL_HEADER.pack(
        b"particles", *extent_xyz, classes, WRITTEN_FLAGS, 1, 2, 0, 255, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0,
        0, 0, -1, 3, 128, spacing_angstrom / 10 or 1.0, unit, 0, 0.0, 0.0, 0.0,
    )  # fmt: skip


def _pack_object(
    name: str, points: NDArray[np.float64], sizes: NDArray[np.float64], color: tuple[float, float, float]
) -> bytes:
    """Return the chunks of one object with one contour of scattered points."""
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

    Coordinates are 32-bit floats. Particles are grouped by class. Point sizes of a model that was read are kept, its
    contours and other columns are not.

    Parameters
    ----------
    path
        The model to write.
    particles
        What to write.
    voxel_spacing_angstrom, grids
        Size of one pixel, see `tomosift.io.particles.write_particles`.

    Raises
    ------
    ValueError
        Particles of several tomograms, or nothing says the pixel size.
    """
    names = list(dict.fromkeys(str(name) for name in particles.tomogram))
    if len(names) > 1:
        raise ValueError(f"an IMOD model belongs to one tomogram but {len(names)} were given; write one model for each")
    size = PixelSize(voxel_spacing_angstrom, grids)
    xyz, spacing = CONVENTION.pixels(particles, size), size.to_write(particles.tomogram)
    grid = (grids or {}).get(names[0]) if names else None
    extent = grid.shape_zyx[::-1] if grid else tuple(int(edge) + 2 for edge in xyz.max(axis=0, initial=0.0))
    classes = sorted({str(name) for name in particles.class_name})
    stated = particles.columns["size"] if particles.source == "imod" and "size" in particles.columns else np.nan
    sizes = np.broadcast_to(np.asarray(stated, dtype=np.float64), len(particles))
    content = [_pack_header(extent, len(classes), float(spacing[0]) if len(spacing) else 0.0)]
    for k, name in enumerate(classes):
        rows = particles.class_name == name
        content.append(_pack_object(name, xyz[rows], sizes[rows], COLORS[k % len(COLORS)]))
    for triple, center in zip(CONVENTION.angles_deg(particles), xyz, strict=True):
        if np.isfinite(triple).all():
            content.append(b"SLAN" + struct.pack(">I", SLICER_ANGLES.size))
            content.append(SLICER_ANGLES.pack(1, *triple, *center, b""))
    with written_then_renamed(path) as temporary:
        temporary.write_bytes(b"".join([*content, b"IEOF"]))
