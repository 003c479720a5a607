"""Ready-made subtomograms: a folder of boxes, a stack of volumes, or a STAR or CSV table that names them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomosift.errors import FormatError
from tomosift.io import subtomogram_tables as box_tables
from tomosift.io.subtomogram_tables import natural_order
from tomosift.io.volumes import COMPRESSED, em, mrc, open_volume
from tomosift.io.volumes.volume import SPACING_TOLERANCE, SupportsSlicing, check_spacing
from tomosift.particles import Particles

TABLE_SUFFIXES = (".star", ".csv")
COMPANIONS = ("_ctf", "_weights", "_weight", "_wedge", "_mask", "_multi")
"""Endings of files that RELION, Warp and others put beside each box; they are not boxes."""
_WHOLE_FILE = -1
_VOLUME_STACK_GROUPS = range(401, 631)


@dataclass(frozen=True)
class Boxes:
    """n cubic subtomograms on disk, opened but not read; axes z, y, x and contrast as in the files."""

    path: Path
    box_size: int
    voxel_spacing_angstrom: float | None
    """None where neither the headers nor the caller say."""
    particles: Particles
    """n rows; positions and rotations are NaN where no table states them."""
    images: tuple[tuple[Path, int], ...]
    """n pairs: the file, and the number of the box in it from 0, or -1 where the file is one box."""
    notes: tuple[str, ...] = ()
    """Plain sentences on what was left out or assumed."""

    def __len__(self) -> int:
        return len(self.images)

    def volumes(self, rows: Sequence[int] | NDArray[Any]) -> NDArray[np.float32]:
        """Read these boxes, ``(k, d, d, d)``.

        Raises
        ------
        FormatError
            If a box holds NaN or infinite voxels, or its file is gone or damaged since it was opened.
        """
        return self._read(rows, {})

    def chunks(self, size: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Every box in order, ``size`` at a time: row numbers ``(k,)`` and boxes ``(k, d, d, d)``."""
        if size < 1:
            raise ValueError(f"chunk size is {size}, expected at least 1")
        opened: dict[Path, SupportsSlicing] = {}
        for start in range(0, len(self), size):
            rows = np.arange(start, min(start + size, len(self)), dtype=np.int64)
            yield rows, self._read(rows, opened)

    def _read(self, rows: Sequence[int] | NDArray[Any], opened: dict[Path, SupportsSlicing]) -> NDArray[np.float32]:
        edge = self.box_size
        boxes = np.empty((len(rows), edge, edge, edge), np.float32)
        for place, row in enumerate(rows):
            path, number = self.images[row]
            if path not in opened:
                opened.clear()  # one file at a time: a folder of boxes must not pile up in memory
                opened[path] = open_volume(path).data
            data = opened[path]
            boxes[place] = data[:] if number == _WHOLE_FILE else data[number * edge : (number + 1) * edge]
            if wrong := int((~np.isfinite(boxes[place])).sum()):
                box, got = self.particles.particle_id[row], f"{wrong} of {edge**3} voxels NaN or infinite"
                raise FormatError(path, f"content of box {box}", got, "numbers", "leave that box out")
        return boxes


@dataclass(frozen=True)
class _Layout:
    """How boxes lie in a file."""

    count: int
    edge: int
    voxel_spacing_angstrom: float | None
    note: str = ""


