"""MRC volumes: MRC2014, its older dialects and what EMDB, IMOD, RELION, Warp and SerialEM make of it.

Source: Cheng et al. 2015, J. Struct. Biol. 192:146 (MRC2014); IMOD's ``mrc_format`` page for the byte flag and old
headers. Axes are put in z, y, x order here: the header's ``mapc, mapr, maps`` say which axis is stored fastest.
"""

import bz2
import gzip
from collections.abc import Iterable
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
from mrcfile.dtypes import HEADER_DTYPE
from numpy.typing import DTypeLike, NDArray

from tomosift.errors import FormatError
from tomosift.files import written_then_renamed
from tomosift.io.volumes.volume import Volume, check_spacing, cubic_spacing, storable

SUFFIXES = (".mrc", ".rec", ".map", ".ali", ".st", ".mrcs", ".ccp4")
HEADER_BYTES = 1024
IMOD_STAMP = 1146047817
WRITABLE = ("int8", "int16", "uint16", "float16", "float32")
_DTYPES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}
_REFUSED = {
    3: "complex 16-bit integers (a Fourier transform)",
    4: "complex 32-bit numbers (a Fourier transform)",
    16: "RGB color",
    101: "packed 4-bit integers",
}


@dataclass(frozen=True)
class MrcHeader:
    """What the 1024 bytes say, in z, y, x order."""

    stored_shape: tuple[int, int, int]
    """Sections, rows, columns as stored."""
    order: tuple[int, int, int]
    """Stored axes that are z, y, x."""
    dtype: np.dtype[Any]
    data_offset: int
    cell_sampling_zyx: tuple[int, int, int]
    """``mz, my, mx``."""
    space_group: int
    """0: images; 1: a volume; 401 and up: a stack of volumes."""
    voxel_spacing_angstrom: float | None
    origin_zyx_angstrom: tuple[float, float, float]
    notes: tuple[str, ...]


def read_header(path: Path) -> MrcHeader:
    """Read and judge the header alone; also of compressed files.

    Raises
    ------
    FormatError
        If the header is cut short, is not an MRC header, or its voxels are complex, colored or packed.
    """
    with _opened(path) as stream:
        try:
            block = stream.read(HEADER_BYTES)
        except (OSError, EOFError) as error:
            raise FormatError(path, "compressed data", f"broken ({error})", "a whole file", "copy it again") from error
    return _parse(path, block)


def open_volume(path: Path) -> Volume:
    """Open an MRC file: memory-mapped, or read whole if it is gzip or bzip2 compressed.

    Raises
    ------
    FormatError
        As `read_header`, or if the file holds fewer voxels than its header says.
    """
    path = Path(path)
    header = read_header(path)
    count = int(np.prod(header.stored_shape, dtype=np.int64))
    expected = header.data_offset + count * header.dtype.itemsize
    notes = list(header.notes)
    if _decompressor(path) is None:
        found = path.stat().st_size
        _check_length(path, header, found, expected)
        stored: NDArray[Any] = np.memmap(path, header.dtype, "r", header.data_offset, header.stored_shape)
    else:
        with _opened(path) as stream:
            try:
                content = stream.read()
            except (OSError, EOFError) as error:
                raise FormatError(
                    path, "compressed data", f"broken ({error})", "a whole file", "copy it again"
                ) from error
        found = len(content)
        _check_length(path, header, found, expected)
        stored = np.frombuffer(content, header.dtype, count, header.data_offset).reshape(header.stored_shape)
    if found > expected:
        notes.append(f"the file is {found - expected} bytes longer than its header says; they were left out")
    data = stored.transpose(header.order)
    return Volume(path, data, header.voxel_spacing_angstrom, header.origin_zyx_angstrom, tuple(notes))


