"""OME-Zarr volumes, versions 0.4 (zarr 2) and 0.5 (zarr 3): the finest resolution is opened, chunks are read lazily.

The metadata is parsed and built in `tomosift.io.volumes.zarr_metadata`.
"""

import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
from numpy.typing import DTypeLike, NDArray

from tomosift.errors import FormatError
from tomosift.files import read_json
from tomosift.io.volumes.volume import ChunkedArray, ReorderedArray, Volume, check_spacing, storable
from tomosift.io.volumes.zarr_chunks import with_whole_chunks
from tomosift.io.volumes.zarr_metadata import (
    build_metadata,
    ome_attributes,
    parse_axes,
    parse_multiscale,
    parse_placement,
)

SUFFIXES = (".zarr",)
CHUNK = 64
ALLOWED_CODECS = frozenset(
    {"blosc", "bz2", "bytes", "crc32c", "gzip", "lz4", "sharding_indexed", "shuffle", "transpose", "zlib", "zstd"}
)
SMALLEST_LEVEL = 64
"""Voxels along the longest edge of the coarsest resolution that is written."""
WRITABLE = ("int8", "int16", "int32", "uint8", "uint16", "uint32", "float16", "float32", "float64")
_PROVENANCE = "tomosift"


def is_zarr(path: Path) -> bool:
    """Whether this folder is a zarr group or array of either version."""
    return any((path / name).exists() for name in ("zarr.json", ".zgroup", ".zarray", ".zattrs"))


def open_volume(path: Path) -> Volume:
    """Open the finest resolution of an OME-Zarr group, or one of its arrays by the array's own path.

    An array whose parent has no multiscale metadata opens with an unknown voxel size.

    Raises
    ------
    FormatError
        The folder is not zarr, its metadata is malformed, or the array is not a volume.
    """
    path = Path(path)
    node = _open_node(path)
    if isinstance(node, zarr.Group):
        return _open_entry(path, path, node, parse_multiscale(path, node)["datasets"][0])
    if is_zarr(path.parent) and isinstance(parent := _open_node(path.parent), zarr.Group):
        listed = ome_attributes(parent).get("multiscales") or [{}]
        entry = next((e for e in listed[0].get("datasets", []) if e.get("path") == path.name), None)
        if entry is not None:
            return _open_entry(path, path.parent, parent, entry)
    if node.ndim != 3:
        expected, advice = "three axes (z, y, x)", "open the OME-Zarr group"
        raise FormatError(path, "zarr array", f"of shape {node.shape}", expected, advice)
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

    Coarser levels are means over 2 x 2 x 2 voxels; their translation says where their first voxel is. The data is
    read slab by slab, so a memory map larger than memory can be written.

    Parameters
    ----------
    path
        The group's folder.
    data_zyx
        ``(z, y, x)``, sliced along z.
    voxel_spacing_angstrom
        None writes a scale of 1 without a unit, which is read back as unknown.
    origin_zyx_angstrom
        Position of the center of voxel 0.
    dtype
        Number format; by default the data's own where zarr has it, else float32.
    version
        "0.5" (zarr 3) or "0.4" (zarr 2), the one that older programs read.
    levels
        Number of resolutions; by default as many as bring the longest edge to 64 voxels.
    provenance
        How the volume was made, kept beside the OME metadata; see `read_provenance`.

    Raises
    ------
    ValueError
        The array is not a volume, or an argument has no such value.
    """
    path = Path(path)
    check_spacing(voxel_spacing_angstrom)
    kind = storable(data_zyx, dtype, WRITABLE)
    if version not in ("0.4", "0.5"):
        raise ValueError(f"OME-Zarr version is {version}, expected 0.4 or 0.5")
    if levels is not None and levels < 1:
        raise ValueError(f"levels is {levels}, expected at least 1")
    count = levels or 1 + max(0, int(np.ceil(np.log2(max(data_zyx.shape) / SMALLEST_LEVEL))))
    attributes = build_metadata(path.stem, count, voxel_spacing_angstrom, origin_zyx_angstrom, version)
    if provenance is not None:
        attributes = {**attributes, _PROVENANCE: dict(provenance)}
    with _folder_written_then_renamed(path) as temporary:
        group = zarr.create_group(str(temporary), zarr_format=3 if version == "0.5" else 2, attributes=attributes)
        _write_levels(group, data_zyx, count, kind, version)


def read_provenance(path: Path) -> Any:
    """Return what `write_volume` got as ``provenance``; None where it got none.

    Raises
    ------
    FormatError
        The folder is not zarr.
    """
    return dict(_open_node(path).attrs).get(_PROVENANCE)


def _open_node(path: Path) -> Any:
    """Return the zarr group or array in this folder."""
    if not path.is_dir():
        got = "missing" if not path.exists() else "a file"
        raise FormatError(path, "zarr store", got, "a folder", "check the path")
    if not is_zarr(path):
        raise FormatError(path, "zarr store", "a folder without zarr metadata", "zarr.json, .zgroup or .zarray")
    _check_codecs(path)
    try:
        return zarr.open(str(path), mode="r")
    except Exception as error:  # zarr raises whatever its parsers meet: JSON, key and type errors among them
        raise FormatError(path, "zarr metadata", f"unreadable ({error})", "zarr 2 or 3", "copy it again") from error


def _check_codecs(path: Path) -> None:
    """Refuse arrays with codecs other than plain compressors and filters: some execute what the data say."""
    names = (".zarray", "zarr.json")
    files = [file for name in names for file in (path / name, *sorted(path.glob(f"*/{name}"))) if file.is_file()]
    for file in files:
        if unknown := sorted(_list_codecs(read_json(file)) - ALLOWED_CODECS):
            expected = f"among {', '.join(sorted(ALLOWED_CODECS))}"
            raise FormatError(file, "codec", ", ".join(unknown), expected, "write the volume again with one of them")


def _list_codecs(node: Any) -> set[str]:
    """Names of compressor, filters and codecs in the metadata of an array."""
    if not isinstance(node, Mapping):
        return set()
    listed = [node.get("compressor"), *_as_list(node.get("filters")), *_as_list(node.get("codecs"))]
    names = {str(one.get("id", one.get("name"))) for one in listed if isinstance(one, Mapping)}
    for one in listed:
        inner = one.get("configuration") if isinstance(one, Mapping) else None
        names |= _list_codecs({"codecs": inner.get("codecs")}) if isinstance(inner, Mapping) else set()
    return names


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _open_entry(path: Path, folder: Path, group: Any, entry: Any) -> Volume:
    """Return one array of a group's multiscale image as a volume, its axes in z, y, x order."""
    multiscale = parse_multiscale(folder, group)
    axes = parse_axes(folder, multiscale)
    name = str(entry.get("path", "")) if isinstance(entry, Mapping) else ""
    if name.startswith("/") or ".." in Path(name).parts:
        raise FormatError(folder, "datasets", f"path {name!r}, outside of the folder", "arrays inside of it")
    array = group.get(name) if name else None
    if not isinstance(array, zarr.Array):
        got, expected = f"path {name!r} without an array", "an array for every level"
        raise FormatError(folder, "datasets", got, expected, "copy it again")
    if array.ndim != len(multiscale["axes"]):
        expected = f"the {len(multiscale['axes'])} of the metadata"
        raise FormatError(folder, f"array {name}", f"of {array.ndim} axes", expected)
    if 0 in array.shape or array.dtype.kind not in "iuf":
        got = f"{array.dtype} of shape {array.shape}"
        raise FormatError(folder, f"array {name}", got, "real numbers along every axis")
    placement = parse_placement(folder, multiscale, entry, axes, array.ndim)
    others = [axis for axis in range(array.ndim) if axis not in axes.order]
    if any(array.shape[axis] != 1 for axis in others):
        got = f"shape {array.shape} with several channels or time points"
        raise FormatError(path, "zarr array", got, "one volume", "split it first")
    chunked = ChunkedArray(path, with_whole_chunks(array))
    is_in_order = array.ndim == 3 and axes.order == (0, 1, 2)
    data = chunked if is_in_order else ReorderedArray(chunked, axes.order, dict.fromkeys(others, 0))
    return Volume(path, data, placement.voxel_spacing_angstrom, placement.origin_zyx_angstrom, placement.notes)


