"""EM volumes of TOM, PyTom, AV3 and Dynamo: a 512-byte header, then voxels with x fastest.

Motive lists share this format. They are tables of 20 rows and are read by `tomosift.io.particles.motive_list`.
"""

from pathlib import Path
from typing import Any

import emfile
import numpy as np
from numpy.typing import DTypeLike

from tomosift.errors import FormatError
from tomosift.files import written_then_renamed
from tomosift.io.volumes.volume import Volume, check_spacing, storable

SUFFIXES = (".em",)
HEADER_BYTES = 512
MOTIVE_LIST_ROWS = 20
WRITABLE = ("int8", "int16", "int32", "float32", "float64")
_DTYPES = {1: "i1", 2: "i2", 4: "i4", 5: "f4", 9: "f8"}
_REFUSED = {8: "complex numbers", 10: "complex numbers"}
_BIG_ENDIAN_MACHINES = (3, 4, 5)
"""Codes 3 (SGI), 4 (Sun) and 5 (Mac) of the header's first byte; 6 is a PC."""


def open_volume(path: Path) -> Volume:
    """Open an EM file, memory-mapped. EM headers carry no voxel size that programs agree on, so it is unknown.

    Raises
    ------
    FormatError
        The header is damaged, the voxels are complex, the file is cut short, or the file is a motive list.
    """
    path = Path(path)
    with path.open("rb") as stream:
        block = stream.read(HEADER_BYTES)
    if len(block) < HEADER_BYTES:
        got = "empty" if not block else f"{len(block)} bytes"
        raise FormatError(path, "EM header", got, f"{HEADER_BYTES} bytes", "the file is cut short: copy it again")
    code = block[3]
    if code in _REFUSED:
        raise FormatError(path, "EM data type", f"{code}, {_REFUSED[code]}", "real voxels", "convert it to type 5")
    order = ">" if block[0] in _BIG_ENDIAN_MACHINES else "<"
    width, height, depth = (int(size) for size in np.frombuffer(block, f"{order}i4", 3, 4))
    if code not in _DTYPES or min(width, height, depth) < 1:
        got = f"data type {code}, size {width} x {height} x {depth}"
        raise FormatError(path, "EM header", got, "type 1, 2, 4, 5 or 9 and positive sizes", "is this an EM file?")
    if width == MOTIVE_LIST_ROWS and depth == 1:
        got = f"a motive list of {height} particles"
        raise FormatError(path, "EM content", got, "a volume", "open it as a particle table")
    dtype = np.dtype(f"{order}{_DTYPES[code]}")
    expected, length = HEADER_BYTES + width * height * depth * dtype.itemsize, path.stat().st_size
    if length < expected:
        what = f"{expected} for {width} x {height} x {depth} voxels of {dtype.name}"
        raise FormatError(path, "file length", f"{length} bytes", what, "the file is cut short: copy it again")
    notes = ["EM files do not state a voxel size"]
    if length > expected:
        notes.append(f"the file is {length - expected} bytes longer than its header says; they were left out")
    data = np.memmap(path, dtype, "r", HEADER_BYTES, (depth, height, width))
    return Volume(path, data, None, (0.0, 0.0, 0.0), tuple(notes))


def write_volume(
    path: Path, data_zyx: Any, voxel_spacing_angstrom: float | None, *, dtype: DTypeLike | None = None
) -> None:
    """Write an EM file; the voxel spacing is lost, because the format has no agreed place for it.

    Parameters
    ----------
    path
        The file to write; it is complete or absent.
    data_zyx
        ``(z, y, x)``
    voxel_spacing_angstrom
        Checked, but not written.
    dtype
        int8, int16, int32, float32 or float64; by default the data's own where EM has it, else float32.
    """
    path, data = Path(path), np.asarray(data_zyx)
    check_spacing(voxel_spacing_angstrom)
    kind = storable(data, dtype, WRITABLE)
    with written_then_renamed(path) as temporary:
        emfile.write(temporary, np.ascontiguousarray(data, dtype=kind), overwrite=True)
