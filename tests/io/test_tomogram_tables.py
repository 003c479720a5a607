"""Tables of tomograms and tilt series against starfile and values read off the real files."""

from pathlib import Path

import numpy as np
import pytest
import starfile

from tomosift.errors import FormatError
from tomosift.io.tomogram_tables import read_tomogram_table
from tomosift.particles import Grid


def test_real_relion5_table_gives_binned_grids(real_data: Path) -> None:
    entries = read_tomogram_table(real_data / "metadata/cryocat/R5_tutorial_run_tomograms.star")
    assert entries["TS_01"].hand == -1.0
    grid = entries["TS_01"].grid
    assert grid is not None
    assert grid.shape_zyx == (270, 540, 540)
    assert grid.voxel_spacing_angstrom == pytest.approx(1.35 * 7.407407)
    assert entries["TS_01"].path is None
    assert entries["TS_01"].half_paths is None


def project(folder: Path) -> Path:
    """A RELION 5 project with one existing tomogram, its halves and its tilt series."""
    (folder / "Tomograms/job6/tomograms").mkdir(parents=True)
    for name in ("rec_a.mrc", "rec_a_half1.mrc", "rec_a_half2.mrc"):
        (folder / "Tomograms/job6/tomograms" / name).touch()
    (folder / "Tomograms/job6/a.star").write_text(
        "data_a\nloop_\n_rlnTomoYTilt\n_rlnDefocusU\n_rlnDefocusV\n_rlnMicrographPreExposure\n"
        "-50.5 40000 38000 3\n0.5 41000 39000 0\n49 42000 40000 6\n"
    )
    table = folder / "Tomograms/job6/tomograms.star"
    stem = "Tomograms/job6/tomograms/rec"
    table.write_text(
        "data_global\nloop_\n_rlnTomoName\n_rlnVoltage\n_rlnTomoTiltSeriesPixelSize\n_rlnTomoTiltSeriesStarFile\n"
        "_rlnTomoTomogramBinning\n_rlnTomoSizeX\n_rlnTomoSizeY\n_rlnTomoSizeZ\n_rlnTomoReconstructedTomogram\n"
        "_rlnTomoReconstructedTomogramHalf1\n_rlnTomoReconstructedTomogramHalf2\n"
        f"a 200 2.0 Tomograms/job6/a.star 4 401 399 200 {stem}_a.mrc {stem}_a_half1.mrc {stem}_a_half2.mrc\n"
        f"017 200 2.0 None 4 400 400 200 {stem}_b.mrc /nowhere/1.mrc None\n"
    )
    return table


def test_paths_are_found_from_the_project_folder_and_only_if_they_exist(tmp_path: Path) -> None:
    entries = read_tomogram_table(project(tmp_path))
    assert list(entries) == ["a", "017"]
    assert entries["a"].path == tmp_path / "Tomograms/job6/tomograms/rec_a.mrc"
    assert entries["a"].half_paths == tuple(tmp_path / f"Tomograms/job6/tomograms/rec_a_half{k}.mrc" for k in (1, 2))
    assert entries["a"].grid == Grid((50, 100, 100), 8.0, (400.0, 798.0, 802.0))
    assert (entries["017"].path, entries["017"].half_paths, entries["017"].acquisition) == (None, None, None)


def test_tilt_series_of_a_table_is_read(tmp_path: Path) -> None:
    acquisition = read_tomogram_table(project(tmp_path))["a"].acquisition
    assert acquisition is not None
    assert acquisition.tilt_range_deg == (-50.5, 49.0)
    np.testing.assert_allclose(acquisition.defocus_um, [3.9, 4.0, 4.1])
    np.testing.assert_allclose(acquisition.dose_e_per_A2, [3, 0, 6])
    assert acquisition.voltage_kv == 200.0