def write_volume(
    path: Path,
    data_zyx: Any,
    voxel_spacing_angstrom: float | None,
    *,
    origin_zyx_angstrom: tuple[float, float, float] = (0.0, 0.0, 0.0),
    dtype: DTypeLike | None = None,
    stack: bool = False,
) -> None:
    """Write MRC2014 with axis order x, y, z; the file is complete or absent.

    Parameters
    ----------
    path
        Ends in .mrc, .rec, .map or their kin; with .gz or .bz2 behind it the file is compressed.
    data_zyx
        ``(z, y, x)``; with ``stack``, ``(n, d, d, d)``, written as a volume stack (space group 401).
    voxel_spacing_angstrom
        None writes 0, which readers take as unknown.
    dtype
        int8, int16, uint16, float16 or float32; by default the data's own where MRC has it, else float32.
    """
    path, data = Path(path), np.asarray(data_zyx)
    if stack and data.ndim != 4:
        raise ValueError(f"a volume stack has four axes (n, z, y, x), got shape {data.shape}")
    check_spacing(voxel_spacing_angstrom)
    kind = storable(data[0] if stack and len(data) else data, dtype, WRITABLE)
    compression = {".gz": "gzip", ".bz2": "bzip2"}.get(path.suffix.lower())
    with written_then_renamed(path) as temporary, mrcfile.new(temporary, compression=compression) as mrc:
        mrc.set_data(np.ascontiguousarray(data, dtype=kind))
        if not stack:
            mrc.set_volume()
        mrc.voxel_size = 0.0 if voxel_spacing_angstrom is None else float(voxel_spacing_angstrom)
        mrc.header.origin = tuple(float(value) for value in origin_zyx_angstrom[::-1])


def write_stack(
    path: Path, parts: Iterable[NDArray[Any]], count: int, box_size: int, voxel_spacing_angstrom: float
) -> None:
    """Write ``count`` volumes of small integers as a volume stack of int8, part by part ``(b, d, d, d)``.

    The stack need not fit into memory, so the header says that minimum, maximum, mean and deviation are not known. The
    file is complete or absent.

    Raises
    ------
    ValueError
        When the parts are fewer or more volumes than said.
    """
    check_spacing(voxel_spacing_angstrom)
    shape = (count, box_size, box_size, box_size)
    with written_then_renamed(path) as temporary, mrcfile.new_mmap(temporary, shape, mrc_mode=0) as mrc:
        done = 0
        for part in parts:
            mrc.data[done : done + len(part)] = part
            done += len(part)
        if done != count:
            raise ValueError(f"{path} got {done} volumes, expected {count}")
        mrc.voxel_size = voxel_spacing_angstrom
        mrc.reset_header_stats()


def _decompressor(path: Path) -> type[gzip.GzipFile] | type[bz2.BZ2File] | None:
    try:
        with path.open("rb") as stream:
            magic = stream.read(4)
    except IsADirectoryError as error:
        raise FormatError(path, "file", "a folder", "an MRC file") from error
    if magic[:2] == b"\x1f\x8b":
        return gzip.GzipFile
    return bz2.BZ2File if magic[:3] == b"BZh" else None


def _opened(path: Path) -> BufferedReader | gzip.GzipFile | bz2.BZ2File:
    decompressor = _decompressor(path)
    return path.open("rb") if decompressor is None else decompressor(path, "rb")


def _check_length(path: Path, header: MrcHeader, found: int, expected: int) -> None:
    if found >= expected:
        return
    sections, rows, columns = header.stored_shape
    what = f"{columns} x {rows} x {sections} voxels of {header.dtype.name}"
    raise FormatError(
        path, "file length", f"{found} bytes", f"{expected} for {what}", "the file is cut short: copy it again"
    )


def _parse(path: Path, block: bytes) -> MrcHeader:
    if len(block) < HEADER_BYTES:
        got = "empty" if not block else f"{len(block)} bytes"
        raise FormatError(path, "MRC header", got, f"{HEADER_BYTES} bytes", "the file is cut short: copy it again")
    header = _in_right_byte_order(path, block)
    notes: list[str] = []
    mode = int(header["mode"])
    if mode not in _DTYPES:
        raise FormatError(
            path, "mode", f"{mode}, {_REFUSED[mode]}", "real voxels: mode 0, 1, 2, 6 or 12", "convert it to mode 2"
        )
    dtype = np.dtype(_DTYPES[mode]).newbyteorder(header.dtype["mode"].byteorder)
    if mode == 0 and (reason := _unsigned_bytes(header)):
        dtype = np.dtype(np.uint8)
        notes.append(reason)
    extended = int(header["nsymbt"])
    if extended < 0:
        raise FormatError(path, "extended header", f"{extended} bytes long", "0 or more", "the header is damaged")
    order, note = _axis_order(path, header)
    notes += [note] if note else []
    shape = (int(header["nz"]), int(header["ny"]), int(header["nx"]))
    spacing, why = _spacing(header)
    notes += [why] if why else []
    angles = [float(header["cellb"][axis]) for axis in ("alpha", "beta", "gamma")]
    if any(angle != 0 and abs(angle - 90) > 0.1 for angle in angles):
        shown = ", ".join(f"{angle:g}" for angle in angles)
        notes.append(f"the cell angles are {shown} degrees: the axes of this map are not at right angles")
    return MrcHeader(
        stored_shape=shape,
        order=order,
        dtype=dtype,
        data_offset=HEADER_BYTES + extended,
        cell_sampling_zyx=(int(header["mz"]), int(header["my"]), int(header["mx"])),
        space_group=int(header["ispg"]),
        voxel_spacing_angstrom=spacing,
        origin_zyx_angstrom=_origin(header, spacing, notes),
        notes=tuple(notes),
    )


