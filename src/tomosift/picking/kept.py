"""Arrays in a file that is complete or absent; one that was cut short later is told from a whole one."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomosift.errors import FormatError
from tomosift.files import written_then_renamed


def write_arrays(path: Path, **arrays: NDArray[Any]) -> None:
    """Write arrays by name."""
    with written_then_renamed(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays of a file, by name.

    Raises
    ------
    FormatError
        The file is missing, broken or cut short.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as kept:
            return dict(kept.items())
    except (OSError, EOFError, ValueError, AttributeError, zipfile.BadZipFile) as error:
        raise FormatError(path, "content", f"unreadable ({error})", "arrays", "delete it and scan again") from None