def test_relion4_tilts_come_from_the_projection_matrices(real_data: Path, tmp_path: Path) -> None:
    table = starfile.read(real_data / "metadata/relion/220728_TS_01.star")
    rows = "\n".join(
        f"{z} {dose}" for z, dose in zip(table["rlnTomoProjZ"], table["rlnMicrographPreExposure"], strict=True)
    )
    (tmp_path / "tomograms.star").write_text(
        "data_global\nloop_\n_rlnTomoName\n_rlnTomoTiltSeriesName\n_rlnTomoSizeX\n_rlnTomoSizeY\n_rlnTomoSizeZ\n"
        "_rlnTomoTiltSeriesPixelSize\nTS ts.mrc 3000 3001 1000 1.35\n\n"
        f"data_TS\nloop_\n_rlnTomoProjZ\n_rlnMicrographPreExposure\n{rows}\n"
    )
    entry = read_tomogram_table(tmp_path / "tomograms.star")["TS"]
    assert entry.acquisition is not None
    np.testing.assert_allclose(entry.acquisition.tilt_angles_deg, table["rlnTomoYTilt"], atol=1e-4)
    assert entry.grid == Grid((1000, 3001, 3000), 1.35)


def test_other_star_files_and_impossible_sizes_are_named(real_data: Path, tmp_path: Path) -> None:
    picks = real_data / "metadata/relion5_cylindra"
    with pytest.raises(FormatError, match=r"give Tomograms/job_tomo/tomograms.star"):
        read_tomogram_table(picks / "Refine3D__job_refine__run_it050_optimisation_set.star")
    with pytest.raises(FormatError, match="expected a table of tomograms"):
        read_tomogram_table(picks / "Picks__job_picks__particles.star")
    table = project(tmp_path)
    table.write_text(table.read_text().replace(" 401 ", " 0 "))
    with pytest.raises(FormatError, match="rlnTomoSizeX/Y/Z of row 1 is 0"):
        read_tomogram_table(table)


def test_a_hand_that_is_no_number_is_named(tmp_path: Path) -> None:
    table = tmp_path / "tomograms.star"
    table.write_text("data_global\nloop_\n_rlnTomoName\n_rlnTomoSizeX\n_rlnTomoHand\na 10 left\n")
    with pytest.raises(FormatError, match=r"tomograms.star: rlnTomoHand of row 1 is 'left', expected 1 or -1"):
        read_tomogram_table(table)


@pytest.mark.parametrize(
    "text", ["nan", '""', "[" * 300, "[1,2]", "[nan,0,1,0]", "[0,0,0,0]", "[1e999,0,1,0]", "1", "x"]
)
def test_projections_of_another_form_are_passed_over_and_named(tmp_path: Path, text: str) -> None:
    table = tmp_path / "tomograms.star"
    table.write_text(
        "data_global\nloop_\n_rlnTomoName\n_rlnTomoSizeX\na 10\n\n"
        f"data_a\nloop_\n_rlnTomoProjZ\n_rlnTomoFrameCount\n[0.5,0,0.8,1] 1\n{text} 1\n"
    )
    entry = read_tomogram_table(table)["a"]
    assert entry.acquisition is None
    assert "rlnTomoProjZ of row 2" in entry.notes[0]


def test_an_empty_optimisation_set_and_an_impossible_name_are_no_tracebacks(tmp_path: Path) -> None:
    path = tmp_path / "set.star"
    path.write_text("data_\n\nloop_\n_rlnTomoParticlesFile\n_rlnTomoTomogramsFile\n")
    with pytest.raises(FormatError, match=r"set\.star: rlnTomoName is missing .* give the tomograms.star"):
        read_tomogram_table(path)
    path.write_text("data_a\n_rlnA 1\n\ndata_b\n_rlnTomoTomogramsFile tomograms.star\n")
    with pytest.raises(FormatError, match=r"give tomograms\.star"):
        read_tomogram_table(path)
    path.write_text(f"data_global\nloop_\n_rlnTomoName\n_rlnTomoTiltSeriesStarFile\nA {'x' * 5000}\n")
    assert read_tomogram_table(path)["A"].acquisition is None
