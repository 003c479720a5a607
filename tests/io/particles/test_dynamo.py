"""Dynamo tables: pixel origin, shifts, numbers of columns, complex numbers, names of tomograms."""

from pathlib import Path

import dynamotable
import numpy as np
import pytest

from tomosift.errors import FormatError
from tomosift.io.particles import dynamo
from tomosift.particles import Grid, Particles


def row(columns: int, **values: object) -> str:
    names = dynamotable.utils.generate_column_names(columns)
    return " ".join(str(values.get(name, 0)) for name in names)


def test_the_center_of_the_first_voxel_has_coordinate_one_half(tmp_path: Path) -> None:
    path = tmp_path / "t.tbl"
    path.write_text(row(35, x=0.5, y=1.5, z=10.5, tomo=3) + "\n")
    particles = dynamo.read_particles(path, voxel_spacing_angstrom=4.0)
    np.testing.assert_allclose(particles.position_zyx_angstrom, [[40.0, 4.0, 0.0]])
    assert particles.tomogram.tolist() == ["3"]


def test_shifts_are_added(tmp_path: Path) -> None:
    path = tmp_path / "t.tbl"
    path.write_text(row(35, x=10.5, y=10.5, z=10.5, dx=1, dy=-2, dz=0.25) + "\n")
    position = dynamo.read_particles(path, voxel_spacing_angstrom=1.0).position_zyx_angstrom
    np.testing.assert_allclose(position, [[10.25, 8.0, 11.0]])


@pytest.mark.parametrize("columns", [26, 35, 40, 41, 42])
def test_every_usual_number_of_columns_is_read_and_kept(tmp_path: Path, columns: int) -> None:
    path = tmp_path / "t.tbl"
    path.write_text("".join(row(columns, tag=k + 1, x=5 + k, y=6, z=7) + "\n" for k in range(3)))
    particles = dynamo.read_particles(path, voxel_spacing_angstrom=1.0)
    assert particles.columns.shape == (3, columns)
    dynamo.write_particles(tmp_path / "u.tbl", particles)
    assert len((tmp_path / "u.tbl").read_text().splitlines()[0].split()) == columns


def test_complex_numbers_count_by_their_real_part(tmp_path: Path) -> None:
    path = tmp_path / "t.tbl"
    path.write_text(
        row(35, x=1, y=2, z=3, daxis="0.5+0.25i") + "\n" + row(35, x="4-1.5i", y=5, z=6, daxis="-1i") + "\n"
    )
    columns = dynamo.read_particles(path, voxel_spacing_angstrom=1.0).columns
    assert columns["daxis"].tolist() == [0.5, 0.0]
    assert columns["x"].tolist() == [1.0, 4.0]


def test_too_few_columns_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.tbl"
    path.write_text("1 2 3 4\n")
    with pytest.raises(FormatError, match="number of columns is 4, expected 26 to 42"):
        dynamo.read_particles(path, voxel_spacing_angstrom=1.0)


@pytest.mark.parametrize(
    "text", ["", "a b c\n", row(35) + "\n" + row(42) + "\n", row(35, x="nan") + "\n", row(35, x="here")]
)
def test_malformed_tables_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "t.tbl"
    path.write_text(text)
    with pytest.raises(FormatError):
        dynamo.read_particles(path, voxel_spacing_angstrom=1.0)


def test_a_missing_pixel_size_is_required_unless_a_grid_states_it(tmp_path: Path) -> None:
    path = tmp_path / "t.tbl"
    path.write_text(row(35, x=1.5, y=0.5, z=0.5, tomo=7) + "\n")
    with pytest.raises(FormatError, match="--picks-spacing"):
        dynamo.read_particles(path)
    with pytest.raises(FormatError, match="--picks-spacing"):  # one position proves nothing
        dynamo.read_particles(path, grids={"7": Grid((9, 9, 9), 5.0)})
    path.write_text("".join(row(35, x=0.5 + k, y=8.5 - k, z=0.5, tomo=7) + "\n" for k in range(9)) * 2)
    particles = dynamo.read_particles(path, grids={"7": Grid((9, 9, 9), 5.0)})
    np.testing.assert_allclose(particles.position_zyx_angstrom[1], [0, 35.0, 5.0])
    assert "one pixel is taken to be one voxel of 5 A" in particles.notes[0]


