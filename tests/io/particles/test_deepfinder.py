"""DeepFinder object lists: voxel origin, angles, labels, malformed XML."""

import re
from pathlib import Path

import numpy as np
import pytest

from tomosift.errors import FormatError
from tomosift.io.angles import from_tom
from tomosift.io.particles import deepfinder
from tomosift.particles import Particles


def test_voxels_count_from_zero_and_angles_are_those_of_tom(tmp_path: Path) -> None:
    path = tmp_path / "objects.xml"
    path.write_text(
        '<objlist><object tomo_idx="8" class_label="7" x="3" y="0" z="1" phi="10" psi="20" the="30"/>'
        '<object tomo_idx="8" class_label="0" x="0" y="0" z="0"/></objlist>'
    )
    particles = deepfinder.read_particles(path, voxel_spacing_angstrom=10.0)
    assert particles.position_zyx_angstrom.tolist() == [[10, 0, 30], [0, 0, 0]]
    np.testing.assert_allclose(particles.rotation[:1], from_tom(np.array([[10.0, 20, 30]])))
    assert np.isnan(particles.rotation[1]).all()
    assert particles.class_name.tolist() == ["class 7", ""]
    assert particles.tomogram.tolist() == ["8", "8"]


def test_names_of_tomograms_survive_although_the_format_has_numbers(tmp_path: Path) -> None:
    particles = Particles.create(["TS_b", "TS_a"], np.ones((2, 3)), class_name=["x", "y"])
    deepfinder.write_particles(tmp_path / "o.xml", particles, voxel_spacing_angstrom=1.0)
    back = deepfinder.read_particles(tmp_path / "o.xml", voxel_spacing_angstrom=1.0)
    assert back.tomogram.tolist() == ["TS_b", "TS_a"]
    assert back.class_name.tolist() == ["class 1", "class 2"]


def test_other_attributes_survive_and_added_columns_become_attributes(tmp_path: Path) -> None:
    path = tmp_path / "o.xml"
    path.write_text(
        '<objlist><object obj_id="5" tomo_idx="0" class_label="4" x="1" y="2" z="3" cluster_size="77"/></objlist>'
    )
    particles = deepfinder.read_particles(path, voxel_spacing_angstrom=1.0)
    added = particles.with_columns({"rlnClassNumber": np.array([6]), "tomosiftConfidence": np.array([0.5])})
    deepfinder.write_particles(path, added, voxel_spacing_angstrom=1.0)
    back = deepfinder.read_particles(path, voxel_spacing_angstrom=1.0)
    assert back.columns.loc[0, ["obj_id", "cluster_size", "class_label", "tomosiftConfidence"]].tolist() == [
        "5",
        "77",
        "6",
        "0.5",
    ]
    assert back.score.tolist() == [77]


@pytest.mark.parametrize(
    "text",
    [
        "<objlist>",
        "<other/>",
        '<objlist><object x="1" y="2"/></objlist>',
        '<objlist><object x="1" y="2" z="a"/></objlist>',
        '<!DOCTYPE objlist [<!ENTITY a "b">]><objlist>&a;</objlist>',
    ],
)
def test_malformed_lists_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "o.xml").write_text(text)
    with pytest.raises(FormatError):
        deepfinder.read_particles(tmp_path / "o.xml", voxel_spacing_angstrom=1.0)


def test_a_real_list_is_read_like_its_text(real_data: Path) -> None:
    path = real_data / "metadata" / "deepfinder" / "object_list_valid.xml"
    particles = deepfinder.read_particles(path, voxel_spacing_angstrom=1.0)
    listed = np.array(re.findall(r' x="(\d+)" y="(\d+)" z="(\d+)"', path.read_text()), dtype=float)
    np.testing.assert_array_equal(particles.position_zyx_angstrom, listed[:, ::-1])
    assert len(set(particles.class_name)) == 12
    assert np.isfinite(particles.rotation).all()
