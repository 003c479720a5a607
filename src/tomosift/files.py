"""Files that are either complete or absent."""

import hashlib
import json
import os
import secrets
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomosift.errors import FormatError

_SAMPLE_BYTES = 65536


@contextmanager
def written_then_renamed(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it takes the name ``path``, on failure it is removed.

    The temporary name keeps the suffixes of ``path``, for writers that choose the format by suffix. An error of the
    system that names no file, such as a full disk, gets the name ``path``.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from tomosift.files import written_then_renamed
    >>> path = Path(tempfile.mkdtemp()) / "notes.txt"
    >>> with written_then_renamed(path) as temporary:
    ...     _ = temporary.write_text("complete")
    >>> path.read_text()
    'complete'
    """
    check_writable(path)
    if path.is_symlink():
        path = path.resolve()  # the link stays, and its target is new
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{secrets.token_hex(4)}-{path.name}")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(path: Path) -> None:
    """Refuse an output that cannot be written: a device, a pipe, or a file in a folder without permission.

    Raises
    ------
    FormatError
        The path is no regular file and no place for one.
    """
    target = path.resolve()
    if target.exists() and not target.is_file() and not target.is_dir():
        raise FormatError(path, "output", "a device or a pipe", "a file", "name a file to write")
    folder = next(parent for parent in target.parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        reason = "read-only" if folder.is_dir() else "a file"
        got, expected = f"in {folder}, which is {reason}", "a folder that can be written"
        raise FormatError(path, "output", got, expected, "name another")


def file_state(path: Path) -> list[Any]:
    """Return path, size and a digest of the modification times of a file or a folder, to recognize that it changed.

    Compare times for equality only: clocks jump, also backwards.

    Raises
    ------
    OSError
        When there is no such file.
    """
    files = sorted(part for part in path.rglob("*") if part.is_file()) if path.is_dir() else [path]
    stats = [(part.relative_to(path).as_posix(), part.stat()) for part in files]
    digest = hashlib.sha256(repr([(name, s.st_size, s.st_mtime_ns) for name, s in stats]).encode()).hexdigest()
    return [str(path.resolve()), sum(s.st_size for _, s in stats), digest[:16]]


def content_digest(paths: Sequence[Path]) -> str:
    """Return a digest of the sizes of files and of samples of their content, to recognize a file that was replaced.

    Samples are the beginning, the center and the end of a file; of a folder, of up to 16 of its files. Unlike times of
    modification they survive a copy, and reading them takes no time.
    """
    digest = hashlib.sha256()
    for path in paths:
        files = sorted(part for part in path.rglob("*") if part.is_file()) if path.is_dir() else [path]
        digest.update(repr([part.stat().st_size for part in files]).encode())
        for part in files[:: max(1, len(files) // 16)]:
            with part.open("rb") as stream:
                size = part.stat().st_size
                for start in (0, max(0, (size - _SAMPLE_BYTES) // 2), max(0, size - _SAMPLE_BYTES)):
                    stream.seek(start)
                    digest.update(stream.read(_SAMPLE_BYTES))
    return digest.hexdigest()[:16]


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON; the file is complete or absent, also after a power cut."""
    with written_then_renamed(path) as temporary, temporary.open("w") as stream:
        json.dump(value, stream, indent=2, sort_keys=False)
        stream.write("\n")
        stream.flush()
        os.fsync(stream.fileno())


def parse_json(path: Path, text: str, advice: str = "copy the file again") -> Any:
    """Return the value of JSON text of a file.

    Raises
    ------
    FormatError
        The text is no JSON, is nested too deep, or holds numbers of thousands of digits.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else str(error)
        raise FormatError(path, "content", f"no JSON ({reason})", "a complete JSON file", advice) from None


def read_json(path: Path, advice: str = "copy the file again") -> Any:
    """Return the value in a JSON file.

    Raises
    ------
    FormatError
        The file is missing, no text, or no JSON.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise FormatError(path, "file", "missing", "a JSON file", "check the path") from None
    except (OSError, UnicodeError) as error:
        raise FormatError(path, "content", f"no text ({error})", "a complete JSON file", advice) from None
    return parse_json(path, text, advice)


def write_arrays(path: Path, **arrays: NDArray[Any]) -> None:
    """Write arrays by name into an ``.npz`` file, which is complete or absent.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from tomosift.files import read_arrays, write_arrays
    >>> path = Path(tempfile.mkdtemp()) / "scores.npz"
    >>> write_arrays(path, score=np.arange(3))
    >>> read_arrays(path, "delete the file")["score"].tolist()
    [0, 1, 2]
    """
    with written_then_renamed(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]


def read_arrays(path: Path, advice: str, required: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
    """Return all arrays of an ``.npz`` file, by name.

    Parameters
    ----------
    path
        The file.
    advice
        What the user can do where it is broken, as an imperative clause for the error.
    required
        Names of arrays that the file must hold.

    Raises
    ------
    FormatError
        The file is missing, broken or cut short, or lacks a required array.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            arrays = dict(archive.items())
    except (OSError, EOFError, ValueError, AttributeError, zipfile.BadZipFile) as error:
        raise FormatError(path, "content", f"unreadable ({error})", "arrays", advice) from None
    if missing := [name for name in required if name not in arrays]:
        got, expected = f"without {', '.join(missing)}", f"arrays {', '.join(required)}"
        raise FormatError(path, "content", got, expected, advice)
    return arrays