def test_tomogram_names_come_from_the_doc_file_and_go_back(tmp_path: Path) -> None:
    path = tmp_path / "t.tbl"
    path.write_text(row(35, tomo=2, x=1) + "\n" + row(35, tomo=9, x=1) + "\n")
    (tmp_path / "t.doc").write_text("2 /data/TS 01.mrc\n9 /data/TS_02.mrc\n")
    particles = dynamo.read_particles(path, voxel_spacing_angstrom=1.0)
    assert particles.tomogram.tolist() == ["/data/TS 01.mrc", "/data/TS_02.mrc"]
    dynamo.write_particles(tmp_path / "u.tbl.gz", particles)
    assert dynamo.read_particles(tmp_path / "u.tbl.gz", voxel_spacing_angstrom=1.0).tomogram.tolist() == list(
        particles.tomogram
    )


def test_angles_that_are_zero_throughout_mean_no_orientation(tmp_path: Path) -> None:
    path = tmp_path / "t.tbl"
    path.write_text(row(35, x=1) + "\n")
    assert np.isnan(dynamo.read_particles(path, voxel_spacing_angstrom=1.0).rotation).all()


def test_predicted_class_numbers_go_to_the_class_column(tmp_path: Path) -> None:
    path = tmp_path / "t.tbl"
    path.write_text((row(35, x=1, cc=0.25) + "\n") * 2)
    particles = dynamo.read_particles(path, voxel_spacing_angstrom=1.0).with_columns(
        {"rlnClassNumber": np.array([2, 5])}
    )
    dynamo.write_particles(tmp_path / "u.tbl", particles)
    written = dynamo.read_particles(tmp_path / "u.tbl", voxel_spacing_angstrom=1.0)
    assert written.class_name.tolist() == ["class 2", "class 5"]
    assert written.score.tolist() == [0.25, 0.25]


def test_a_written_table_is_read_by_dynamotable(tmp_path: Path) -> None:
    particles = Particles.create(["TS_1", "TS_2"], np.array([[10.0, 20, 30], [1, 2, 3]]), class_name=["b", "a"])
    dynamo.write_particles(tmp_path / "t.tbl", particles, voxel_spacing_angstrom=2.0)
    table = dynamotable.read(str(tmp_path / "t.tbl"), str(tmp_path / "t.doc"))
    np.testing.assert_allclose(table[["x", "y", "z"]], [[15.5, 10.5, 5.5], [2, 1.5, 1]])
    assert table["tomo_file"].tolist() == ["TS_1", "TS_2"]
    assert table["class"].tolist() == [2, 1]


@pytest.mark.parametrize("name", ["dynamo/t_double.tbl", "cryocat/bin1.6_SG_j013_afterM_24k_subtomos_MN_Dyn_v2.tbl.gz"])
def test_real_tables_come_back_with_the_same_numbers(real_data: Path, tmp_path: Path, name: str) -> None:
    path = real_data / "metadata" / name
    particles = dynamo.read_particles(path, voxel_spacing_angstrom=3.0)
    independent = dynamotable.read(str(path))
    xyz = independent[["x", "y", "z"]].to_numpy() + independent[["dx", "dy", "dz"]].to_numpy()
    np.testing.assert_allclose(particles.position_zyx_angstrom, 3.0 * (xyz[:, ::-1] - 0.5))
    if len(particles) < 1000:
        dynamo.write_particles(tmp_path / "u.tbl", particles)
        np.testing.assert_array_equal(dynamo.read_table(tmp_path / "u.tbl"), independent.to_numpy(dtype=float))
