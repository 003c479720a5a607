"""Points of the CryoET Data Portal: where spacing, run and object come from, orientations, broken lines."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tomosift.errors import FormatError
from tomosift.io.angles import swap_xyz_zyx
from tomosift.io.particles import portal
from tomosift.particles import Particles


@pytest.fixture
def annotation(tmp_path: Path) -> Path:
    """Where the portal keeps the points of an annotation."""
    folder = tmp_path / "30001" / "RUN1" / "Reconstructions" / "VoxelSpacing12.300" / "Annotations" / "100"
    folder.mkdir(parents=True)
    (folder / "foo-1.0.json").write_text(json.dumps({"annotation_object": {"name": "ribosome", "id": "GO:1"}}))
    return folder / "foo-1.0_orientedpoint.ndjson"


def line(**more: object) -> str:
    return json.dumps({"type": "point", "location": {"x": 3, "y": 2.5, "z": 1}, **more}) + "\n"


def test_folders_and_metadata_give_spacing_run_and_object(annotation: Path) -> None:
    annotation.write_text(line() + "\n" + line(instance_id=4))
    particles = portal.read_particles(annotation)
    np.testing.assert_allclose(particles.position_zyx_angstrom, [[12.3, 30.75, 36.9]] * 2)
    assert particles.tomogram.tolist() == ["RUN1", "RUN1"]
    assert particles.class_name.tolist() == ["ribosome", "ribosome"]
    assert particles.columns["instance_id"].tolist()[1] == 4
    assert np.isnan(particles.rotation).all()


def test_a_requested_spacing_goes_before_the_folder(annotation: Path) -> None:
    annotation.write_text(line())
    np.testing.assert_allclose(
        portal.read_particles(annotation, voxel_spacing_angstrom=2.0).position_zyx_angstrom[0], [2, 5, 6]
    )


def test_without_folders_the_spacing_is_required(tmp_path: Path) -> None:
    (tmp_path / "p.ndjson").write_text(line())
    with pytest.raises(FormatError, match="--picks-spacing"):
        portal.read_particles(tmp_path / "p.ndjson")


def test_rotation_matrices_take_the_particle_into_the_tomogram(annotation: Path) -> None:
    matrix = Rotation.from_euler("zyx", [10, 20, 30], degrees=True).as_matrix()
    annotation.write_text(line(type="orientedPoint", xyz_rotation_matrix=matrix.tolist()))
    np.testing.assert_allclose(portal.read_particles(annotation).rotation, swap_xyz_zyx(matrix[None]), atol=1e-12)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("{", "line 1"),
        ("[1, 2]", "line 1"),
        ('{"type": "point"}', "line 1"),
        ('{"location": {"x": 1, "y": 2}}', "z in line 1"),
        ('{"location": {"x": 1, "y": 2, "z": "3"}}', "z in line 1"),
        (line(xyz_rotation_matrix=[[1, 0], [0, 1]]), "xyz_rotation_matrix in line 1"),
        (line(xyz_rotation_matrix=[[9, 0, 0], [0, 1, 0], [0, 0, 1]]), "xyz_rotation_matrix in line 1"),
        ('{"location": {"x": NaN, "y": 2, "z": 3}}', "x in line 1 is nan"),
    ],
)
def test_broken_lines_are_named(annotation: Path, text: str, field: str) -> None:
    annotation.write_text(text)
    with pytest.raises(FormatError, match=field):
        portal.read_particles(annotation)


def test_points_come_back_as_written(annotation: Path) -> None:
    rotation = Rotation.random(3, random_state=0).as_matrix()
    rotation[1] = np.nan
    particles = Particles.create(
        ["RUN1"] * 3, 100 * np.arange(9.0).reshape(3, 3), rotation=rotation, class_name=["ribosome"] * 3
    )
    portal.write_particles(annotation, particles)
    back = portal.read_particles(annotation)
    np.testing.assert_allclose(back.position_zyx_angstrom, particles.position_zyx_angstrom, atol=1e-9)
    np.testing.assert_allclose(back.rotation, rotation, atol=1e-12)
    assert back.columns["type"].tolist() == ["orientedPoint", "point", "orientedPoint"]


def test_other_fields_survive_and_added_columns_become_fields(annotation: Path) -> None:
    annotation.write_text(line(instance_id=4) + line())
    particles = portal.read_particles(annotation)
    portal.write_particles(annotation, particles.with_columns({"tomosiftConfidence": np.array([0.5, 0.25])}))
    points = [json.loads(text) for text in annotation.read_text().splitlines()]
    assert [point.get("instance_id") for point in points] == [4, None]
    assert [point["tomosiftConfidence"] for point in points] == [0.5, 0.25]
    assert points[0]["location"] == {"x": 3.0, "y": 2.5, "z": 1.0}


def test_several_runs_or_objects_need_a_file_each(tmp_path: Path) -> None:
    two = Particles.create(["a", "b"], np.zeros((2, 3)))
    with pytest.raises(ValueError, match="one tomogram but 2"):
        portal.write_particles(tmp_path / "p.ndjson", two, voxel_spacing_angstrom=1.0)


def test_metadata_is_refused_as_points(real_data: Path) -> None:
    with pytest.raises(FormatError, match=r"name its \.ndjson file instead"):
        portal.read_particles(real_data / "metadata" / "portal_backend" / "annotation_foo-1.0.json")
