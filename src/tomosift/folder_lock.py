"""A folder that one process at a time writes into."""

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK_FILE = ".lock"


@contextmanager
def locked_folder(folder: Path, is_inside: bool = True) -> Iterator[None]:
    """Hold a folder, so that a second run on it stops with a sentence instead of mixing files.

    Parameters
    ----------
    folder
        The folder; it is made if absent where the lock is inside.
    is_inside
        The lock is a file of the folder, and otherwise one beside it, for folders that may hold nothing else.

    Raises
    ------
    ValueError
        Another process holds the folder; the message names it.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from tomosift.folder_lock import locked_folder
    >>> folder = Path(tempfile.mkdtemp())
    >>> with locked_folder(folder):
    ...     [file.name for file in folder.iterdir()]
    ['.lock']
    >>> list(folder.iterdir())
    []
    """
    file = folder / LOCK_FILE if is_inside else folder.with_name(f".{folder.name}{LOCK_FILE}")
    # The kernel drops the lock of a process that dies, so a file that was left behind blocks nobody. NFS passes the
    # lock on to its server, so other machines see it as well.
    descriptor = _open_locked(file, folder)
    try:
        yield
    finally:
        if descriptor is not None:
            # Removed while it is held: whoever opened it before notices that the name has gone, and tries again.
            file.unlink(missing_ok=True)
            os.close(descriptor)


def _open_locked(file: Path, folder: Path) -> int | None:
    """Return a descriptor that holds the lock; None where the folder or its file system allows none."""
    while True:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError:
            return None  # a finished set in a read-only folder can be opened; other writes fail by themselves
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_same_file(file, descriptor):
                os.ftruncate(descriptor, 0)
                owner = f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}"
                os.write(descriptor, owner.encode())
                return descriptor
        except BlockingIOError:
            owner = os.pread(descriptor, 1000, 0).decode(errors="replace") or "another process"
            os.close(descriptor)
            raise ValueError(
                f"{folder} is in use by {owner}; wait until it has ended, or choose another folder"
            ) from None
        except OSError:
            os.close(descriptor)
            return None  # some cluster file systems are mounted without locks
        os.close(descriptor)


def _is_same_file(file: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(file.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
