"""PyTom particle lists and lists of coordinates."""

from pathlib import Path

import numpy as np
import pytest

from tomosift.errors import FormatError
from tomosift.io.angles import from_tom
from tomosift.io.particles import pytom
from tomosift.particles import Particles

PARTICLE = (
    '<ParticleList><Particle Filename="a.em"><Rotation Z1="10" Z2="20" X="30" Paradigm="ZXZ"/>'
    '<Shift X="1" Y="0" Z="-2"/><PickPosition X="4" Y="5" Z="6" Origin="TS_1.mrc"/>'
    '<Score Type="FLCFScore" Value="0.5"/><Class Name="3"/></Particle>'
    '<Particle><PickPosition X="0" Y="0" Z="0" Origin="TS_1.mrc"/><Class Name="0"/></Particle></ParticleList>'
)


def test_a_particle_list_gives_position_shift_rotation_score_and_class(tmp_path: Path) -> None:
    (tmp_path / "p.xml").write_text(PARTICLE)
    particles = pytom.read_particles(tmp_path / "p.xml", voxel_spacing_angstrom=2.0)
    assert particles.position_zyx_angstrom.tolist() == [[8, 10, 10], [0, 0, 0]]
    np.testing.assert_allclose(particles.rotation[:1], from_tom(np.array([[10.0, 20, 30]])))
    assert np.isnan(particles.rotation[1]).all()
    assert particles.score[0] == 0.5
    assert particles.class_name.tolist() == ["class 3", ""]
    assert particles.tomogram.tolist() == ["TS_1.mrc"] * 2


def test_a_coordinate_list_names_its_tomogram_in_a_comment(real_data: Path) -> None:
    path = real_data / "metadata" / "pytom" / "coords_tomogram_000_WBP.txt"
    particles = pytom.read_particles(path, voxel_spacing_angstrom=10.0)
    assert particles.tomogram.tolist() == ["tomogram_000_WBP.mrc"] * 2
    assert particles.position_zyx_angstrom.tolist() == [[2320, 600, 680], [2320, 730, 1080]]


def test_shrec_lists_give_objects_and_keep_angles_as_columns(tmp_path: Path) -> None:
    (tmp_path / "model_9.txt").write_text("4V94 1 2 3 10 20 30\n1bxn 4 5 6 0 0 0\n")
    particles = pytom.read_particles(tmp_path / "model_9.txt", voxel_spacing_angstrom=10.0)
    assert particles.class_name.tolist() == ["4V94", "1bxn"]
    assert particles.position_zyx_angstrom.tolist() == [[30, 20, 10], [60, 50, 40]]
    assert particles.columns["angle1"].tolist() == [10, 0]
    assert np.isnan(particles.rotation).all()


@pytest.mark.parametrize(
    "text", ["", "# only\n", "1 2\n", "1 2 3 4\n", "1bxn 1 2\n", "word\n", "1 2 nan\n", "1 5.0 3 4 5 6 7\n"]
)
def test_other_text_is_no_coordinate_list(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.txt").write_text(text)
    with pytest.raises(FormatError):
        pytom.read_particles(tmp_path / "c.txt", voxel_spacing_angstrom=1.0)


@pytest.mark.parametrize("text", ["<ParticleList/>", "<ParticleList><Particle/></ParticleList>", "<ParticleList>"])
def test_malformed_lists_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "p.xml").write_text(text)
    with pytest.raises(FormatError):
        pytom.read_particles(tmp_path / "p.xml", voxel_spacing_angstrom=1.0)


def test_coordinates_of_one_tomogram_come_back(tmp_path: Path) -> None:
    particles = Particles.create(["TS_1"] * 2, np.array([[1.0, 2, 3], [4.5, 5, 6]]))
    pytom.write_particles(tmp_path / "c.txt", particles, voxel_spacing_angstrom=2.0)
    back = pytom.read_particles(tmp_path / "c.txt", voxel_spacing_angstrom=2.0)
    np.testing.assert_allclose(back.position_zyx_angstrom, particles.position_zyx_angstrom)
    assert back.tomogram.tolist() == ["TS_1"] * 2
    with pytest.raises(ValueError, match="one tomogram but 2"):
        pytom.write_particles(
            tmp_path / "d.txt", Particles.create(["a", "b"], np.ones((2, 3))), voxel_spacing_angstrom=1.0
        )
