"""EM motive lists: which row is what, the pixel origin, sizes that are no motive list."""

from pathlib import Path

import emfile
import numpy as np
import pytest

from tomosift.errors import FormatError
from tomosift.io.particles import motive_list
from tomosift.particles import Particles


def write(path: Path, table: np.ndarray) -> Path:
    emfile.write(path, np.asarray(table, dtype=np.float32)[None])
    return path


def test_the_first_pixel_is_number_one_and_shifts_are_added(tmp_path: Path) -> None:
    table = np.zeros((1, 20))
    table[0, 7:13] = [1, 2, 11, 0.5, 0, -0.25]
    table[0, 4] = 17
    particles = motive_list.read_particles(write(tmp_path / "m.em", table), voxel_spacing_angstrom=4.0)
    np.testing.assert_allclose(particles.position_zyx_angstrom, [[39.0, 4.0, 2.0]])
    assert particles.tomogram.tolist() == ["17"]


def test_row_seven_names_the_tomogram_where_row_five_is_empty(tmp_path: Path) -> None:
    table = np.zeros((2, 20))
    table[:, 6] = [3, 4]
    particles = motive_list.read_particles(write(tmp_path / "m.em", table), voxel_spacing_angstrom=1.0)
    assert particles.tomogram.tolist() == ["3", "4"]


@pytest.mark.parametrize("rows", [3, 19, 21])
def test_another_number_of_rows_is_refused(tmp_path: Path, rows: int) -> None:
    path = write(tmp_path / "m.em", np.zeros((5, rows)))
    with pytest.raises(FormatError, match=f"motive list size is {rows} x 5 x 1, expected 20 x particles x 1"):
        motive_list.read_particles(path, voxel_spacing_angstrom=1.0)


def test_a_volume_is_no_motive_list(tmp_path: Path) -> None:
    emfile.write(tmp_path / "v.em", np.zeros((4, 4, 20), dtype=np.float32))
    with pytest.raises(FormatError, match="20 x 4 x 4"):
        motive_list.read_particles(tmp_path / "v.em", voxel_spacing_angstrom=1.0)


@pytest.mark.parametrize("content", [b"", b"\x06\0\0\5", b"\x06\0\0\x63" + bytes(600), b"not an EM file at all"])
def test_files_that_are_not_em_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.em"
    path.write_bytes(content)
    with pytest.raises(FormatError):
        motive_list.read_particles(path, voxel_spacing_angstrom=1.0)


def test_tomogram_names_survive_beside_the_list(tmp_path: Path) -> None:
    particles = Particles.create(["TS_b", "TS_a"], np.array([[1.0, 2, 3], [4, 5, 6]]), score=np.array([0.5, 0.25]))
    motive_list.write_particles(tmp_path / "m.em", particles, voxel_spacing_angstrom=2.0)
    back = motive_list.read_particles(tmp_path / "m.em", voxel_spacing_angstrom=2.0)
    assert back.tomogram.tolist() == ["TS_b", "TS_a"]
    np.testing.assert_allclose(back.position_zyx_angstrom, particles.position_zyx_angstrom, atol=1e-5)
    assert np.isnan(back.rotation).all()
    assert back.score.tolist() == [0.5, 0.25]


def test_an_empty_list_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot hold 0 particles"):
        motive_list.write_particles(
            tmp_path / "m.em", Particles.create([], np.zeros((0, 3))), voxel_spacing_angstrom=1.0
        )


def test_a_real_list_comes_back_identical(real_data: Path, tmp_path: Path) -> None:
    path = real_data / "metadata" / "cryocat" / "ribosome.em"
    particles = motive_list.read_particles(path, voxel_spacing_angstrom=2.0)
    motive_list.write_particles(tmp_path / "m.em", particles)
    np.testing.assert_array_equal(emfile.read(tmp_path / "m.em")[1], emfile.read(path)[1])
    data = emfile.read(path)[1][0].astype(float)
    np.testing.assert_allclose(particles.position_zyx_angstrom[:, ::-1], 2.0 * (data[:, 7:10] + data[:, 10:13] - 1))
