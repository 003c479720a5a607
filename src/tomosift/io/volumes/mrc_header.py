"""The header of MRC files: size, number format, axis order, voxel spacing and origin, plain or compressed.

Source: Cheng et al. 2015, J. Struct. Biol. 192:146 (MRC2014); IMOD's ``mrc_format`` page for the byte flag and old
headers. Axes are put in z, y, x order here: the header's ``mapc, mapr, maps`` say which axis is stored fastest.
"""

import bz2
import gzip
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
from mrcfile.dtypes import HEADER_DTYPE

from tomosift.errors import FormatError
from tomosift.io.volumes.volume import cubic_spacing

HEADER_BYTES = 1024
IMOD_STAMP = 1146047817
_DTYPES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}
_REFUSED = {
    3: "complex 16-bit integers (a Fourier transform)",
    4: "complex 32-bit numbers (a Fourier transform)",
    16: "RGB color",
    101: "packed 4-bit integers",
}


@dataclass(frozen=True)
class MrcHeader:
    """Values of the 1024 bytes, in z, y, x order."""

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
    """Read and check the header alone; also of compressed files.

    Raises
    ------
    FormatError
        The header is cut short, is not an MRC header, or its voxels are complex, colored or packed.
    """
    with open_stream(path) as stream:
        try:
            block = stream.read(HEADER_BYTES)
        except (OSError, EOFError) as error:
            raise FormatError(path, "compressed data", f"broken ({error})", "a whole file", "copy it again") from error
    return _parse(path, block)


def open_stream(path: Path) -> BufferedReader | gzip.GzipFile | bz2.BZ2File:
    """Open a plain, gzip or bzip2 file for reading; the kind is recognized by content."""
    decompressor = find_decompressor(path)
    return path.open("rb") if decompressor is None else decompressor(path, "rb")


def find_decompressor(path: Path) -> type[gzip.GzipFile] | type[bz2.BZ2File] | None:
    """Return the class that unpacks this file, by its first bytes; None for a plain one."""
    try:
        with path.open("rb") as stream:
            magic = stream.read(4)
    except IsADirectoryError as error:
        raise FormatError(path, "file", "a folder", "an MRC file") from error
    if magic[:2] == b"\x1f\x8b":
        return gzip.GzipFile
    return bz2.BZ2File if magic[:3] == b"BZh" else None


def _parse(path: Path, block: bytes) -> MrcHeader:
    """Return the header of the first 1024 bytes, with notes on what is odd in it."""
    if len(block) < HEADER_BYTES:
        got = "empty" if not block else f"{len(block)} bytes"
        raise FormatError(path, "MRC header", got, f"{HEADER_BYTES} bytes", "the file is cut short: copy it again")
    header = _decode_byte_order(path, block)
    notes: list[str] = []
    mode = int(header["mode"])
    if mode not in _DTYPES:
        raise FormatError(
            path, "mode", f"{mode}, {_REFUSED[mode]}", "real voxels: mode 0, 1, 2, 6 or 12", "convert it to mode 2"
        )
    dtype = np.dtype(_DTYPES[mode]).newbyteorder(header.dtype["mode"].byteorder)
    if mode == 0 and (reason := _explain_unsigned(header)):
        dtype = np.dtype(np.uint8)
        notes.append(reason)
    elif mode == 0 and (reason := _note_on_signed(header)):
        notes.append(reason)
    extended = int(header["nsymbt"])
    if extended < 0:
        raise FormatError(path, "extended header", f"{extended} bytes long", "0 or more", "the header is damaged")
    order, note = _axis_order(path, header)
    notes += [note] if note else []
    shape = (int(header["nz"]), int(header["ny"]), int(header["nx"]))
    spacing, reason = _spacing(header)
    notes += [reason] if reason else []
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


def _decode_byte_order(path: Path, block: bytes) -> Any:
    """Return the header in the byte order that gives valid values: machine stamps are missing or wrong too often."""
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


def _explain_unsigned(header: Any) -> str:
    """Return why the bytes of mode 0 are unsigned, or an empty text: MRC2014 says signed, IMOD has a flag for it."""
    words = np.frombuffer(header.tobytes(), header.dtype["nx"])
    if int(words[38]) == IMOD_STAMP:
        return "" if int(words[39]) & 1 else "IMOD's header flag says that the bytes are unsigned"
    low, high = float(header["dmin"]), float(header["dmax"])
    if 127 < high <= 255 and 0 <= low <= high:
        return f"the header's largest value is {high:g}, so the bytes were read as unsigned"
    return ""


def _note_on_signed(header: Any) -> str:
    """Return the note on signed bytes whose header states values that no signed byte has; else empty."""
    high = float(header["dmax"])
    if not 127 < high <= 255:
        return ""
    return f"the bytes were read as signed although the header's largest value is {high:g}; they may be unsigned"


def _axis_order(path: Path, header: Any) -> tuple[tuple[int, int, int], str]:
    """Return the stored axes that are z, y, x, and a note where they are not in this order."""
    # Stored axes are sections (0), rows (1), columns (2); mapc, mapr, maps name the spatial axis of each, 1 = x.
    spatial = [int(header["maps"]), int(header["mapr"]), int(header["mapc"])]
    if spatial == [0, 0, 0]:
        return (0, 1, 2), "the header does not state the axis order; x, y, z was assumed"
    order = (spatial.index(3), spatial.index(2), spatial.index(1))
    if order == (0, 1, 2):
        return order, ""
    return order, f"the axis order in the file is {spatial[2]},{spatial[1]},{spatial[0]}; the data was put in 1,2,3"


def _spacing(header: Any) -> tuple[float | None, str]:
    """Return the voxel spacing, or None and the reason."""
    lengths = [float(header["cella"][axis]) for axis in "zyx"]
    counts = [int(header[name]) for name in ("mz", "my", "mx")]
    sizes = [length / count if count > 0 else 0.0 for length, count in zip(lengths, counts, strict=True)]
    if int(header["nz"]) == 1 and sizes[0] <= 0:
        sizes[0] = sizes[1]
    return cubic_spacing((sizes[0], sizes[1], sizes[2]))


def _origin(header: Any, spacing: float | None, notes: list[str]) -> tuple[float, float, float]:
    """Return the position of voxel 0: the origin in Angstrom, or the start index times the voxel size where it is 0."""
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
