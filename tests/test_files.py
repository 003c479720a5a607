"""Arrays in files that are complete or absent."""

from pathlib import Path

import numpy as np
import pytest

from tomosift.errors import FormatError
from tomosift.files import read_arrays, write_arrays


def test_arrays_return_and_a_damaged_file_is_refused_with_advice(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "arrays.npz"
    write_arrays(path, score=np.arange(3), name=np.array(["a", "b"]))
    assert read_arrays(path, "delete it")["score"].tolist() == [0, 1, 2]
    with pytest.raises(FormatError, match=r"without request, expected arrays request, score; delete it"):
        read_arrays(path, "delete it", ("request", "score"))
    content = path.read_bytes()
    for damaged in (b"", content[:40], content[: len(content) // 2], b"text"):
        path.write_bytes(damaged)
        with pytest.raises(FormatError, match=r"content is unreadable .*; delete it"):
            read_arrays(path, "delete it")
    path.unlink()
    with pytest.raises(FormatError, match="unreadable"):
        read_arrays(path, "delete it")
