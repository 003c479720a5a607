"""OME-Zarr volumes, versions 0.4 (zarr 2) and 0.5 (zarr 3): multiscale metadata read and written, chunks read lazily.

Source: the OME-NGFF specification, https://ngff.openmicroscopy.org, sections ``multiscales`` and
``coordinateTransformations``. Of the latter only scale and translation exist in these versions.
"""

import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
from numpy.typing import DTypeLike, NDArray

from tomosift.errors import FormatError
from tomosift.io.volumes.tiff import ANGSTROM_PER_UNIT
from tomosift.io.volumes.volume import ChunkedArray, ReorderedArray, Volume, check_spacing, cubic_spacing, storable
from tomosift.io.volumes.zarr_chunks import with_whole_chunks

SUFFIXES = (".zarr",)
CHUNK = 64
SMALLEST_LEVEL = 64
_PROVENANCE = "tomosift"
WRITABLE = ("int8", "int16", "int32", "uint8", "uint16", "uint32", "float16", "float32", "float64")


@dataclass(frozen=True)
class Level:
    """One resolution of a multiscale volume."""

    path: str
    shape_zyx: tuple[int, int, int]
    voxel_spacing_angstrom: float | None
    origin_zyx_angstrom: tuple[float, float, float]
    notes: tuple[str, ...]


def is_zarr(path: Path) -> bool:
    """Whether this folder is a zarr group or array of either version."""
    return any((path / name).exists() for name in ("zarr.json", ".zgroup", ".zarray", ".zattrs"))


def read_levels(path: Path) -> tuple[Level, ...]:
    """The resolutions of an OME-Zarr group, finest first as the specification demands.

    Raises
    ------
    FormatError
        If the folder is no zarr group, or its multiscale metadata is missing or not that of a volume.
    """
    path = Path(path)
    group = _opened(path)
    if not isinstance(group, zarr.Group):
        raise FormatError(path, "zarr node", "an array", "a group with multiscale metadata", "open its parent folder")
    multiscale = _multiscale(path, group)
    order, _, notes = _axes(path, multiscale)
    return tuple(_level(path, group, multiscale, entry, order, notes)[0] for entry in multiscale["datasets"])


def open_volume(path: Path, level: int = 0) -> Volume:
    """Open one resolution of an OME-Zarr group (0 is the finest), or one array of it by its own path.

    An array whose parent carries no multiscale metadata opens with an unknown voxel size.

    Raises
    ------
    FormatError
        If the folder is not zarr, the metadata is broken, or the array is not a volume.
    ValueError
        If there is no such level.
    """
    path = Path(path)
    node = _opened(path)
    if isinstance(node, zarr.Group):
        multiscale = _multiscale(path, node)
        entries = multiscale["datasets"]
        if not 0 <= level < len(entries):
            raise ValueError(f"{path} has {len(entries)} resolutions, got level {level}")
        return _volume(path, path, node, multiscale, entries[level])
    if is_zarr(path.parent) and isinstance(parent := _opened(path.parent), zarr.Group):
        listed = _attributes(parent).get("multiscales") or [{}]
        entry = next((e for e in listed[0].get("datasets", []) if e.get("path") == path.name), None)
        if entry is not None:
            return _volume(path, path.parent, parent, _multiscale(path.parent, parent), entry)
    if node.ndim != 3:
        raise FormatError(
            path, "zarr array", f"of shape {node.shape}", "three axes (z, y, x)", "open the OME-Zarr group"
        )
    return Volume(
        path,
        ChunkedArray(path, with_whole_chunks(node)),
        None,
        notes=("a bare zarr array does not state a voxel size; its axes were taken as z, y, x",),
    )


