"""Written particle lists: other programs read them, nothing is lost, dialects agree."""

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import starfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from tomosift.errors import FormatError
from tomosift.io.particles.relion import read_particles, write_particles
from tomosift.io.particles.relion_blocks import Dialect
from tomosift.particles import Grid, Particles

DIALECTS: tuple[Dialect, ...] = ("relion3", "relion31", "relion4", "relion5", "warp")
GRIDS = {"TS_01": Grid((31, 63, 65), 10.0), "002": Grid((30, 64, 66), 7.5)}


def example(seed: int = 0, n: int = 5) -> Particles:
    """Off-center particles of two tomograms with any orientation, classes, scores and a foreign column."""
    generator = np.random.default_rng(seed)
    return Particles.create(
        tomogram=["TS_01", "002", "TS_01", "002", "TS_01"][:n],
        position_zyx_angstrom=generator.uniform(-20, 650, (n, 3)),
        rotation=Rotation.random(n, rng=generator).as_matrix(),
        class_name=["ribosome", "", "big thing", "12", "ribosome"][:n],
        score=generator.normal(size=n),
        columns=pd.DataFrame({"mine": np.arange(n), "rlnTomoManifoldName": ["001"] * n}),
    )


def assert_same(got: Particles, expected: Particles) -> None:
    plain = [str(name).removesuffix(".tomostar") for name in got.tomogram]
    assert plain == [str(name).removesuffix(".tomostar") for name in expected.tomogram]
    np.testing.assert_allclose(got.position_zyx_angstrom, expected.position_zyx_angstrom, atol=1e-6)
    np.testing.assert_allclose(got.rotation, expected.rotation, atol=1e-7)
    np.testing.assert_allclose(got.score, expected.score)
    assert list(got.class_name) == list(expected.class_name)
    assert list(got.particle_id) == list(expected.particle_id)
    assert list(got.columns["mine"]) == list(expected.columns["mine"])
    assert list(got.columns["rlnTomoManifoldName"]) == list(expected.columns["rlnTomoManifoldName"])


@pytest.mark.parametrize(("first", "second"), list(product(DIALECTS, DIALECTS)))
def test_particles_survive_each_pair_of_dialects(tmp_path: Path, first: Dialect, second: Dialect) -> None:
    write_particles(tmp_path / "a.star", example(), grids=GRIDS, dialect=first)
    between = read_particles(tmp_path / "a.star", grids=GRIDS)
    assert between.source == first
    assert_same(between, example())
    write_particles(tmp_path / "b.star", between, grids=GRIDS, dialect=second)
    after = read_particles(tmp_path / "b.star", grids=GRIDS)
    assert after.source == second
    assert_same(after, example())


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    dialect=st.sampled_from(DIALECTS),
    position=st.tuples(*[st.floats(-1e4, 1e4)] * 3),
    angles=st.tuples(st.floats(-180, 180), st.floats(0, 180), st.floats(-180, 180)),
    size=st.tuples(*[st.integers(1, 2000)] * 3),
    spacing=st.floats(0.5, 30),
    python=st.booleans(),
)
def test_any_pose_in_any_tomogram_survives_a_dialect(
    tmp_path: Path,
    dialect: Dialect,
    position: tuple[float, float, float],
    angles: tuple[float, float, float],
    size: tuple[int, int, int],
    spacing: float,
    python: bool,
) -> None:
    rotation = Rotation.from_euler("ZYZ", [angles], degrees=True).as_matrix()
    particles = Particles.create(["t"], np.array([position]), rotation)
    center = "relion-python" if python else "relion"
    grids = {"t": Grid(size, spacing)}
    write_particles(tmp_path / "a.star", particles, grids=grids, dialect=dialect, center=center)
    back = read_particles(tmp_path / "a.star", grids=grids, center=center)
    np.testing.assert_allclose(back.position_zyx_angstrom, particles.position_zyx_angstrom, atol=1e-6)
    np.testing.assert_allclose(back.rotation, particles.rotation, atol=1e-6)