def read_boxes(
    path: Path | str, *, voxel_spacing_angstrom: float | None = None, table: Path | str | None = None
) -> Boxes:
    """Open ready-made subtomograms and what is known of them; only headers are read.

    Parameters
    ----------
    path
        A folder of MRC or EM boxes (also in subfolders, each then a tomogram), an MRC stack of volumes, a single box,
        or a STAR or CSV table that names boxes (``rlnImageName`` also as ``000001@stack.mrcs``; a CSV column
        ``file``). A folder's own table, and one named like the stack, is found.
    voxel_spacing_angstrom
        Goes before what the headers say.
    table
        The table, where several lie beside the boxes.

    Raises
    ------
    FormatError
        If there are no boxes, they are not cubes or differ in size or voxel spacing, they are stacks of
        two-dimensional tilt images, or the table names boxes that are not there.
    """
    path = Path(path)
    check_spacing(voxel_spacing_angstrom)
    if not path.exists():
        raise FormatError(path, "boxes", "missing", "a folder, a stack of volumes or a table", "check the path")
    where = Path(table) if table is not None else path if _is_table(path) else _table_beside(path)
    folder = path if path.is_dir() else path.parent
    listed = None if where is None else box_tables.read(where, voxel_spacing_angstrom)
    layouts: dict[Path, _Layout] = {}
    notes: list[str] = []
    if listed is not None and listed.names is not None:
        images = _named(where or path, listed.names, folder, layouts)
    else:
        images, notes = _found(path, folder, layouts)
        if listed is not None and len(listed.columns) != len(images):
            got = f"{len(listed.columns)} rows for {len(images)} boxes"
            raise FormatError(where or path, "table", got, "one row for each box", "name the boxes in a column file")
    edge = _common_edge(layouts)
    spacing, more = _common_spacing(layouts, voxel_spacing_angstrom)
    if listed is None:
        particles = _without_table(folder, images)
    else:
        particles, said = box_tables.particles(listed, [_identity(folder, image) for image in images], folder, spacing)
        notes += said
    return Boxes(
        path,
        edge,
        spacing,
        particles,
        tuple(images),
        (*notes, *(layout.note for layout in layouts.values() if layout.note), *more),
    )


def _is_table(path: Path) -> bool:
    return path.is_file() and path.name.lower().removesuffix(".gz").endswith(TABLE_SUFFIXES)


def _is_box(path: Path) -> bool:
    name = path.with_suffix("") if path.suffix.lower() in COMPRESSED else path
    return name.suffix.lower() in (*mrc.SUFFIXES, *em.SUFFIXES) and not path.name.startswith(".")


def _table_beside(path: Path) -> Path | None:
    if path.is_file():
        beside = [path.with_suffix(suffix) for suffix in TABLE_SUFFIXES]
        return next((candidate for candidate in beside if candidate.exists()), None)
    tables = [entry for entry in natural_order(path.iterdir()) if _is_table(entry) and box_tables.names_boxes(entry)]
    if len(tables) > 1:
        got = f"several: {', '.join(entry.name for entry in tables[:4])}"
        raise FormatError(path, "table of the boxes", got, "one", "name the one to use")
    return tables[0] if tables else None


