"""Subtomograms that another program extracted: a folder of files, a stack of volumes, or a table that names them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomosift.errors import FormatError
from tomosift.io.file_content import named_errors, suffix_of
from tomosift.io.subtomogram_tables import (
    FileFinder,
    has_image_names,
    natural_order,
    particles_of_table,
    read_table,
)
from tomosift.io.volumes import em, mrc, open_volume
from tomosift.io.volumes.mrc_header import read_header
from tomosift.io.volumes.volume import HEADER_SPACING_TOLERANCE, SupportsSlicing, check_spacing
from tomosift.particles import Particles

TABLE_SUFFIXES = (".star", ".csv")
COMPANIONS = ("_ctf", "_weights", "_weight", "_wedge", "_mask", "_multi")
"""Endings of files that RELION, Warp and others write beside each subtomogram."""
_WHOLE_FILE = -1
_VOLUME_STACK_GROUPS = range(401, 631)


@dataclass(frozen=True)
class SubtomogramFiles:
    """n cubic subtomograms on disk, opened but not read; axes z, y, x and contrast as in the files."""

    path: Path
    box_size: int
    voxel_spacing_angstrom: float | None
    """None where neither the headers nor the caller state it."""
    particles: Particles
    """n rows; positions and rotations are NaN where no table states them."""
    images: tuple[tuple[Path, int], ...]
    """n pairs: the file, and the number of the subtomogram in it from 0, or -1 where the file is one subtomogram."""
    notes: tuple[str, ...] = ()
    """Sentences on what was left out or assumed."""

    def __len__(self) -> int:
        return len(self.images)

    def volumes(self, rows: Sequence[int] | NDArray[Any]) -> NDArray[np.float32]:
        """Read the subtomograms of these rows, ``(k, d, d, d)``.

        Raises
        ------
        FormatError
            A subtomogram holds NaN or infinite voxels, or its file is missing or damaged since it was opened.
        """
        return self._read(rows, {})

    def chunks(self, size: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Yield all subtomograms in order, ``size`` at a time: row numbers ``(k,)`` and volumes ``(k, d, d, d)``."""
        if size < 1:
            raise ValueError(f"chunk size is {size}, expected at least 1")
        opened: dict[Path, SupportsSlicing] = {}
        for start in range(0, len(self), size):
            rows = np.arange(start, min(start + size, len(self)), dtype=np.int64)
            yield rows, self._read(rows, opened)

    def _read(self, rows: Sequence[int] | NDArray[Any], opened: dict[Path, SupportsSlicing]) -> NDArray[np.float32]:
        """Read these rows; ``opened`` holds the file that was read last."""
        edge = self.box_size
        boxes = np.empty((len(rows), edge, edge, edge), np.float32)
        for k, row in enumerate(rows):
            path, number = self.images[row]
            if path not in opened:
                opened.clear()  # one file at a time: a folder of subtomograms must not accumulate in memory
                opened[path] = open_volume(path).data
            data = opened[path]
            boxes[k] = data[:] if number == _WHOLE_FILE else data[number * edge : (number + 1) * edge]
            if wrong := int((~np.isfinite(boxes[k])).sum()):
                name, got = self.particles.particle_id[row], f"{wrong} of {edge**3} voxels NaN or infinite"
                raise FormatError(path, f"content of subtomogram {name}", got, "numbers", "leave it out")
        return boxes


@dataclass(frozen=True)
class _Layout:
    """How many subtomograms a file holds, and of which size."""

    count: int
    edge: int
    voxel_spacing_angstrom: float | None
    note: str = ""


def open_subtomogram_files(
    path: Path | str, *, voxel_spacing_angstrom: float | None = None, table: Path | str | None = None
) -> SubtomogramFiles:
    """Open subtomograms that another program extracted, and what is known of them; only headers are read.

    Parameters
    ----------
    path
        A folder of MRC or EM files (each subfolder is then a tomogram), an MRC stack of volumes, a single subtomogram,
        or a STAR or CSV table that names them (``rlnImageName``, also as ``000001@stack.mrcs``; a CSV column
        ``file``). A table in the folder, or one with the name of the stack, is used.
    voxel_spacing_angstrom
        Replaces the voxel size of the headers.
    table
        The table, where there are several beside the subtomograms.

    Raises
    ------
    FormatError
        There are no subtomograms, they are not cubes or differ in size or voxel spacing, they are stacks of
        two-dimensional tilt images, or the table names files that do not exist.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     for k in range(3):
    ...         mrc.write_volume(Path(folder, f"particle_{k}.mrc"), np.zeros((8, 8, 8), np.float32), 10.0)
    ...     subtomograms = open_subtomogram_files(folder)
    ...     len(subtomograms), subtomograms.box_size, subtomograms.voxel_spacing_angstrom
    (3, 8, 10.0)
    """
    path = Path(path)
    check_spacing(voxel_spacing_angstrom)
    with named_errors(path, "subtomograms"):
        return _open_files(path, voxel_spacing_angstrom, table)


