"""Files that are either complete or absent."""

import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def written_then_renamed(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it takes the name ``path``, on failure it is removed.

    The temporary name keeps the suffixes of ``path``, for writers that choose the format by suffix. An error of the
    system that names no file, such as a full disk, gets the name ``path``.
    """
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


def file_state(path: Path) -> list[Any]:
    """What tells that a file, or any file of a folder, was replaced: where it lies, its size, a digest of all times.

    Times are only compared for equality: clocks jump, also backwards.

    Raises
    ------
    OSError
        When there is no such file.
    """
    files = sorted(part for part in path.rglob("*") if part.is_file()) if path.is_dir() else [path]
    stats = [(part.relative_to(path).as_posix(), part.stat()) for part in files]
    digest = hashlib.sha256(repr([(name, s.st_size, s.st_mtime_ns) for name, s in stats]).encode()).hexdigest()
    return [str(path.resolve()), sum(s.st_size for _, s in stats), digest[:16]]


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON; the file is complete or absent, also after a power cut."""
    with written_then_renamed(path) as temporary, temporary.open("w") as stream:
        json.dump(value, stream, indent=2, sort_keys=False)
        stream.write("\n")
        stream.flush()
        os.fsync(stream.fileno())