def _layout(path: Path) -> _Layout:
    """What the header of a file says about the boxes in it."""
    plain = path.with_suffix("") if path.suffix.lower() in COMPRESSED else path
    if plain.suffix.lower() in em.SUFFIXES:
        volume = open_volume(path)
        shape, spacing, group, sampled = volume.shape_zyx, volume.voxel_spacing_angstrom, 1, volume.shape_zyx[0]
    else:
        header = mrc.read_header(path)
        depth, height, width = (header.stored_shape[axis] for axis in header.order)
        shape, spacing, group = (depth, height, width), header.voxel_spacing_angstrom, header.space_group
        sampled = header.cell_sampling_zyx[0]
    depth, height, width = shape
    images = plain.suffix.lower() == ".mrcs" and group == 0
    if height == width and depth == height and not images:
        return _Layout(1, height, spacing)
    if height == width and depth % height == 0:
        if group in _VOLUME_STACK_GROUPS or (sampled == height and depth > height):
            return _Layout(depth // height, height, spacing)
        if group >= 1:
            count = depth // height
            return _Layout(count, height, spacing, f"{path.name} was taken as {count} boxes of {height}^3 in a row")
    if group == 0 or plain.suffix.lower() == ".mrcs":
        got = f"{depth} images of {width} x {height}: a stack of two-dimensional tilt images"
        advice = "export 3D subtomograms, or extract boxes from the tomograms"
        raise FormatError(path, "content", got, "cubic boxes", advice)
    raise FormatError(path, "size", f"{width} x {height} x {depth}", "a cube", "crop the boxes to cubes first")


def _found(path: Path, folder: Path, layouts: dict[Path, _Layout]) -> tuple[list[tuple[Path, int]], list[str]]:
    """Boxes without a table that names them: the one file, or every file of the folder in natural order."""
    files, notes = [path], []
    if path.is_dir():
        every = natural_order(entry for entry in folder.rglob("*") if entry.is_file() and _is_box(entry))
        files = [entry for entry in every if not entry.name.split(".")[0].lower().endswith(COMPANIONS)]
        if len(files) < len(every):
            notes.append(f"{len(every) - len(files)} files that go with the boxes (CTF, weights, mask) were left out")
        if not files:
            raise FormatError(path, "folder", "without MRC or EM files", "boxes", "check the path")
    images: list[tuple[Path, int]] = []
    for file in files:
        layouts[file] = _layout(file)
        count = layouts[file].count
        images += [(file, _WHOLE_FILE)] if count == 1 else [(file, number) for number in range(count)]
    return images, notes


def _named(table: Path, names: Sequence[str], folder: Path, layouts: dict[Path, _Layout]) -> list[tuple[Path, int]]:
    """Boxes that a table names, in its order."""
    images = []
    places = box_tables.Places(table, folder)
    for row, name in enumerate(names):
        number, _, file_name = str(name).rpartition("@")
        file = places.find(file_name, row)
        if file not in layouts:
            layouts[file] = _layout(file)
        count = layouts[file].count
        if not number and count > 1:
            got = f"{name}, a stack of {count} boxes"
            raise FormatError(table, f"image name of row {row + 1}", got, "a box", "name one box as 000001@stack.mrcs")
        if number and not (number.isdigit() and 1 <= int(number) <= count):
            got = f"{name}, but that file holds {count}"
            raise FormatError(table, f"image name of row {row + 1}", got, f"a number from 1 to {count}")
        images.append((file, _WHOLE_FILE if count == 1 else int(number) - 1))
    return images


def _common_edge(layouts: dict[Path, _Layout]) -> int:
    first = next(iter(layouts))
    edge = layouts[first].edge
    for path, layout in layouts.items():
        if layout.edge != edge:
            raise FormatError(
                path, "box size", str(layout.edge), f"{edge} as in {first.name}", "give boxes of one size"
            )
    return edge


def _common_spacing(layouts: dict[Path, _Layout], stated: float | None) -> tuple[float | None, list[str]]:
    known = {p: layout.voxel_spacing_angstrom for p, layout in layouts.items() if layout.voxel_spacing_angstrom}
    first = next(iter(known), None)
    spacing = None if first is None else known[first]
    if stated is not None:
        differs = spacing is not None and abs(spacing - stated) > SPACING_TOLERANCE * stated
        return stated, [f"the headers say {spacing:g} A; {stated:g} A was asked for and used"] if differs else []
    if first is None or spacing is None:
        return None, ["the headers do not state a voxel size"]
    for path, other in known.items():
        if abs(other - spacing) > SPACING_TOLERANCE * spacing:
            expected = f"{spacing:g} A as in {first.name}"
            raise FormatError(path, "voxel size", f"{other:g} A", expected, "state the right one: --picks-spacing")
    return spacing, []


def _identity(folder: Path, image: tuple[Path, int]) -> str:
    """Name of a box: its path below the folder, and its number in a stack from 1."""
    path, number = image
    name = path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name
    return name if number == _WHOLE_FILE else f"{number + 1:06d}@{name}"


def _without_table(folder: Path, images: Sequence[tuple[Path, int]]) -> Particles:
    """One particle for each box, of which nothing else is known; a subfolder is taken as a tomogram."""
    return Particles.create(
        tomogram=[path.parent.name if path.parent != folder else folder.name for path, _ in images],
        position_zyx_angstrom=np.full((len(images), 3), np.nan),
        particle_id=[_identity(folder, image) for image in images],
    )