def _write_levels(group: Any, data_zyx: Any, levels: int, kind: np.dtype[Any], version: str) -> None:
    """Write the data slab by slab, then each coarser resolution from the one before."""
    finer = _create_array(group, "0", data_zyx.shape, kind, version)
    for start in range(0, data_zyx.shape[0], CHUNK):
        finer[start : start + CHUNK] = np.asarray(data_zyx[start : start + CHUNK]).astype(kind)
    for level in range(1, levels):
        shape = tuple(-(-size // 2) for size in finer.shape)
        coarser = _create_array(group, str(level), shape, kind, version)
        for start in range(0, shape[0], CHUNK):
            coarser[start : start + CHUNK] = _halve(finer[2 * start : 2 * (start + CHUNK)], kind)
        finer = coarser


def _create_array(group: Any, name: str, shape: tuple[int, ...], kind: np.dtype[Any], version: str) -> Any:
    """Return a new array of a group, in cubic chunks."""
    chunks = tuple(min(CHUNK, size) for size in shape)
    if version == "0.5":
        return group.create_array(name, shape=shape, chunks=chunks, dtype=kind, dimension_names=("z", "y", "x"))
    encoding = {"name": "v2", "separator": "/"}
    return group.create_array(name, shape=shape, chunks=chunks, dtype=kind, chunk_key_encoding=encoding)


def _halve(block: Any, kind: np.dtype[Any]) -> NDArray[Any]:
    """Return means over 2 x 2 x 2 voxels; an odd edge is repeated."""
    block = np.asarray(block, dtype=np.float64 if kind.itemsize > 4 else np.float32)
    block = np.pad(block, [(0, size % 2) for size in block.shape], mode="edge")
    depth, height, width = (size // 2 for size in block.shape)
    mean = block.reshape(depth, 2, height, 2, width, 2).mean(axis=(1, 3, 5))
    halved: NDArray[Any] = (np.rint(mean) if kind.kind in "iu" else mean).astype(kind)
    return halved


@contextmanager
def _folder_written_then_renamed(path: Path) -> Iterator[Path]:
    """Yield a temporary folder that takes the name ``path`` on success: renaming alone cannot replace a full folder."""
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