@pytest.mark.parametrize(
    "name",
    [
        "relion5_cylindra/Refine3D__job_refine__run_it050_data.star",
        "relion5_cylindra/Picks__job_picks__particles.star",
        "cryocat/relion_3.0.star",
        "cryocat/relion_3.1_optics2.star",
        "cryocat/add_obj_sub_id.star",
        "pytom/subtomo_format.star",
        "pyseg/klass_particles.star",
        "builab/SPEF1MT2_001_8.48Apx_particles.star.gz",
        "portal_backend/relion_3_star.star",
    ],
)
def test_real_list_keeps_every_value_and_gains_a_class(real_data: Path, tmp_path: Path, name: str) -> None:
    grids = dict.fromkeys(["TS_01", "TS_02"], GRIDS["TS_01"])
    particles = read_particles(real_data / "metadata" / name, voxel_spacing_angstrom=2.0, grids=grids)
    labels = np.array(["a b" if k % 2 else "" for k in range(len(particles))], dtype=object)
    named = replace(particles, class_name=labels).with_columns({"rlnNewNumber": np.arange(len(particles))})
    write_particles(tmp_path / "out.star", named)
    back = read_particles(tmp_path / "out.star", voxel_spacing_angstrom=2.0, grids=grids)
    pd.testing.assert_frame_equal(back.columns[particles.columns.columns], particles.columns)
    assert list(back.class_name) == list(labels)
    assert back.source == particles.source
    assert set(back.tables) == set(particles.tables)
    for block, table in particles.tables.items():
        pd.testing.assert_frame_equal(back.tables[block], table)
    np.testing.assert_allclose(back.position_zyx_angstrom, particles.position_zyx_angstrom)


@pytest.mark.parametrize(
    "name", ["pytom/subtomo_format.star", "cryocat/relion_3.1_optics2.star", "pyseg/klass_particles.star"]
)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_real_list_survives_a_change_of_dialect(real_data: Path, tmp_path: Path, name: str, dialect: Dialect) -> None:
    particles = read_particles(real_data / "metadata" / name, voxel_spacing_angstrom=2.0)
    grids = dict.fromkeys(set(particles.tomogram), Grid((200, 927, 928), 10.0))
    moved = particles.with_geometry(particles.position_zyx_angstrom + 1.0)
    write_particles(tmp_path / "out.star", moved, voxel_spacing_angstrom=2.0, grids=grids, dialect=dialect)
    back = read_particles(tmp_path / "out.star", grids=grids)
    np.testing.assert_allclose(back.position_zyx_angstrom, particles.position_zyx_angstrom + 1.0, atol=1e-6)
    np.testing.assert_allclose(back.rotation, particles.rotation, atol=1e-7)
    for label in ("rlnImageName", "rlnCtfMaxResolution", "rlnClassNumber"):
        if label in particles.columns:
            assert list(back.columns[label]) == list(particles.columns[label])


def test_subtomogram_angles_and_shifts_are_absorbed(tmp_path: Path) -> None:
    text = (
        "data_optics\nloop_\n_rlnOpticsGroup\n_rlnTomoTiltSeriesPixelSize\n3 1.5\n\ndata_particles\nloop_\n"
        "_rlnTomoName\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnCoordinateZ\n_rlnAngleRot\n_rlnAngleTilt\n"
        "_rlnAnglePsi\n_rlnTomoSubtomogramRot\n_rlnTomoSubtomogramTilt\n_rlnTomoSubtomogramPsi\n_rlnOriginXAngst\n"
        "_rlnOpticsGroup\n_rlnAngleTiltPrior\nTS_01 10 20 30 11 22 33 44 55 66 7.5 3 90\n"
    )
    (tmp_path / "a.star").write_text(text)
    particles = read_particles(tmp_path / "a.star")
    write_particles(tmp_path / "b.star", particles.with_geometry())
    back = read_particles(tmp_path / "b.star")
    np.testing.assert_allclose(back.position_zyx_angstrom, particles.position_zyx_angstrom, atol=1e-9)
    np.testing.assert_allclose(back.rotation, particles.rotation, atol=1e-9)
    assert back.tables["optics"]["rlnTomoTiltSeriesPixelSize"].tolist() == [1.5]
    assert back.columns["rlnOpticsGroup"].tolist() == [3]
    assert not {"rlnOriginXAngst", "rlnTomoSubtomogramRot", "rlnAngleTiltPrior"} & set(back.columns)


