"""copick projects: roots, choice of picks, what is written and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tomosift.errors import FormatError
from tomosift.io.angles import swap_xyz_zyx
from tomosift.io.particles import copick, copick_project
from tomosift.particles import Particles


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """An empty project with an overlay and a static root."""
    for name in ("overlay", "static"):
        (tmp_path / name / "ExperimentRuns").mkdir(parents=True)
    content = {
        "name": "test",
        "pickable_objects": [{"name": "ribosome"}, {"name": "beta-amylase"}],
        "overlay_root": f"local://{tmp_path}/overlay/",
        "static_root": f"local://{tmp_path}/static",
    }
    (tmp_path / "config.json").write_text(json.dumps(content))
    return tmp_path / "config.json"


def add_picks(root: Path, run: str, stem: str, points: list[dict[str, object]], **more: object) -> Path:
    path = root / "ExperimentRuns" / run / "Picks" / f"{stem}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    user, session, name = stem.split("_")
    names = {"pickable_object_name": name, "user_id": user, "session_id": session, "run_name": run, "unit": "angstrom"}
    path.write_text(json.dumps(names | {"points": points} | more))
    return path


def point(x: float, y: float, z: float, **more: object) -> dict[str, object]:
    return {"location": {"x": x, "y": y, "z": z}, "instance_id": 3, "score": 0.5, **more}


def test_picks_of_both_roots_are_read_and_the_overlay_goes_first(config: Path) -> None:
    add_picks(config.parent / "overlay", "TS_1", "me_1_ribosome", [point(1, 2, 3)])
    add_picks(config.parent / "static", "TS_1", "me_1_ribosome", [point(7, 7, 7), point(8, 8, 8)])
    add_picks(config.parent / "static", "TS_2", "me_1_beta-amylase", [point(4, 5, 6)])
    particles = copick.read_particles(config)
    assert particles.position_zyx_angstrom.tolist() == [[3, 2, 1], [6, 5, 4]]
    assert particles.tomogram.tolist() == ["TS_1", "TS_2"]
    assert particles.class_name.tolist() == ["ribosome", "beta-amylase"]
    assert particles.score.tolist() == [0.5, 0.5]
    assert particles.columns["instance_id"].tolist() == [3, 3]


def test_users_sessions_and_objects_can_be_selected(config: Path) -> None:
    for stem in ("me_1_ribosome", "me_2_ribosome", "you_1_ribosome", "me_1_beta-amylase"):
        add_picks(config.parent / "overlay", "TS_1", stem, [point(1, 1, 1)])
    chosen = copick.read_project(config, users=["me"], sessions=["1"], objects=["ribosome"])
    assert len(chosen) == 1
    with pytest.raises(FormatError, match="check user, session and object"):
        copick.read_project(config, users=["nobody"])


def test_the_translation_is_added_and_the_rotation_kept(tmp_path: Path) -> None:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("zyx", [10, 20, 30], degrees=True).as_matrix()
    matrix[:3, 3] = [0.5, -1, 2]
    path = add_picks(tmp_path, "TS_1", "me_1_ribosome", [point(10, 20, 30, transformation_=matrix.tolist())])
    particles = copick.read_particles(path)
    np.testing.assert_allclose(particles.position_zyx_angstrom, [[32, 19, 10.5]])
    np.testing.assert_allclose(particles.rotation, swap_xyz_zyx(matrix[None, :3, :3]), atol=1e-12)


def test_identity_throughout_means_no_orientation(tmp_path: Path) -> None:
    path = add_picks(tmp_path, "TS_1", "me_1_ribosome", [point(1, 2, 3, transformation_=np.eye(4).tolist())] * 2)
    assert np.isnan(copick.read_particles(path).rotation).all()


def test_predictions_are_written_one_file_per_run_and_object(config: Path) -> None:
    rotation = Rotation.random(3, random_state=2).as_matrix()
    position = np.arange(9.0).reshape(3, 3)
    particles = Particles.create(
        ["TS_1", "TS_1", "TS_2"], position, rotation, ["ribosome", "beta_amylase", "ribosome"], np.array([0.25, 1, 0.5])
    )
    written = copick.write_project(config, particles, session="run_7")
    assert sorted(path.relative_to(config.parent / "overlay").as_posix() for path in written) == [
        "ExperimentRuns/TS_1/Picks/tomosift_run-7_beta-amylase.json",
        "ExperimentRuns/TS_1/Picks/tomosift_run-7_ribosome.json",
        "ExperimentRuns/TS_2/Picks/tomosift_run-7_ribosome.json",
    ]
    back = copick.read_project(config, users=["tomosift"])
    np.testing.assert_allclose(back.position_zyx_angstrom, position[[1, 0, 2]])
    np.testing.assert_allclose(back.rotation, rotation[[1, 0, 2]])
    assert back.score.tolist() == [1, 0.25, 0.5]


def test_a_class_that_the_project_does_not_know_is_refused(config: Path) -> None:
    particles = Particles.create(["TS_1"], np.zeros((1, 3)), class_name=["proteasome"])
    with pytest.raises(ValueError, match="no pickable object proteasome"):
        copick.write_particles(config, particles)


@pytest.mark.parametrize("run", ["../elsewhere", "a/b", ".hidden", ""])
def test_run_names_cannot_lead_out_of_the_project(config: Path, run: str) -> None:
    with pytest.raises(ValueError, match="cannot be a name in a copick project"):
        copick.write_particles(config, Particles.create([run], np.zeros((1, 3)), class_name=["ribosome"]))


def test_links_that_lead_out_of_the_project_are_not_followed(config: Path, tmp_path: Path) -> None:
    add_picks(config.parent / "overlay", "TS_1", "me_1_ribosome", [point(1, 1, 1)])
    add_picks(tmp_path / "outside", "TS_9", "me_1_ribosome", [point(9, 9, 9)])
    (config.parent / "overlay" / "ExperimentRuns" / "TS_9").symlink_to(tmp_path / "outside" / "ExperimentRuns" / "TS_9")
    assert copick.read_particles(config).tomogram.tolist() == ["TS_1"]


def test_a_folder_and_a_relative_root_are_read(config: Path) -> None:
    add_picks(config.parent / "overlay", "TS_1", "me_1_ribosome", [point(1, 1, 1)])
    relative = config.with_name("relative.json")
    relative.write_text(json.dumps({"pickable_objects": [], "overlay_root": "overlay"}))
    assert len(copick.read_particles(relative)) == len(copick.read_particles(config.parent / "overlay")) == 1


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("overlay_local.json", "expected a folder that exists"),
        ("overlay_local_static_data_portal.json", "expected a folder that exists"),
        ("overlay_s3_static_s3.json", "copy the project from s3:// to a disk"),
    ],
)
def test_real_configurations_without_local_folders_are_refused_with_advice(
    real_data: Path, name: str, sentence: str
) -> None:
    with pytest.raises(FormatError, match=sentence):
        copick.read_particles(real_data / "metadata" / "copick_configs" / name)
    assert copick_project.object_names(real_data / "metadata" / "copick_configs" / name) == [
        "ribosome",
        "atpase",
        "membrane",
    ]


def test_real_picks_are_read_with_their_rotations(real_data: Path) -> None:
    path = real_data / "metadata" / "portal_backend" / "copick.json"
    particles, points = copick.read_particles(path), json.loads(path.read_text())["points"]
    assert particles.class_name.tolist() == ["ribosome"] * 4
    matrices = np.array([item["transformation_"] for item in points])
    location = np.array([[item["location"][axis] for axis in "zyx"] for item in points])
    np.testing.assert_allclose(particles.position_zyx_angstrom, location + matrices[:, 2::-1, 3])
    np.testing.assert_allclose(
        particles.rotation @ particles.rotation.transpose(0, 2, 1), np.tile(np.eye(3), (4, 1, 1)), atol=1e-9
    )


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "{}",
        '{"pickable_object_name": "a", "points": 3}',
        '{"pickable_object_name": "a", "unit": "pixel", "points": []}',
        '{"pickable_object_name": "a", "points": [4]}',
        '{"pickable_object_name": "a", "points": [{"location": {"x": 1}}]}',
        '{"pickable_object_name": "a", "points": [{"location": {"x": 1, "y": 1, "z": 1}, "transformation_": [1]}]}',
        '{"pickable_objects": [], "overlay_root": 3}',
        '{"pickable_objects": []}',
    ],
)
def test_malformed_files_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "picks.json").write_text(content)
    with pytest.raises(FormatError):
        copick.read_particles(tmp_path / "picks.json")


def test_a_single_picks_file_holds_one_run_and_one_object(tmp_path: Path) -> None:
    particles = Particles.create(["TS_1", "TS_2"], np.zeros((2, 3)))
    with pytest.raises(ValueError, match="one run and one object"):
        copick.write_particles(tmp_path / "picks.json", particles)
    copick.write_particles(tmp_path / "picks.json", particles.select(np.array([0])))
    assert copick.read_particles(tmp_path / "picks.json").tomogram.tolist() == ["TS_1"]
