"""IMOD models: pixel origin, units, objects, sizes, slicer angles, damaged files."""

from pathlib import Path

import imodmodel
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tomosift.errors import FormatError
from tomosift.io.angles import from_slicer, swap_xyz_zyx
from tomosift.io.particles import imod
from tomosift.particles import Grid, Particles

GRIDS = {"TS_1": Grid((31, 63, 101), 7.5)}


def some(n: int = 4, oriented: bool = True) -> Particles:
    rotation = Rotation.random(n, random_state=1).as_matrix() if oriented else None
    position = np.random.default_rng(0).uniform(0, 200, (n, 3))
    return Particles.create(["TS_1"] * n, position, rotation=rotation, class_name=["a", "b"] * (n // 2))


def test_the_center_of_the_first_voxel_is_half_half_zero(tmp_path: Path) -> None:
    particles = Particles.create(["TS_1"], np.zeros((1, 3)))
    imod.write_particles(tmp_path / "m.mod", particles, voxel_spacing_angstrom=2.0)
    assert imodmodel.read(tmp_path / "m.mod")[["x", "y", "z"]].to_numpy().tolist() == [[0.5, 0.5, 0.0]]


def test_the_header_states_the_pixel_size_that_was_written(tmp_path: Path) -> None:
    imod.write_particles(tmp_path / "m.mod", some(), grids=GRIDS)
    model = imod.read_model(tmp_path / "m.mod")
    assert model.voxel_spacing_angstrom == pytest.approx(7.5)
    assert model.shape_xyz == (101, 63, 31)


def test_classes_become_objects_and_slicer_angles_the_orientation(tmp_path: Path) -> None:
    particles = some()
    imod.write_particles(tmp_path / "TS_1.mod", particles, voxel_spacing_angstrom=7.5)
    back = imod.read_particles(tmp_path / "TS_1.mod")
    order = np.argsort(particles.class_name, kind="stable")
    np.testing.assert_allclose(back.position_zyx_angstrom, particles.position_zyx_angstrom[order], atol=1e-3)
    np.testing.assert_allclose(back.rotation, particles.rotation[order], atol=1e-5)
    assert back.class_name.tolist() == ["a", "a", "b", "b"]
    assert back.tomogram.tolist() == ["TS_1"] * 4


def test_slicer_angles_rotate_the_particle_upright() -> None:
    (x, y, z) = (20.0, -35.0, 110.0)
    (rotation,) = swap_xyz_zyx(from_slicer(np.array([[x, y, z]])))
    upright = Rotation.from_euler("zyx", [z, y, x], degrees=True).as_matrix()  # extrinsic: z first, then y, then x
    np.testing.assert_allclose(upright @ rotation, np.eye(3), atol=1e-12)


def test_points_without_slicer_angles_have_no_orientation(tmp_path: Path) -> None:
    imod.write_particles(tmp_path / "m.mod", some(oriented=False), voxel_spacing_angstrom=1.0)
    assert np.isnan(imod.read_particles(tmp_path / "m.mod").rotation).all()


def test_several_tomograms_do_not_fit_into_one_model(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one model for each"):
        imod.write_particles(
            tmp_path / "m.mod", Particles.create(["a", "b"], np.zeros((2, 3))), voxel_spacing_angstrom=1.0
        )


def test_an_empty_model_is_called_empty(tmp_path: Path) -> None:
    imod.write_particles(tmp_path / "m.mod", Particles.create([], np.zeros((0, 3))), voxel_spacing_angstrom=1.0)
    assert len(imodmodel.ImodModel.from_file(tmp_path / "m.mod").objects) == 0
    with pytest.raises(FormatError, match="the model is empty"):
        imod.read_particles(tmp_path / "m.mod", voxel_spacing_angstrom=1.0)


def test_a_model_cut_anywhere_is_refused_or_read(tmp_path: Path) -> None:
    imod.write_particles(tmp_path / "m.mod", some(), voxel_spacing_angstrom=7.5)
    whole = (tmp_path / "m.mod").read_bytes()
    for length in range(0, len(whole) - 1, 7):
        (tmp_path / "cut.mod").write_bytes(whole[:length])
        with pytest.raises(FormatError):
            imod.read_particles(tmp_path / "cut.mod")


def test_an_ascii_model_is_refused_with_advice(tmp_path: Path) -> None:
    (tmp_path / "m.mod").write_text("imod 1\nmax 10 10 10\n")
    with pytest.raises(FormatError, match="only binary IMOD models are read"):
        imod.read_particles(tmp_path / "m.mod")


NAMES = [
    "imod/meshed_curvature_example.mod",
    "imod/point_sizes_example.mod",
    "imod/two_contour_example.mod",
    "cryocat/correct111.mod",
    "cryocat/empty089.mod",
    "portal_backend/oriented_points.mod",
    "portal_backend/points.mod",
]


@pytest.mark.parametrize("name", NAMES)
def test_real_models_agree_with_imodmodel(real_data: Path, name: str) -> None:
    path = real_data / "metadata" / name
    particles = imod.read_particles(path, voxel_spacing_angstrom=2.0)
    independent = imodmodel.read(path)[["object_id", "contour_id", "x", "y", "z"]]
    np.testing.assert_allclose(particles.columns[list(independent)].to_numpy(), independent.to_numpy())
    np.testing.assert_allclose(particles.position_zyx_angstrom, 2 * (independent[["z", "y", "x"]] - [0, 0.5, 0.5]))


def test_point_sizes_are_kept_and_unsized_points_have_none(real_data: Path) -> None:
    sizes = imod.read_particles(real_data / "metadata" / "imod" / "point_sizes_example.mod").columns["size"]
    assert sizes.notna().sum() == 9
    assert sizes[0] > 0


def test_point_sizes_survive_writing(real_data: Path, tmp_path: Path) -> None:
    particles = imod.read_particles(real_data / "metadata" / "imod" / "point_sizes_example.mod")
    imod.write_particles(tmp_path / "m.mod", particles, voxel_spacing_angstrom=12.4)
    written = np.sort(imod.read_particles(tmp_path / "m.mod").columns["size"])
    known = particles.columns["size"].dropna()
    np.testing.assert_allclose(written[written > 0], np.sort(known[known > 0]))
    assert len(imodmodel.read(tmp_path / "m.mod")) == 18


def test_the_unit_of_a_real_header_gives_the_spacing(real_data: Path) -> None:
    model = imod.read_model(real_data / "metadata" / "portal_backend" / "oriented_points.mod")
    assert model.voxel_spacing_angstrom == pytest.approx(16.14545, rel=1e-5)


def test_real_oriented_points_all_have_an_orientation(real_data: Path) -> None:
    particles = imod.read_particles(real_data / "metadata" / "portal_backend" / "oriented_points.mod")
    np.testing.assert_allclose(np.linalg.det(particles.rotation), 1.0)


@pytest.mark.parametrize("mark", [b"CONT", b"SLAN"])
def test_numbers_that_are_not_finite_are_refused_or_passed_over(tmp_path: Path, mark: bytes) -> None:
    particles = some()
    imod.write_particles(tmp_path / "m.mod", particles, voxel_spacing_angstrom=7.5)
    content = bytearray((tmp_path / "m.mod").read_bytes())
    at = content.index(mark) + (20 if mark == b"CONT" else 12)
    content[at : at + 4] = b"\x7f\xc0\x00\x00"  # NaN
    (tmp_path / "n.mod").write_bytes(content)
    if mark == b"CONT":
        with pytest.raises(FormatError, match="coordinates of particle 1"):
            imod.read_particles(tmp_path / "n.mod")
    else:
        known = np.isfinite(imod.read_particles(tmp_path / "n.mod").rotation).all(axis=(1, 2))
        assert known.sum() == len(particles) - 1
