"""Finding tomograms and matching their names."""

import json
from pathlib import Path

import numpy as np
import pytest

from tomosift.data.extraction.tomogram_sources import collect_grids, open_tomograms
from tomosift.data.extraction.tomograms import Tomogram, match_tomograms
from tomosift.errors import FormatError
from tomosift.io.volumes import open_volume, write_volume
from tomosift.particles import Grid


def tomograms(*names: str) -> dict[str, Tomogram]:
    return {name: Tomogram(name, Path(f"{name}.mrc"), Grid((9, 9, 9), 10.0)) for name in names}


def touch(path: Path, spacing: float | None = 10.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_volume(path, np.random.default_rng(0).normal(size=(9, 10, 11)).astype(np.float32), spacing)
    return path


def test_names_without_tomogram_are_listed_with_both_sides() -> None:
    with pytest.raises(ValueError, match=r"1 of 2 .* no tomogram: 'TS_9'; the tomograms are 'TS_01', 'TS_02'"):
        match_tomograms(["TS_01", "TS_9"], tomograms("TS_01", "TS_02"))
    with pytest.raises(ValueError, match="are ambiguous"):
        match_tomograms(["TS_01.tomostar"], tomograms("TS_01_10.00Apx", "TS_01_5.00Apx"))


def test_a_folder_gives_whole_tomograms_with_their_halves(tmp_path: Path) -> None:
    for name in ("A", "A_half1", "A_half2", "B_Vol", "B_ODD_Vol", "B_EVN_Vol", "C", "even/C", "odd/C", "D", "D_EVN"):
        touch(tmp_path / f"{name}.mrc")
    (tmp_path / "notes.txt").write_text("nothing")
    found = open_tomograms(tmp_path)
    assert sorted(found) == ["A", "B_Vol", "C", "D", "D_EVN"]
    halves = {name: found[name].half_paths for name in found}
    assert halves["A"] == (tmp_path / "A_half1.mrc", tmp_path / "A_half2.mrc")
    assert halves["B_Vol"] == (tmp_path / "B_EVN_Vol.mrc", tmp_path / "B_ODD_Vol.mrc")
    assert halves["C"] == (tmp_path / "even/C.mrc", tmp_path / "odd/C.mrc")
    assert halves["D"] is None
    assert found["A"].grid == Grid((9, 10, 11), 10.0)


def test_a_missing_voxel_spacing_can_be_stated(tmp_path: Path) -> None:
    path = touch(tmp_path / "A.mrc", None)
    with pytest.raises(FormatError, match="--tomogram-spacing"):
        open_tomograms([path])
    assert open_tomograms([path], voxel_spacing_angstrom=7.5)["A"].grid.voxel_spacing_angstrom == 7.5


def test_sources_without_tomograms_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no tomogram"):
        open_tomograms(tmp_path)
    with pytest.raises(ValueError, match="name at least one file"):
        open_tomograms([])
    with pytest.raises(FormatError, match="missing"):
        open_tomograms(tmp_path / "absent")
    one, other = touch(tmp_path / "a/X.mrc"), touch(tmp_path / "b/X.mrc")
    assert list(open_tomograms([one, other])) == ["a/X", "b/X"]  # folders tell namesakes apart


def test_a_half_on_another_grid_is_refused(tmp_path: Path) -> None:
    for name in ("A", "A_half1"):
        touch(tmp_path / f"{name}.mrc")
    write_volume(tmp_path / "A_half2.mrc", np.ones((4, 4, 4), dtype=np.float32), 10.0)
    with pytest.raises(FormatError, match="same grid"):
        open_tomograms(tmp_path)


def test_a_copick_project_gives_one_tomogram_per_run(tmp_path: Path) -> None:
    root = tmp_path / "static"
    for run in ("TS_1", "TS_2"):
        for spacing in ("10.000", "20.000"):
            touch(root / "ExperimentRuns" / run / f"VoxelSpacing{spacing}" / "wbp.zarr", float(spacing))
    touch(root / "ExperimentRuns/TS_1/VoxelSpacing10.000/denoised.zarr")
    config = tmp_path / "project.json"
    config.write_text(json.dumps({"static_root": f"local://{root}", "overlay_root": "s3://bucket"}))
    found = open_tomograms(config, voxel_spacing_angstrom=10.0, tomogram_type="wbp")
    assert sorted(found) == ["TS_1", "TS_2"]
    assert found["TS_2"].grid.voxel_spacing_angstrom == 10.0
    with pytest.raises(ValueError, match="--tomogram-type"):
        open_tomograms(config, voxel_spacing_angstrom=10.0)
    with pytest.raises(ValueError, match="wbp at 10 A, wbp at 20 A"):
        open_tomograms(config, voxel_spacing_angstrom=5.0)
    config.write_text(json.dumps({"static_root": "s3://bucket"}))
    with pytest.raises(FormatError, match="download"):
        open_tomograms(config)


def test_real_tomograms_open_and_crop(real_data: Path) -> None:
    found = open_tomograms(real_data / "tomograms", voxel_spacing_angstrom=10.0)
    assert {"tomo_int16", "cylindra_13pf_MT"} <= set(found)
    for tomogram in found.values():
        center = np.asarray(tomogram.grid.shape_zyx) / 2 + 0.25
        box = tomogram.crop(center, 8)
        assert box.shape == (8, 8, 8)
        assert np.isfinite(box).all()


def test_tilt_angles_are_read_from_files_beside_tomograms(tmp_path: Path) -> None:
    for name in ("A", "B_10.00Apx", "C"):
        touch(tmp_path / "reconstruction" / f"{name}.mrc")
    (tmp_path / "reconstruction" / "A.rawtlt").write_text("-60\n0\n60\n")
    (tmp_path / "reconstruction" / "A.tlt").write_text("-51\n0\n58\n")
    (tmp_path / "B.xml").write_text("<TiltSeries><Angles>-30\n0\n45</Angles></TiltSeries>")
    (tmp_path / "reconstruction" / "C.xml").write_text("<objlist/>")
    sentences: list[str] = []
    found = open_tomograms(tmp_path / "reconstruction", report=sentences.append)
    ranges = {name: found[name].acquisition.tilt_range_deg for name in found}
    assert ranges == {"A": (-51, 58), "B_10.00Apx": (-30, 45), "C": (-60, 60)}
    assert any("2 tomograms are from files beside them" in sentence for sentence in sentences)
    assert any("C.xml" in sentence and "passed over" in sentence for sentence in sentences)
    assert "no tilt angles were found for 1 of 3 tomograms, so -60 to 60 degrees are assumed" in sentences[-1]


def test_a_stated_tilt_range_overrides_files_beside_tomograms(tmp_path: Path) -> None:
    touch(tmp_path / "A.mrc")
    (tmp_path / "A.tlt").write_text("-51\n0\n58\n")
    sentences: list[str] = []
    found = open_tomograms(tmp_path / "A.mrc", tilt_range_deg=(-40.0, 45.0), report=sentences.append)
    assert found["A"].acquisition.tilt_range_deg == (-40, 45)
    assert not any("assumed" in sentence for sentence in sentences)


@pytest.mark.parametrize("tilt_range", [(np.nan, 60.0), (-95.0, 95.0), (0.0, 0.0), (60.0, -60.0)])
def test_tilt_ranges_that_no_series_has_are_refused(tmp_path: Path, tilt_range: tuple[float, float]) -> None:
    touch(tmp_path / "A.mrc")
    with pytest.raises(ValueError, match=r"--tilt-range is .* expected the lowest and the highest tilt angle"):
        open_tomograms(tmp_path / "A.mrc", tilt_range_deg=tilt_range)


def test_an_unreadable_tilt_file_is_passed_over_and_the_next_one_used(tmp_path: Path) -> None:
    touch(tmp_path / "A.mrc")
    (tmp_path / "A.aln").write_text("1 0 1 0 0 1 1 1 0 -60\n2 0 1 0 0 1 1 1 0 1.6e24\n")
    (tmp_path / "A.rawtlt").write_text("-51\n0\n58\n")
    sentences: list[str] = []
    found = open_tomograms(tmp_path / "A.mrc", report=sentences.append)
    assert found["A"].acquisition.tilt_range_deg == (-51, 58)
    assert any("A.aln: tilt angles is 1.6e+24 degrees" in sentence for sentence in sentences)


def write_table(folder: Path, **columns: str) -> Path:
    head = "\n".join(f"_rln{label}" for label in columns)
    (folder / "tomograms.star").write_text(f"data_global\n\nloop_\n{head}\n{' '.join(columns.values())}\n")
    return folder / "tomograms.star"


def test_the_mean_of_half_tomograms_stands_for_a_whole_one(tmp_path: Path) -> None:
    halves = [touch(tmp_path / "tomograms" / f"rec_A_half{k}.mrc") for k in (1, 2)]
    write_volume(halves[1], np.full((9, 10, 11), 3.0, np.float32), 10.0)
    names = {f"TomoReconstructedTomogramHalf{k}": f"tomograms/rec_A_half{k}.mrc" for k in (1, 2)}
    table = write_table(tmp_path, TomoName="A", TomoTiltSeriesPixelSize="10", **names, TomoSizeX="11")
    sentences: list[str] = []
    for source in (table, tmp_path / "tomograms"):
        (tomogram,) = open_tomograms(source, report=sentences.append).values()
        expected = (read_volume(halves[0]) + 3) / 2
        np.testing.assert_allclose(tomogram.open().read(), expected, rtol=1e-6)
        assert tomogram.half_paths == (halves[0], halves[1])
    assert sum("mean of their two halves" in sentence for sentence in sentences) == 2


def read_volume(path: Path) -> np.ndarray:
    return open_volume(path).read()


def test_a_zarr_volume_of_a_table_is_opened(tmp_path: Path) -> None:
    write_volume(tmp_path / "A.zarr", np.zeros((9, 10, 11), np.float32), 10.0)
    table = write_table(tmp_path, TomoName="A", TomoReconstructedTomogram="A.zarr", TomoSizeX="11")
    assert open_tomograms(table)["A"].path == tmp_path / "A.zarr"


def test_centered_positions_count_from_the_unbinned_size(tmp_path: Path) -> None:
    touch(tmp_path / "A.mrc")
    sizes = {"TomoSizeX": "45", "TomoSizeY": "41", "TomoSizeZ": "38", "TomoTomogramBinning": "4"}
    table = write_table(tmp_path, TomoName="A", TomoTiltSeriesPixelSize="2.5", **sizes)
    for sources in ([table, tmp_path / "A.mrc"], [tmp_path / "A.mrc", table]):
        grid = open_tomograms(sources)["A"].grid
        assert grid.shape_zyx == (9, 10, 11)
        np.testing.assert_allclose(grid.extent_zyx_angstrom, (95.0, 102.5, 112.5))


def test_a_size_of_a_table_that_is_unset_or_no_file_of_tilts_stops_nothing(tmp_path: Path) -> None:
    touch(tmp_path / "A.mrc")
    sizes = {"TomoSizeX": "-999", "TomoSizeY": "-999", "TomoSizeZ": "-999", "TomoTiltSeriesStarFile": "A.mrc"}
    table = write_table(
        tmp_path, TomoName="A", TomoTiltSeriesPixelSize="2.5", **sizes, TomoReconstructedTomogram="A.mrc"
    )
    sentences: list[str] = []
    assert open_tomograms(table, report=sentences.append)["A"].grid == Grid((9, 10, 11), 10.0)
    assert any("A.mrc: file is binary" in one and "rlnTomoTiltSeriesStarFile" in one for one in sentences)


def test_a_table_gives_spacing_and_leaves_out_tomograms_that_are_not_on_disk(tmp_path: Path) -> None:
    labels = ("Name", "TiltSeriesPixelSize", "SizeX", "SizeY", "SizeZ", "ReconstructedTomogram")
    head = "\n".join(f"_rlnTomo{label}" for label in labels)
    rows = "A 7.5 11 10 9 A.mrc\nB 7.5 11 10 9 B.mrc\n"
    (tmp_path / "tomograms.star").write_text(f"data_global\n\nloop_\n{head}\n{rows}")
    with pytest.raises(FormatError, match="give the tomograms"):
        open_tomograms(tmp_path / "tomograms.star")
    touch(tmp_path / "A.mrc", None)
    sentences: list[str] = []
    found = open_tomograms(tmp_path / "tomograms.star", report=sentences.append)
    assert list(found) == ["A"]
    assert found["A"].grid == Grid((9, 10, 11), 7.5)
    assert "1 of 2 tomograms of the table have no volume" in sentences[0]


def test_grids_know_the_file_of_a_tomogram() -> None:
    grids = collect_grids(tomograms("TS_01_10.00Apx", "rec_TS_02"))
    assert {key: grid.aliases for key, grid in grids.items()} == {
        "TS_01_10.00Apx": ("TS_01_10.00Apx.mrc",),
        "rec_TS_02": ("rec_TS_02.mrc",),
    }