def _in_right_byte_order(path: Path, block: bytes) -> Any:
    """The header in the byte order that makes sense of it: machine stamps are missing or wrong too often."""
    for order in "<>":
        header = np.frombuffer(block, np.dtype(HEADER_DTYPE).newbyteorder(order), 1)[0]
        sizes = [int(header[name]) for name in ("nx", "ny", "nz")]
        axes = sorted(int(header[name]) for name in ("mapc", "mapr", "maps"))
        if min(sizes) > 0 and int(header["mode"]) in {*_DTYPES, *_REFUSED} and axes in ([1, 2, 3], [0, 0, 0]):
            return header
    header = np.frombuffer(block, np.dtype(HEADER_DTYPE).newbyteorder("<"), 1)[0]
    shown = " x ".join(str(int(header[name])) for name in ("nx", "ny", "nz"))
    axes = [int(header[name]) for name in ("mapc", "mapr", "maps")]
    got = f"size {shown}, mode {int(header['mode'])}, axes {axes}"
    raise FormatError(path, "MRC header", got, "positive sizes, a known mode and axes 1, 2, 3", "is this an MRC file?")


def _unsigned_bytes(header: Any) -> str:
    """Why the bytes of a mode-0 file are unsigned, or nothing. MRC2014 says signed; IMOD states it by flag."""
    words = np.frombuffer(header.tobytes(), header.dtype["nx"])
    if int(words[38]) == IMOD_STAMP:
        return "" if int(words[39]) & 1 else "IMOD's header flag says that the bytes are unsigned"
    low, high = float(header["dmin"]), float(header["dmax"])
    if 127 < high <= 255 and 0 <= low <= high:
        return f"the header's largest value is {high:g}, so the bytes were read as unsigned"
    return ""


def _axis_order(path: Path, header: Any) -> tuple[tuple[int, int, int], str]:
    # Stored axes are sections (0), rows (1), columns (2); mapc, mapr, maps name the spatial axis of each, 1 = x.
    spatial = [int(header["maps"]), int(header["mapr"]), int(header["mapc"])]
    if spatial == [0, 0, 0]:
        return (0, 1, 2), "the header does not state the axis order; x, y, z was assumed"
    order = (spatial.index(3), spatial.index(2), spatial.index(1))
    if order == (0, 1, 2):
        return order, ""
    return order, f"the axis order in the file is {spatial[2]},{spatial[1]},{spatial[0]}; the data was put in 1,2,3"


def _spacing(header: Any) -> tuple[float | None, str]:
    lengths = [float(header["cella"][axis]) for axis in "zyx"]
    counts = [int(header[name]) for name in ("mz", "my", "mx")]
    sizes = [length / count if count > 0 else 0.0 for length, count in zip(lengths, counts, strict=True)]
    if int(header["nz"]) == 1 and sizes[0] <= 0:
        sizes[0] = sizes[1]
    return cubic_spacing((sizes[0], sizes[1], sizes[2]))


def _origin(header: Any, spacing: float | None, notes: list[str]) -> tuple[float, float, float]:
    """Position of voxel 0: the origin in Angstrom or, where that is zero, the start index times the voxel size."""
    if bytes(header["map"])[:3] == b"MAP":
        origin = [float(header["origin"][axis]) for axis in "zyx"]
        if np.isfinite(origin).all() and any(origin):
            return origin[0], origin[1], origin[2]
    starts = {
        int(header[f"map{letter}"]): int(header[f"n{axis}start"]) for letter, axis in zip("crs", "xyz", strict=True)
    }
    if not any(starts.values()) or 0 in starts:
        return 0.0, 0.0, 0.0
    if spacing is None:
        notes.append("the map starts off voxel 0, but its voxel size is unknown, so its origin is left at 0")
        return 0.0, 0.0, 0.0
    return starts[3] * spacing, starts[2] * spacing, starts[1] * spacing