def _open_files(path: Path, voxel_spacing_angstrom: float | None, table: Path | str | None) -> SubtomogramFiles:
    if not path.exists():
        raise FormatError(path, "subtomograms", "missing", "a folder, a stack of volumes or a table", "check the path")
    table_path = Path(table) if table is not None else path if _is_table(path) else _find_table_beside(path)
    folder = path if path.is_dir() else path.parent
    rows = None if table_path is None else read_table(table_path, voxel_spacing_angstrom)
    layouts: dict[Path, _Layout] = {}
    notes: list[str] = []
    if rows is not None and rows.names is not None:
        images = _list_named_images(rows.path, rows.names, folder, layouts)
    else:
        images, notes = _list_images(path, folder, layouts)
        if rows is not None and len(rows.columns) != len(images):
            got, expected = f"{len(rows.columns)} rows for {len(images)} subtomograms", "one row for each subtomogram"
            raise FormatError(rows.path, "table", got, expected, "name the files in a column file")
    edge = _common_edge(layouts)
    spacing, spacing_notes = _common_spacing(layouts, voxel_spacing_angstrom)
    if rows is None:
        particles = _particles_without_table(folder, images)
    else:
        names = [_image_name(folder, image) for image in images]
        particles, table_notes = particles_of_table(rows, names, folder, spacing)
        notes += table_notes
    notes += [*(layout.note for layout in layouts.values() if layout.note), *spacing_notes]
    return SubtomogramFiles(path, edge, spacing, particles, tuple(images), tuple(notes))


def _is_table(path: Path) -> bool:
    """Whether the name is that of a table."""
    return path.is_file() and path.name.lower().removesuffix(".gz").endswith(TABLE_SUFFIXES)


def _is_volume(path: Path) -> bool:
    """Whether the name is that of an MRC or EM file that is not hidden."""
    return suffix_of(path) in (*mrc.SUFFIXES, *em.SUFFIXES) and not path.name.startswith(".")


def _find_table_beside(path: Path) -> Path | None:
    """Return the table in a folder, or the one with a stack's name; None without one."""
    if path.is_file():
        beside = [path.with_suffix(suffix) for suffix in TABLE_SUFFIXES]
        return next((candidate for candidate in beside if candidate.exists()), None)
    tables = [entry for entry in natural_order(path.iterdir()) if _is_table(entry) and has_image_names(entry)]
    if len(tables) > 1:
        got = f"several: {', '.join(entry.name for entry in tables[:4])}"
        raise FormatError(path, "table of the subtomograms", got, "one", "name the one to use")
    return tables[0] if tables else None