def test_the_columns_that_relion_requires_are_written(tmp_path: Path) -> None:
    write_particles(tmp_path / "a.star", example(), grids=GRIDS)
    blocks = starfile.read(tmp_path / "a.star")
    assert list(blocks) == ["optics", "particles"]
    assert {"rlnTomoName", "rlnTomoParticleName", "rlnOpticsGroup", "rlnCenteredCoordinateXAngst"} <= set(
        blocks["particles"]
    )
    optics = {"rlnOpticsGroup", "rlnOpticsGroupName", "rlnVoltage", "rlnSphericalAberration", "rlnAmplitudeContrast"}
    assert optics | {"rlnTomoTiltSeriesPixelSize"} <= set(blocks["optics"])
    assert sorted(blocks["optics"]["rlnTomoTiltSeriesPixelSize"]) == [7.5, 10.0]
    assert "# version 50001" in (tmp_path / "a.star").read_text()


def test_default_dialect_follows_what_is_known(tmp_path: Path) -> None:
    write_particles(tmp_path / "a.star", example(), voxel_spacing_angstrom=4.0)
    assert read_particles(tmp_path / "a.star").source == "relion4"
    write_particles(tmp_path / "b.star", example(), grids={"TS_01": GRIDS["TS_01"]}, voxel_spacing_angstrom=4.0)
    assert read_particles(tmp_path / "b.star").source == "relion4"
    write_particles(tmp_path / "c.star.gz", example(), grids=GRIDS)
    assert read_particles(tmp_path / "c.star.gz", grids=GRIDS).source == "relion5"


def test_particles_without_orientation_have_no_angles(tmp_path: Path) -> None:
    particles = Particles.create(["a", "a"], np.ones((2, 3)))
    write_particles(tmp_path / "a.star", particles, voxel_spacing_angstrom=1.0)
    back = read_particles(tmp_path / "a.star")
    assert "rlnAngleRot" not in back.columns
    assert np.isnan(back.rotation).all()


def test_some_particles_without_orientation_are_marked(tmp_path: Path) -> None:
    rotation = np.stack([np.eye(3), np.full((3, 3), np.nan)])
    write_particles(
        tmp_path / "a.star", Particles.create(["a", "a"], np.ones((2, 3)), rotation), voxel_spacing_angstrom=1.0
    )
    back = read_particles(tmp_path / "a.star")
    assert back.columns["rlnAngleTilt"].tolist() == [0.0, 0.0]
    np.testing.assert_allclose(back.rotation, rotation, atol=1e-12)


def test_selected_rows_keep_their_values(real_data: Path, tmp_path: Path) -> None:
    particles = read_particles(real_data / "metadata/pytom/subtomo_format.star")
    write_particles(tmp_path / "a.star", particles.select(np.array([7, 3])))
    back = read_particles(tmp_path / "a.star")
    pd.testing.assert_frame_equal(back.columns, particles.columns.iloc[[7, 3]].reset_index(drop=True))


def test_missing_pixel_size_and_tomogram_are_refused_and_no_file_is_written(tmp_path: Path) -> None:
    one = {"TS_01": GRIDS["TS_01"]}
    with pytest.raises(ValueError, match="voxel_spacing_angstrom is None"):
        write_particles(tmp_path / "a.star", example())
    with pytest.raises(FormatError, match="size of tomogram 002 is unknown"):
        write_particles(tmp_path / "a.star", example(), grids=one, dialect="relion5", voxel_spacing_angstrom=1.0)
    assert not list(tmp_path.iterdir())
