"""EM volumes: against emfile, and kept apart from motive lists."""

from pathlib import Path
from typing import Any

import emfile
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tomosift.errors import FormatError
from tomosift.io.volumes import em


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.tuples(*[st.integers(1, 9)] * 3),
    dtype=st.sampled_from([np.int8, np.int16, np.int32, np.float32, np.float64, np.float16]),
)
def test_what_is_written_is_read_back_and_by_emfile(tmp_path: Path, shape: Any, dtype: Any) -> None:
    path, data = tmp_path / "a.em", (np.arange(np.prod(shape)) % 100).reshape(shape).astype(dtype)
    em.write_volume(path, data, 10.0)
    volume = em.open_volume(path)
    assert isinstance(volume.data, np.memmap)
    assert volume.voxel_spacing_angstrom is None
    np.testing.assert_array_equal(volume.data[:], data)
    np.testing.assert_array_equal(emfile.read(path)[1], data)


def test_big_endian_files_are_read(tmp_path: Path) -> None:
    data = np.arange(60, dtype=">f4").reshape(3, 4, 5)
    header = bytes([5, 0, 0, 5]) + np.array([5, 4, 3], ">i4").tobytes()
    (tmp_path / "a.em").write_bytes(header.ljust(512, b"\0") + data.tobytes())
    np.testing.assert_array_equal(em.open_volume(tmp_path / "a.em").read(), data)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "EM header is empty"),
        (b"x" * 100, "100 bytes"),
        (b"garbage!" * 100, "is this an EM file"),
        (bytes([6, 0, 0, 8]) + b"\1\0\0\0" * 3 + b"\0" * 600, "complex"),
        (bytes([6, 0, 0, 5]) + b"\4\0\0\0" * 3 + b"\0" * 600, "616 bytes, expected 768 for 4 x 4 x 4"),
        (bytes([6, 0, 0, 5]) + np.array([20, 7, 1], "<i4").tobytes() + b"\0" * 2000, "a motive list of 7 particles"),
    ],
)
def test_broken_files_are_refused_with_the_reason(tmp_path: Path, content: bytes, sentence: str) -> None:
    (tmp_path / "a.em").write_bytes(content)
    with pytest.raises(FormatError, match=sentence):
        em.open_volume(tmp_path / "a.em")


def test_surplus_bytes_are_noted(tmp_path: Path) -> None:
    em.write_volume(tmp_path / "a.em", np.zeros((2, 2, 2), np.float32), None)
    (tmp_path / "a.em").write_bytes((tmp_path / "a.em").read_bytes() + b"12")
    assert "2 bytes longer" in em.open_volume(tmp_path / "a.em").notes[1]


def test_real_files_equal_emfile(real_data: Path) -> None:
    files = [*(real_data / "subtomograms" / "pytom_e2e").glob("*.em"), *(real_data / "maps").rglob("*.em")]
    assert len(files) == 4
    for path in files:
        np.testing.assert_array_equal(em.open_volume(path).read(), emfile.read(path)[1])