def _read_layout(path: Path) -> _Layout:
    """Return what the header of a file says about the subtomograms in it."""
    suffix = suffix_of(path)
    if suffix in em.SUFFIXES:
        volume = open_volume(path)
        shape, spacing, group, sampled = volume.shape_zyx, volume.voxel_spacing_angstrom, 1, volume.shape_zyx[0]
    else:
        header = read_header(path)
        depth, height, width = (header.stored_shape[axis] for axis in header.order)
        shape, spacing, group = (depth, height, width), header.voxel_spacing_angstrom, header.space_group
        sampled = header.cell_sampling_zyx[0]
    depth, height, width = shape
    is_image_stack = suffix == ".mrcs" and group == 0
    if height == width and depth == height and not is_image_stack:
        return _Layout(1, height, spacing)
    if height == width and depth % height == 0:
        if group in _VOLUME_STACK_GROUPS or (sampled == height and depth > height):
            return _Layout(depth // height, height, spacing)
        if group >= 1:
            count = depth // height
            return _Layout(
                count, height, spacing, f"{path.name} was read as a stack of {count} subtomograms of {height}^3"
            )
    if group == 0 or suffix == ".mrcs":
        got = f"{depth} images of {width} x {height}: a stack of two-dimensional tilt images"
        advice = "export 3D subtomograms, or extract them from the tomograms"
        raise FormatError(path, "content", got, "cubic subtomograms", advice)
    raise FormatError(path, "size", f"{width} x {height} x {depth}", "a cube", "crop to cubes first")


def _list_images(path: Path, folder: Path, layouts: dict[Path, _Layout]) -> tuple[list[tuple[Path, int]], list[str]]:
    """Return the subtomograms of one file or of every file of the folder, in natural order, and notes."""
    files, notes = [path], []
    if path.is_dir():
        every = natural_order(entry for entry in folder.rglob("*") if entry.is_file() and _is_volume(entry))
        files = [entry for entry in every if not entry.name.split(".")[0].lower().endswith(COMPANIONS)]
        if len(files) < len(every):
            skipped = len(every) - len(files)
            notes.append(f"{skipped} files beside the subtomograms (CTF, weights, mask) were left out")
        if not files:
            raise FormatError(path, "folder", "without MRC or EM files", "subtomograms", "check the path")
    images: list[tuple[Path, int]] = []
    for file in files:
        layouts[file] = _read_layout(file)
        count = layouts[file].count
        images += [(file, _WHOLE_FILE)] if count == 1 else [(file, number) for number in range(count)]
    return images, notes


def _list_named_images(
    table: Path, names: Sequence[str], folder: Path, layouts: dict[Path, _Layout]
) -> list[tuple[Path, int]]:
    """Return the subtomograms that a table names, in its order."""
    images = []
    finder = FileFinder(table, folder)
    for row, name in enumerate(names):
        number, _, file_name = str(name).rpartition("@")
        file = finder.find(file_name, row)
        if file not in layouts:
            layouts[file] = _read_layout(file)
        count = layouts[file].count
        if not number and count > 1:
            got, advice = f"{name}, a stack of {count} subtomograms", "name one of them as 000001@stack.mrcs"
            raise FormatError(table, f"image name of row {row + 1}", got, "a subtomogram", advice)
        if number and not (number.isdigit() and 1 <= int(number) <= count):
            got = f"{name}, but that file holds {count}"
            raise FormatError(table, f"image name of row {row + 1}", got, f"a number from 1 to {count}")
        images.append((file, _WHOLE_FILE if count == 1 else int(number) - 1))
    return images


def _common_edge(layouts: dict[Path, _Layout]) -> int:
    """Return the one box size; `FormatError` where files differ."""
    first = next(iter(layouts))
    edge = layouts[first].edge
    for path, layout in layouts.items():
        if layout.edge != edge:
            raise FormatError(
                path, "box size", str(layout.edge), f"{edge} as in {first.name}", "give subtomograms of one size"
            )
    return edge


def _common_spacing(layouts: dict[Path, _Layout], requested: float | None) -> tuple[float | None, list[str]]:
    """Return the requested voxel spacing or the one of the headers, and notes; `FormatError` where headers differ."""
    known = {p: layout.voxel_spacing_angstrom for p, layout in layouts.items() if layout.voxel_spacing_angstrom}
    first = next(iter(known), None)
    spacing = None if first is None else known[first]
    if requested is not None:
        differs = spacing is not None and abs(spacing - requested) > HEADER_SPACING_TOLERANCE * requested
        note = f"the headers say {spacing:g} A; the requested {requested:g} A was used"
        return requested, [note] if differs else []
    if first is None or spacing is None:
        return None, ["the headers do not state a voxel size"]
    for path, other in known.items():
        if abs(other - spacing) > HEADER_SPACING_TOLERANCE * spacing:
            expected = f"{spacing:g} A as in {first.name}"
            raise FormatError(path, "voxel size", f"{other:g} A", expected, "state the right one: --picks-spacing")
    return spacing, []


def _image_name(folder: Path, image: tuple[Path, int]) -> str:
    """Return the name of a subtomogram: its path below the folder, and its number in a stack from 1."""
    path, number = image
    name = path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name
    return name if number == _WHOLE_FILE else f"{number + 1:06d}@{name}"


def _particles_without_table(folder: Path, images: Sequence[tuple[Path, int]]) -> Particles:
    """Return a particle for each subtomogram with names only; a subfolder is a tomogram."""
    return Particles.create(
        tomogram=[path.parent.name if path.parent != folder else folder.name for path, _ in images],
        position_zyx_angstrom=np.full((len(images), 3), np.nan),
        particle_id=[_image_name(folder, image) for image in images],
    )