def write_volume(
    path: Path,
    data_zyx: Any,
    voxel_spacing_angstrom: float | None,
    *,
    origin_zyx_angstrom: tuple[float, float, float] = (0.0, 0.0, 0.0),
    dtype: DTypeLike | None = None,
    version: Literal["0.4", "0.5"] = "0.5",
    levels: int | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Write an OME-Zarr group in Angstrom; it is complete or absent, and replaces one of the same name.

    Coarser levels are means over 2 x 2 x 2 voxels; their translation says where their first voxel lies. The data is
    read slab by slab, so a memory map larger than memory can be written.

    Parameters
    ----------
    voxel_spacing_angstrom
        None writes a scale of 1 without a unit, which is read back as unknown.
    version
        "0.5" (zarr 3) or "0.4" (zarr 2), the one that older programs read.
    levels
        Number of resolutions; by default as many as bring the longest edge to 64 voxels.
    provenance
        What the volume was made from, kept beside the OME metadata; see `read_provenance`.
    """
    path = Path(path)
    check_spacing(voxel_spacing_angstrom)
    kind = storable(data_zyx, dtype, WRITABLE)
    if version not in ("0.4", "0.5"):
        raise ValueError(f"OME-Zarr version is {version}, expected 0.4 or 0.5")
    if levels is not None and levels < 1:
        raise ValueError(f"levels is {levels}, expected at least 1")
    count = levels or 1 + max(0, int(np.ceil(np.log2(max(data_zyx.shape) / SMALLEST_LEVEL))))
    metadata = _metadata(path.stem, count, voxel_spacing_angstrom, origin_zyx_angstrom, version)
    attributes = {"ome": metadata} if version == "0.5" else metadata
    if provenance is not None:
        attributes = {**attributes, _PROVENANCE: dict(provenance)}
    with _folder_written_then_renamed(path) as temporary:
        group = zarr.create_group(str(temporary), zarr_format=3 if version == "0.5" else 2, attributes=attributes)
        finer = _array(group, "0", data_zyx.shape, kind, version)
        for start in range(0, data_zyx.shape[0], CHUNK):
            finer[start : start + CHUNK] = np.asarray(data_zyx[start : start + CHUNK]).astype(kind)
        for level in range(1, count):
            shape = tuple(-(-size // 2) for size in finer.shape)
            coarser = _array(group, str(level), shape, kind, version)
            for start in range(0, shape[0], CHUNK):
                coarser[start : start + CHUNK] = _halved(finer[2 * start : 2 * (start + CHUNK)], kind)
            finer = coarser


def read_provenance(path: Path) -> Any:
    """What `write_volume` was told that the volume was made from; None where it was told nothing.

    Raises
    ------
    FormatError
        If the folder is not zarr.
    """
    return dict(_opened(path).attrs).get(_PROVENANCE)


def _opened(path: Path) -> Any:
    if not path.is_dir():
        raise FormatError(
            path, "zarr store", "missing" if not path.exists() else "a file", "a folder", "check the path"
        )
    if not is_zarr(path):
        raise FormatError(path, "zarr store", "a folder without zarr metadata", "zarr.json, .zgroup or .zarray")
    try:
        return zarr.open(str(path), mode="r")
    except Exception as error:  # zarr raises whatever its parsers meet: JSON, key and type errors among them
        raise FormatError(path, "zarr metadata", f"unreadable ({error})", "zarr 2 or 3", "copy it again") from error


def _attributes(group: Any) -> Mapping[str, Any]:
    """The OME metadata: under ``ome`` since 0.5, at the top before."""
    attributes = dict(group.attrs)
    ome = attributes.get("ome", attributes)
    return ome if isinstance(ome, Mapping) else {}


def _multiscale(path: Path, group: Any) -> Mapping[str, Any]:
    listed = _attributes(group).get("multiscales")
    first = listed[0] if isinstance(listed, list) and listed else None
    if not isinstance(first, Mapping) or not isinstance(first.get("datasets"), list) or not first["datasets"]:
        raise FormatError(path, "multiscales", "missing", "OME-Zarr metadata", "open one of its arrays by path instead")
    return first


def _axes(
    path: Path, multiscale: Mapping[str, Any]
) -> tuple[tuple[int, int, int], list[float | None], tuple[str, ...]]:
    """Stored axes that are z, y, x, the Angstrom per unit of each (None where no unit is stated), and what was odd."""
    axes = multiscale.get("axes", [])
    names = [axis.get("name", "") if isinstance(axis, Mapping) else str(axis) for axis in axes]
    if not {"x", "y", "z"} <= set(names):
        raise FormatError(path, "axes", f"{names}", "z, y and x among them", "this is not a volume")
    order = (names.index("z"), names.index("y"), names.index("x"))
    units = [str(axes[axis].get("unit", "")).lower() if isinstance(axes[axis], Mapping) else "" for axis in order]
    notes = []
    if any(unit not in ANGSTROM_PER_UNIT for unit in units):
        notes.append(f"the unit of the axes is {units[0] or 'missing'}; Angstrom was assumed")
    if list(order) != sorted(order):
        notes.append(f"the axis order in the file is {','.join(names)}; the data was put in z,y,x")
    return order, [ANGSTROM_PER_UNIT.get(unit) for unit in units], tuple(notes)


def _transformed(entries: Any, number: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scale and translation of a list of transformations, applied in its order."""
    scale, translation = np.ones(number), np.zeros(number)
    for entry in entries or []:
        if entry.get("type") == "scale":
            factor = np.asarray(entry["scale"], dtype=np.float64)
            scale, translation = scale * factor, translation * factor
        elif entry.get("type") == "translation":
            translation = translation + np.asarray(entry["translation"], dtype=np.float64)
    return scale, translation


def _placement(
    multiscale: Mapping[str, Any], entry: Any, number: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scale and translation of a level: its own, then those common to all levels."""
    scale, translation = _transformed(entry.get("coordinateTransformations"), number)
    common_scale, common_translation = _transformed(multiscale.get("coordinateTransformations"), number)
    return scale * common_scale, translation * common_scale + common_translation


def _level(
    path: Path,
    group: Any,
    multiscale: Mapping[str, Any],
    entry: Any,
    order: tuple[int, int, int],
    notes: tuple[str, ...],
) -> tuple[Level, Any]:
    name = str(entry.get("path", "")) if isinstance(entry, Mapping) else ""
    array = group.get(name) if name else None
    if not isinstance(array, zarr.Array):
        raise FormatError(
            path, "datasets", f"path {name!r} without an array", "an array for every level", "copy it again"
        )
    if array.ndim != len(multiscale["axes"]):
        raise FormatError(
            path, f"array {name}", f"of {array.ndim} axes", f"the {len(multiscale['axes'])} of the metadata"
        )
    try:
        scale, translation = _placement(multiscale, entry, array.ndim)
        finest, _ = _placement(multiscale, multiscale["datasets"][0], array.ndim)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FormatError(path, "coordinateTransformations", f"broken ({error})", "numbers, one per axis") from error
    units = _axes(path, multiscale)[1]
    unit_stated = None not in units
    factor = np.asarray([unit or 1.0 for unit in units])
    sizes, origin = scale[list(order)] * factor, translation[list(order)] * factor
    spacing, why = cubic_spacing((sizes[0], sizes[1], sizes[2]), unit_stated)
    if not unit_stated and np.all(finest[list(order)] == 1.0):
        spacing, why = None, "the voxel size is 1 without a unit, which programs write when they do not know it"
    depth, height, width = (int(array.shape[axis]) for axis in order)
    start = (float(origin[0]), float(origin[1]), float(origin[2]))
    return Level(name, (depth, height, width), spacing, start, (*notes, why) if why else notes), array


def _volume(path: Path, folder: Path, group: Any, multiscale: Mapping[str, Any], entry: Any) -> Volume:
    order, _, notes = _axes(folder, multiscale)
    level, array = _level(folder, group, multiscale, entry, order, notes)
    others = [axis for axis in range(array.ndim) if axis not in order]
    if any(array.shape[axis] != 1 for axis in others):
        got = f"shape {array.shape} with several channels or time points"
        raise FormatError(path, "zarr array", got, "one volume", "split it first")
    chunked = ChunkedArray(path, with_whole_chunks(array))
    in_order = array.ndim == 3 and order == (0, 1, 2)
    data = chunked if in_order else ReorderedArray(chunked, order, dict.fromkeys(others, 0))
    return Volume(path, data, level.voxel_spacing_angstrom, level.origin_zyx_angstrom, level.notes)


def _metadata(
    name: str, count: int, spacing: float | None, origin_zyx: tuple[float, float, float], version: str
) -> dict[str, Any]:
    unit = {"unit": "angstrom"} if spacing is not None else {}
    datasets = []
    for level in range(count):
        # The mean of 2^k voxels lies half of 2^k - 1 voxels behind the first of them.
        edge = (spacing or 1.0) * 2**level
        shift = (2**level - 1) / 2 * (spacing or 1.0)
        transforms: list[dict[str, Any]] = [{"type": "scale", "scale": [edge] * 3}]
        if level or any(origin_zyx):
            transforms.append({"type": "translation", "translation": [float(o) + shift for o in origin_zyx]})
        datasets.append({"path": str(level), "coordinateTransformations": transforms})
    axes = [{"name": axis, "type": "space", **unit} for axis in "zyx"]
    multiscale = {"name": name, "axes": axes, "datasets": datasets, "type": "mean"}
    if version == "0.5":
        return {"version": version, "multiscales": [multiscale]}
    return {"multiscales": [{"version": version, **multiscale}]}


def _array(group: Any, name: str, shape: tuple[int, ...], kind: np.dtype[Any], version: str) -> Any:
    chunks = tuple(min(CHUNK, size) for size in shape)
    if version == "0.5":
        return group.create_array(name, shape=shape, chunks=chunks, dtype=kind, dimension_names=("z", "y", "x"))
    encoding = {"name": "v2", "separator": "/"}
    return group.create_array(name, shape=shape, chunks=chunks, dtype=kind, chunk_key_encoding=encoding)


def _halved(block: Any, kind: np.dtype[Any]) -> NDArray[Any]:
    """Means over 2 x 2 x 2 voxels; an odd edge is repeated."""
    block = np.asarray(block, dtype=np.float64 if kind.itemsize > 4 else np.float32)
    block = np.pad(block, [(0, size % 2) for size in block.shape], mode="edge")
    depth, height, width = (size // 2 for size in block.shape)
    mean = block.reshape(depth, 2, height, 2, width, 2).mean(axis=(1, 3, 5))
    halved: NDArray[Any] = (np.rint(mean) if kind.kind in "iu" else mean).astype(kind)
    return halved


@contextmanager
def _folder_written_then_renamed(path: Path) -> Iterator[Path]:
    """As `tomosift.files.written_then_renamed`, for a folder: renaming cannot replace a folder that is not empty."""
    path.parent.mkdir(parents=True, exist_ok=True)
    token = secrets.token_hex(4)
    temporary, replaced = path.with_name(f".{token}-{path.name}"), path.with_name(f".{token}-replaced-{path.name}")
    try:
        yield temporary
        if path.exists():
            path.rename(replaced)
        temporary.rename(path)
    finally:
        for folder in (temporary, replaced):
            shutil.rmtree(folder, ignore_errors=True)
