"""Subtomograms in ``.npy`` files of some thousand each: written as a stream, read row by row.

Neither direction maps files into memory: the pages of a map count as memory of the process once touched, and a random
walk over a large set would touch all of them. Rows are read at their offset instead.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomosift.errors import FormatError

BOX_DTYPE = np.dtype("<f2")
MASK_DTYPE = np.dtype("|u1")
WINDOW = 4 << 20
"""Bytes read or converted at a time."""


@dataclass(frozen=True)
class Shard:
    """A complete shard: where its subtomograms start and how many there are."""

    path: Path
    start_byte: int
    count: int
    dtype: np.dtype[Any] = BOX_DTYPE


def open_shard(path: Path, item_shape: tuple[int, ...], dtype: np.dtype[Any] = BOX_DTYPE) -> Shard:
    """Check the header and the length of a shard.

    Parameters
    ----------
    path
        The file.
    item_shape
        Shape of one row.
    dtype
        Type of its numbers.

    Raises
    ------
    FormatError
        The file is missing, is no ``.npy`` file, holds other boxes, or is cut short.
    """
    advice = "copy the set again from where it came from, or make it again"
    try:
        with path.open("rb") as stream:
            version = np.lib.format.read_magic(stream)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, is_fortran, got_dtype = read(stream)
            start = stream.tell()
    except FileNotFoundError as error:
        raise FormatError(path, "the file", "missing", "boxes that set.json lists", advice) from error
    except Exception as error:  # the header is parsed as Python text, with errors of the tokenizer
        raise FormatError(path, "the header", "unreadable", "a .npy header", advice) from error
    if not shape or got_dtype != dtype or is_fortran or shape[1:] != item_shape:
        raise FormatError(path, "the array", f"{got_dtype} {shape}", f"{dtype} (n, {', '.join(map(str, item_shape))})")
    expected = start + int(np.prod(shape)) * dtype.itemsize
    if path.stat().st_size != expected:
        raise FormatError(path, "the length", f"{path.stat().st_size} bytes", f"{expected} bytes", advice)
    return Shard(path, start, shape[0], dtype)


def read_rows(shards: Sequence[Shard], rows: NDArray[np.int64], item_shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Read rows of the concatenated shards: ``(len(rows), *item_shape)`` float32, in the order of ``rows``."""
    result = np.empty((len(rows), *item_shape), dtype=np.float32)
    starts = np.cumsum([0, *(shard.count for shard in shards)])
    order = np.argsort(rows, kind="stable")
    shard_of = np.searchsorted(starts, rows[order], side="right") - 1
    for number in np.unique(shard_of):
        shard, mine = shards[number], order[shard_of == number]
        local = rows[mine] - starts[number]
        item_bytes = int(np.prod(item_shape)) * shard.dtype.itemsize
        per_read = max(1, WINDOW // item_bytes)
        # Neighbors in the file come in one read.
        breaks = np.flatnonzero(np.diff(local) != 1) + 1
        with shard.path.open("rb", buffering=0) as stream:
            for run in np.split(np.arange(len(local)), breaks):
                for window in np.array_split(run, -(-len(run) // per_read)):
                    offset = shard.start_byte + int(local[window[0]]) * item_bytes
                    result[mine[window]] = _read_at(stream.fileno(), len(window), offset, item_shape, shard)
    return result


def _read_at(file: int, count: int, offset: int, item_shape: tuple[int, ...], shard: Shard) -> NDArray[Any]:
    size = count * int(np.prod(item_shape)) * shard.dtype.itemsize
    parts: list[bytes] = []
    while size:
        part = os.pread(file, size, offset)
        if not part:
            raise FormatError(
                shard.path, "the length", "shorter than when it was opened", "an unchanged file", "open it again"
            )
        parts.append(part)
        size, offset = size - len(part), offset + len(part)
    return np.frombuffer(b"".join(parts), dtype=shard.dtype).reshape(count, *item_shape)


class ShardWriter:
    """Writes one shard under a temporary name; `finish` gives it its own."""

    def __init__(self, path: Path, item_shape: tuple[int, ...], dtype: np.dtype[Any] = BOX_DTYPE) -> None:
        self.path, self.item_shape, self.dtype, self.count = path, item_shape, dtype, 0
        self._temporary = path.with_name(f".{path.name}.part")
        self._stream = self._temporary.open("wb")
        self._write_header()

    def _write_header(self) -> None:
        header: dict[str, Any] = {
            "descr": self.dtype.str,
            "fortran_order": False,
            "shape": (self.count, *self.item_shape),
        }
        # numpy pads the header so that the first axis can grow without moving the data.
        np.lib.format.write_array_header_1_0(self._stream, header)

    def append(self, boxes: NDArray[Any]) -> None:
        """Add rows ``(b, *item_shape)``."""
        step = max(1, WINDOW // (4 * int(np.prod(self.item_shape))))
        for start in range(0, len(boxes), step):
            self._stream.write(np.ascontiguousarray(boxes[start : start + step], dtype=self.dtype).data)
        self.count += len(boxes)

    def finish(self) -> None:
        """Write the final header and give the file its name."""
        self._stream.seek(0)
        self._write_header()
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._stream.close()
        self._temporary.replace(self.path)

    def discard(self) -> None:
        """Remove the temporary file."""
        self._stream.close()
        self._temporary.unlink(missing_ok=True)

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish()
        else:
            self.discard()
