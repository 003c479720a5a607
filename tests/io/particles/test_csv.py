"""Delimited tables: units by rule, columns carried, errors in one sentence."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from tomosift.errors import FormatError
from tomosift.io.particles.csv import read_particles, write_particles
from tomosift.particles import Grid, Particles


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", ["points.csv", "points_tab_delim.csv", "points_with_header.csv"])
def test_real_points_are_voxels_with_or_without_header(real_data: Path, name: str) -> None:
    path = real_data / "metadata/portal_backend" / name
    particles = read_particles(path, voxel_spacing_angstrom=4.0)
    np.testing.assert_allclose(particles.position_zyx_angstrom, np.array([[3, 2, 1], [2, 2, 2], [0, 3, 0]]) * 4.0)
    assert set(particles.tomogram) == {name.removesuffix(".csv")}
    with pytest.raises(FormatError, match=r"unit of .* is not stated.*--picks-spacing"):
        read_particles(path)


def test_real_tardis_table_names_its_unit(real_data: Path) -> None:
    particles = read_particles(real_data / "metadata/portal_backend/tardis.csv")
    np.testing.assert_allclose(particles.position_zyx_angstrom[0], [12, 8, 4])
    assert list(particles.columns.columns) == ["IDs", "X [A]", "Y [A]", "Z [A]"]


def test_real_tomopicker_table_has_names_and_scores(real_data: Path) -> None:
    path = real_data / "metadata/aitom/estimations_TS_0003.csv"
    particles = read_particles(path, grids={"TS_0003.mrc": Grid((1000, 928, 960), 13.48)})
    np.testing.assert_allclose(particles.position_zyx_angstrom[0], np.array([608, 707, 463]) * 13.48)
    assert (len(particles), particles.tomogram[0], particles.score[0]) == (2000, "TS_0003.mrc", 11.044801)


def test_challenge_tables_are_angstrom(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "id,experiment,particle_type,x,y,z\n0,TS_5_4,ribosome,10.5,20,30\n")
    particles = read_particles(path, voxel_spacing_angstrom=10.0)
    np.testing.assert_allclose(particles.position_zyx_angstrom, [[30, 20, 10.5]])
    assert (particles.tomogram[0], particles.class_name[0]) == ("TS_5_4", "ribosome")


@pytest.mark.parametrize(
    ("header", "scale"),
    [("x_angstrom,y_angstrom,z_angstrom", 1), ("X,Y,Z", 2), ("coord_x,coord_y,coord_z", 2), ("x_px,y_px,z_px", 2),
     ("X (voxel),Y (voxel),Z (voxel)", 2), ("centerX,centerY,centerZ", None)],
)  # fmt: skip
def test_unit_follows_the_name_of_the_column(tmp_path: Path, header: str, scale: int | None) -> None:
    path = write(tmp_path / "a.csv", f"{header}\n1,2,3\n")
    if scale is None:
        with pytest.raises(FormatError, match="column x is missing"):
            read_particles(path, voxel_spacing_angstrom=2.0)
    else:
        particles = read_particles(path, voxel_spacing_angstrom=2.0)
        np.testing.assert_allclose(particles.position_zyx_angstrom, np.array([[3, 2, 1]]) * scale)


def test_semicolons_blanks_comments_and_byte_order_marks_are_read(tmp_path: Path) -> None:
    semicolons = write(tmp_path / "a.csv", "\ufeffx_angstrom;y_angstrom;z_angstrom;tomo\n1;2;3;017\n\n")
    assert read_particles(semicolons).tomogram[0] == "017"
    blanks = write(tmp_path / "b.txt", "# picks\n 1 2   3\n4 5 6\n")
    assert read_particles(blanks, voxel_spacing_angstrom=1.0).position_zyx_angstrom.tolist() == [[3, 2, 1], [6, 5, 4]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "table is empty"),
        ("x_angstrom,y_angstrom,z_angstrom\n", "a header without rows"),
        ("x_angstrom,y_angstrom,z_angstrom\n1,2\n", "row 1 is 2 values, expected 3"),
        ("x_angstrom,y_angstrom,z_angstrom\n1,b,2\n", "y_angstrom of row 1 is 'b', expected a number"),
        ("x_angstrom,y_angstrom,z_angstrom\n1,,2\n", "y_angstrom of row 1 is ''"),
        ("x,x,y,z\n1,2,3,4\n", "column x is given twice"),
        ("x,y,name\n1,2,a\n", "column z is missing"),
        ("1,2,3,4,5,6,7\n", "header is missing"),
    ],
)
def test_a_malformed_table_is_refused_with_the_reason(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        read_particles(write(tmp_path / "a.csv", text), voxel_spacing_angstrom=1.0)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    seed=st.integers(0, 2**31),
    names=st.lists(st.sampled_from(["017", "a,b", 'q"uote', "TS 1"]), min_size=1, max_size=5),
    suffix=st.sampled_from([".csv", ".tsv"]),
)
def test_written_particles_read_back(tmp_path: Path, seed: int, names: list[str], suffix: str) -> None:
    generator = np.random.default_rng(seed)
    n = len(names)
    rotation = Rotation.random(n, rng=generator).as_matrix()
    rotation[0] = np.nan
    particles = Particles.create(
        names, generator.normal(scale=1000, size=(n, 3)), rotation, class_name=["", "b", "007", "d", "e"][:n],
        score=np.array([np.nan, 1, 2, 3, 4][:n]), columns=pd.DataFrame({"mine": [f"00{k}" for k in range(n)]}),
    )  # fmt: skip
    path = tmp_path / f"a{suffix}"
    write_particles(path, particles)
    back = read_particles(path)
    np.testing.assert_allclose(back.position_zyx_angstrom, particles.position_zyx_angstrom, rtol=1e-12)
    np.testing.assert_allclose(back.rotation, particles.rotation, atol=1e-7)
    np.testing.assert_array_equal(back.score, particles.score)
    for name in ("tomogram", "class_name", "particle_id"):
        assert list(getattr(back, name)) == list(getattr(particles, name))
    assert list(back.columns["mine"]) == list(particles.columns["mine"])


def test_table_that_was_not_moved_keeps_its_text_and_gains_classes(tmp_path: Path) -> None:
    text = "X [A],Y [A],Z [A],note\n1.50,2.0,3,007\n4,5,6,\n"
    particles = read_particles(write(tmp_path / "a.csv", text))
    write_particles(tmp_path / "b.csv", particles)
    assert (tmp_path / "b.csv").read_text() == text
    write_particles(tmp_path / "c.csv", replace(particles, class_name=np.array(["r", "s"], dtype=object)))
    assert list(read_particles(tmp_path / "c.csv").class_name) == ["r", "s"]
    headerless = read_particles(write(tmp_path / "d.csv", "1,2,3\n4,5,6\n"), voxel_spacing_angstrom=1.0)
    write_particles(tmp_path / "e.csv", headerless)
    assert (tmp_path / "e.csv").read_text() == "1,2,3\n4,5,6\n"
