"""Particle lists in STAR files: values against starfile, scipy and formulas written out."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import starfile
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from tomosift.errors import FormatError
from tomosift.io.particles.relion import read_particles
from tomosift.particles import Grid

CENTERED = "rlnCenteredCoordinateXAngst", "rlnCenteredCoordinateYAngst", "rlnCenteredCoordinateZAngst"
PIXELS = "rlnCoordinateX", "rlnCoordinateY", "rlnCoordinateZ"
ANGLES = "rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"
SHIFTS = "rlnOriginXAngst", "rlnOriginYAngst", "rlnOriginZAngst"
SUBTOMOGRAM = "rlnTomoSubtomogramRot", "rlnTomoSubtomogramTilt", "rlnTomoSubtomogramPsi"


def relion_matrix(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Particle into tomogram, for xyz vectors, by scipy."""
    return Rotation.from_euler("ZYZ", angles, degrees=True).inv().as_matrix()


def xyz(table: pd.DataFrame, labels: tuple[str, ...]) -> NDArray[np.float64]:
    return table[list(labels)].to_numpy(np.float64)


def on_xyz(rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    return rotation[:, ::-1, ::-1]


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


RELION5 = """
# version 50001

data_optics

loop_
_rlnOpticsGroup #1
_rlnTomoTiltSeriesPixelSize #2
1 1.35
7 2.5

data_particles

loop_
_rlnTomoName #1
_rlnCenteredCoordinateXAngst #2
_rlnCenteredCoordinateYAngst #3
_rlnCenteredCoordinateZAngst #4
_rlnTomoSubtomogramRot #5
_rlnTomoSubtomogramTilt #6
_rlnTomoSubtomogramPsi #7
_rlnAngleRot #8
_rlnAngleTilt #9
_rlnAnglePsi #10
_rlnOriginXAngst #11
_rlnOriginYAngst #12
_rlnOriginZAngst #13
_rlnOpticsGroup #14
017 100.5 -20.25 3.0 10 20 30 -40 50 160 1.5 -2.5 4.0 1
018 -7.0 11.0 13.0 90 0 0 15 25 35 0 0 8.0 7
"""
ODD_GRIDS = {"017": Grid((31, 63, 65), 10.0), "018": Grid((30, 64, 66), 20.0)}


def test_relion5_position_is_half_the_size_plus_centered_minus_rotated_shift(tmp_path: Path) -> None:
    particles = read_particles(write(tmp_path / "a.star", RELION5), grids=ODD_GRIDS)
    turned = relion_matrix(np.array([10.0, 20.0, 30.0])) @ [1.5, -2.5, 4.0]
    expected = np.array([65, 63, 31]) * 10.0 / 2 + [100.5, -20.25, 3.0] - turned
    np.testing.assert_allclose(particles.position_zyx_angstrom[0, ::-1], expected, atol=1e-9)
    assert particles.source == "relion5"


def test_subtomogram_angles_are_applied_after_particle_angles(tmp_path: Path) -> None:
    particles = read_particles(write(tmp_path / "a.star", RELION5), grids=ODD_GRIDS)
    expected = relion_matrix(np.array([10.0, 20.0, 30.0])) @ relion_matrix(np.array([-40.0, 50.0, 160.0]))
    np.testing.assert_allclose(on_xyz(particles.rotation)[0], expected, atol=1e-9)


def test_python_center_is_one_tilt_series_pixel_lower(tmp_path: Path) -> None:
    path = write(tmp_path / "a.star", RELION5)
    default = read_particles(path, grids=ODD_GRIDS).position_zyx_angstrom
    python = read_particles(path, grids=ODD_GRIDS, center="relion-python").position_zyx_angstrom
    np.testing.assert_allclose(default - python, np.repeat([[1.35], [2.5]], 3, axis=1), atol=1e-9)


def test_sizes_beside_the_particles_count_tilt_series_pixels(tmp_path: Path) -> None:
    text = (
        "data_particles\nloop_\n_rlnTomoName\n_rlnTomoSizeX\n_rlnTomoSizeY\n_rlnTomoSizeZ\n_rlnTomoTiltSeriesPixelSize\n"
        "_rlnCenteredCoordinateXAngst\n_rlnCenteredCoordinateYAngst\n_rlnCenteredCoordinateZAngst\n"
        "a 401 301 201 1.5 1 2 3\n"
    )
    particles = read_particles(write(tmp_path / "a.star", text))
    np.testing.assert_allclose(
        particles.position_zyx_angstrom[0, ::-1], [401 * 0.75 + 1, 301 * 0.75 + 2, 201 * 0.75 + 3]
    )


def test_names_that_resemble_numbers_stay_names(tmp_path: Path) -> None:
    particles = read_particles(write(tmp_path / "a.star", RELION5), grids=ODD_GRIDS)
    assert list(particles.tomogram) == ["017", "018"]
    assert list(particles.columns["rlnTomoName"]) == ["017", "018"]


def test_centered_coordinates_win_over_pixels_beside_them(tmp_path: Path) -> None:
    text = RELION5.replace("_rlnAngleRot", "_rlnCoordinateX").replace("_rlnAngleTilt", "_rlnCoordinateY")
    text = text.replace("_rlnAnglePsi", "_rlnCoordinateZ")
    assert read_particles(write(tmp_path / "a.star", text), grids=ODD_GRIDS).source == "relion5"


def test_real_relion5_refinement_agrees_with_starfile_and_scipy(real_data: Path) -> None:
    path = real_data / "metadata/relion5_cylindra/Refine3D__job_refine__run_it050_data.star"
    table = starfile.read(path)["particles"]
    grids = {name: Grid((61, 200, 201), 12.42) for name in table["rlnTomoName"].unique()}
    particles = read_particles(path, grids=grids)
    expected = np.array([201, 200, 61]) * 12.42 / 2 + xyz(table, CENTERED) - xyz(table, SHIFTS)
    np.testing.assert_allclose(particles.position_zyx_angstrom[:, ::-1], expected, atol=1e-9)
    np.testing.assert_allclose(on_xyz(particles.rotation), relion_matrix(xyz(table, ANGLES)), atol=1e-9)
    assert list(particles.particle_id) == list(table["rlnTomoParticleName"])
    assert set(particles.tables) == {"optics"}


def test_real_relion5_picks_without_optics_are_read(real_data: Path) -> None:
    path = real_data / "metadata/relion5_cylindra/Picks__job_picks__particles.star"
    table = starfile.read(path)
    grids = dict.fromkeys(table["rlnTomoName"].unique(), Grid((60, 200, 200), 12.42))
    particles = read_particles(path, grids=grids)
    expected = np.array([200, 200, 60]) * 6.21 + xyz(table, CENTERED)
    np.testing.assert_allclose(particles.position_zyx_angstrom[:, ::-1], expected, atol=1e-9)
    assert np.isnan(particles.rotation).all()


@pytest.mark.parametrize("name", ["relion_3.1_optics", "relion_3.1_optics2", "bin6_TM_starfile"])
def test_real_relion31_shifts_are_angstrom_and_pixels_come_from_the_optics_group(real_data: Path, name: str) -> None:
    path = real_data / f"metadata/cryocat/{name}.star"
    blocks = starfile.read(path)
    table = blocks["particles"].merge(blocks["optics"], on="rlnOpticsGroup")
    expected = xyz(table, PIXELS) * table["rlnImagePixelSize"].to_numpy()[:, None] - xyz(table, SHIFTS)
    particles = read_particles(path)
    np.testing.assert_allclose(particles.position_zyx_angstrom[:, ::-1], expected, atol=1e-9)
    np.testing.assert_allclose(on_xyz(particles.rotation), relion_matrix(xyz(table, ANGLES)), atol=1e-9)
    assert particles.source == "relion31"


def test_real_relion3_shifts_are_pixels(real_data: Path) -> None:
    path = real_data / "metadata/portal_backend/relion_3_star.star"
    table = starfile.read(path)
    shift = xyz(table, ("rlnOriginX", "rlnOriginY", "rlnOriginZ"))
    particles = read_particles(path)
    np.testing.assert_allclose(
        particles.position_zyx_angstrom[:, ::-1], (xyz(table, PIXELS) - shift) * 1.7005, atol=1e-9
    )
    assert particles.source == "warp"


def test_real_lists_state_pixel_sizes_in_five_ways(real_data: Path) -> None:
    folder = real_data / "metadata"
    cases = {
        "cryocat/relion_3.0.star": (5.364, "relion3"),
        "cryocat/relion_test.star": (2.23, "relion3"),
        "cryocat/bin1_1deg_500.star": (1.971, "relion3"),
        "cryocat/add_obj_sub_id.star": (1.2, "relion31"),
        "builab/SPEF1MT2_001_8.48Apx_particles.star.gz": (8.48, "pytom"),
        "pytom/subtomo_format.star": (6.896, "warp"),
    }
    for name, (pixel, source) in cases.items():
        particles = read_particles(folder / name)
        expected = particles.columns[list(PIXELS)].to_numpy(np.float64) * pixel
        np.testing.assert_allclose(particles.position_zyx_angstrom[:, ::-1], expected, atol=1e-9, err_msg=name)
        assert particles.source == source, name


def test_real_list_without_pixel_size_requires_one(real_data: Path) -> None:
    path = real_data / "metadata/relion3_chlamy/clathrin.star.gz"
    with pytest.raises(FormatError, match=r"pixel size of the coordinates is not in the file.*--picks-spacing"):
        read_particles(path)
    particles = read_particles(path, voxel_spacing_angstrom=1.96)
    np.testing.assert_allclose(particles.position_zyx_angstrom[0, ::-1], np.array([1491.999, 3336.0, 1400.001]) * 1.96)
    assert len(particles) == 5999
    assert particles.tomogram[0] == "tomo_0404"


def test_real_shifts_in_pixels_use_the_requested_voxel_spacing(real_data: Path) -> None:
    path = real_data / "metadata/pyseg/klass_particles.star"
    particles = read_particles(path, voxel_spacing_angstrom=2.62)
    expected = (np.array([602.812, 1138.678, 219.334]) - [-10.223163, 6.581837, 15.971837]) * 2.62
    np.testing.assert_allclose(particles.position_zyx_angstrom[0, ::-1], expected, atol=1e-9)


def test_m_coordinates_are_angstrom_and_the_first_pose_counts(tmp_path: Path) -> None:
    labels = [f"wrp{kind}{axis}{k}" for kind, axes in (("Coordinate", "XYZ"), ("Angle", ("Rot", "Tilt", "Psi")))
              for axis in axes for k in (1, 2)]  # fmt: skip
    header = "\n".join(f"_{label}" for label in [*labels, "wrpSourceName", "wrpSourceHash"])
    row = "10 11 20 21 30 31 40 41 50 51 60 61 TS_1.tomostar 12345E67"
    particles = read_particles(write(tmp_path / "m.star", f"data_\nloop_\n{header}\n{row}\n"))
    np.testing.assert_allclose(particles.position_zyx_angstrom, [[30.0, 20.0, 10.0]])
    np.testing.assert_allclose(on_xyz(particles.rotation)[0], relion_matrix(np.array([40.0, 50.0, 60.0])), atol=1e-9)
    assert particles.columns["wrpSourceHash"].tolist() == ["12345E67"]
    assert particles.tomogram[0] == "TS_1.tomostar"


def test_classes_are_taken_from_a_requested_numeric_column(real_data: Path) -> None:
    path = real_data / "metadata/cryocat/add_obj_sub_id.star"
    assert set(read_particles(path).class_name) == {""}
    assert list(read_particles(path, class_column="rlnClassNumber").class_name) == ["class 1", "class 2"]
    with pytest.raises(FormatError, match="rlnFoo is missing"):
        read_particles(path, class_column="rlnFoo")


def test_score_is_the_programs_figure_of_merit(real_data: Path) -> None:
    particles = read_particles(real_data / "metadata/builab/SPEF1MT2_001_8.48Apx_particles.star.gz")
    np.testing.assert_allclose(particles.score, particles.columns["rlnLCCmax"].to_numpy(np.float64))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "relion5_cylindra/Refine3D__job_refine__run_it050_optimisation_set.star",
            "give Refine3D/job_refine/run_it050",
        ),
        ("cryocat/R5_tutorial_run_tomograms.star", "table of tomograms"),
        ("cryocat/relion5_TS_01_tilt.star", "tilt series of RELION"),
        ("cryocat/dc02t01_ctf.star", "tilt series of RELION"),
        ("cryocat/wedge_list.star", "wedge list of STOPGAP"),
        ("portal_backend/stopgap_star.star", "motive list of STOPGAP"),
        ("cryodrgn/relion31.star", "rlnCoordinateZ is missing"),
        ("cryodrgn/empiar_10076_7.star", "rlnCoordinateX of block data_ is missing"),
        ("pytom/relion_with_optics_group.star", "three dimensions"),
    ],
)
def test_real_file_without_particles_is_refused_by_its_kind(real_data: Path, name: str, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        read_particles(real_data / "metadata" / name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("11.0 13.0", "x 13.0"), "rlnCenteredCoordinateYAngst of row 2 is 'x', expected a number"),
        (("11.0 13.0", "nan 13.0"), "rlnCenteredCoordinateYAngst of row 2 is nan"),
        (("8.0 7", "8.0 3"), "rlnOpticsGroup of row 2 is 3, expected one of 1, 7"),
        (("7 2.5", "7 -2.5"), "rlnTomoTiltSeriesPixelSize of row 2 is -2.5"),
        (
            ("_rlnCenteredCoordinateZAngst", "_rlnOther"),
            "rlnCenteredCoordinateZAngst of block data_particles",
        ),
        (("018", "019"), "size of tomogram 019 is unknown"),
    ],
)
def test_wrong_value_is_named_with_its_column_and_row(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        read_particles(write(tmp_path / "a.star", RELION5.replace(*change)), grids=ODD_GRIDS, center="relion-python")
