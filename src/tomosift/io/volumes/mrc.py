"""MRC volumes: MRC2014, its older dialects and the variants of EMDB, IMOD, RELION, Warp and SerialEM.

The header is parsed in `tomosift.io.volumes.mrc_header`.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
from numpy.typing import DTypeLike, NDArray

from tomosift.errors import FormatError
from tomosift.files import written_then_renamed
from tomosift.io.volumes.mrc_header import MrcHeader, find_decompressor, open_stream, read_header
from tomosift.io.volumes.volume import Volume, check_spacing, storable

SUFFIXES = (".mrc", ".rec", ".map", ".ali", ".st", ".mrcs", ".ccp4")
WRITABLE = ("int8", "int16", "uint16", "float16", "float32")


def open_volume(path: Path) -> Volume:
    """Open an MRC file: memory-mapped, or read whole if it is gzip or bzip2 compressed.

    Raises
    ------
    FormatError
        As `tomosift.io.volumes.mrc_header.read_header`, or the file holds fewer voxels than its header says.
    """
    path = Path(path)
    header = read_header(path)
    count = int(np.prod(header.stored_shape, dtype=np.int64))
    expected = header.data_offset + count * header.dtype.itemsize
    notes = list(header.notes)
    if find_decompressor(path) is None:
        length = path.stat().st_size
        _check_length(path, header, length, expected)
        stored: NDArray[Any] = np.memmap(path, header.dtype, "r", header.data_offset, header.stored_shape)
    else:
        with open_stream(path) as stream:
            try:
                content = stream.read(expected + _EXTRA_BYTES)  # what a small file unpacks to has no other limit
            except (OSError, EOFError) as error:
                raise FormatError(
                    path, "compressed data", f"broken ({error})", "a whole file", "copy it again"
                ) from error
        length = len(content)
        _check_length(path, header, length, expected)
        stored = np.frombuffer(content, header.dtype, count, header.data_offset).reshape(header.stored_shape)
    if length > expected:
        notes.append(f"the file is {length - expected} bytes longer than its header says; they were left out")
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
        Ends in one of `SUFFIXES`; with .gz or .bz2 after it the file is compressed.
    data_zyx
        ``(z, y, x)``; with ``stack``, ``(n, d, d, d)``, written as a volume stack (space group 401).
    voxel_spacing_angstrom
        None writes 0, which readers take as unknown.
    origin_zyx_angstrom
        Position of the center of voxel 0.
    dtype
        int8, int16, uint16, float16 or float32; by default the data's own where MRC has it, else float32.
    stack
        Whether the data are several volumes.

    Raises
    ------
    ValueError
        The array has other axes, or MRC has no such number format.
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
    """Write volumes of small integers as a volume stack of int8, part by part.

    The stack need not fit into memory, so the header says that minimum, maximum, mean and deviation are not known. The
    file is complete or absent.

    Parameters
    ----------
    path
        The stack to write.
    parts
        Volumes ``(b, d, d, d)``.
    count, box_size
        Number of volumes in all parts, and their edge in voxels.
    voxel_spacing_angstrom
        Edge of a voxel.

    Raises
    ------
    ValueError
        The parts are fewer or more volumes than ``count``.
    """
    check_spacing(voxel_spacing_angstrom)
    shape = (count, box_size, box_size, box_size)
    with written_then_renamed(path) as temporary, mrcfile.new_mmap(temporary, shape, mrc_mode=0) as mrc:
        written = 0
        for part in parts:
            mrc.data[written : written + len(part)] = part
            written += len(part)
        if written != count:
            raise ValueError(f"{path} got {written} volumes, expected {count}")
        mrc.voxel_size = voxel_spacing_angstrom
        mrc.reset_header_stats()


_EXTRA_BYTES = 1 << 16
"""Bytes beyond the voxels that are unpacked, to count them."""


def _check_length(path: Path, header: MrcHeader, length: int, expected: int) -> None:
    """Raise a `FormatError` where the file is shorter than its header says."""
    if length >= expected:
        return
    sections, rows, columns = header.stored_shape
    what = f"{columns} x {rows} x {sections} voxels of {header.dtype.name}"
    raise FormatError(
        path, "file length", f"{length} bytes", f"{expected} for {what}", "the file is cut short: copy it again"
    )
