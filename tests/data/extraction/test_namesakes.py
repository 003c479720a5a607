"""Tomograms of one name in several folders, tables and projects."""

import json
from pathlib import Path

import numpy as np
import pytest

from tomosift.data.extraction.tomogram_sources import open_tomograms
from tomosift.data.extraction.tomograms import match_tomograms
from tomosift.errors import FormatError
from tomosift.io.volumes import write_volume

SIZES = {"TomoSizeX": "45", "TomoSizeY": "41", "TomoSizeZ": "38", "TomoTomogramBinning": "4"}


def write(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_volume(path, np.zeros((9, 10, 11), np.float32), 10.0)
    return path


def write_table(path: Path, volume: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {"TomoName": "TS_01", "TomoTiltSeriesPixelSize": "2.5", **SIZES}
    columns |= {} if volume is None else {"TomoReconstructedTomogram": volume}
    head = "\n".join(f"_rln{label}" for label in columns)
    path.write_text(f"data_global\n\nloop_\n{head}\n{' '.join(columns.values())}\n")
    return path


def test_each_namesake_has_the_tilt_file_of_its_own_folder(tmp_path: Path) -> None:
    for folder, lowest in (("grid1", -50), ("grid2", -40)):
        write(tmp_path / folder / "TS_01.mrc")
        (tmp_path / folder / "TS_01.tlt").write_text(f"{lowest}\n0\n60\n")
    found = open_tomograms([tmp_path / "grid1", tmp_path / "grid2"])
    ranges = {key: tomogram.acquisition.tilt_range_deg for key, tomogram in found.items()}
    assert ranges == {"grid1/TS_01": (-50, 60), "grid2/TS_01": (-40, 60)}
    assert match_tomograms(["grid2/TS_01.mrc"], found) == {"grid2/TS_01.mrc": "grid2/TS_01"}
    with pytest.raises(ValueError, match="ambiguous"):
        match_tomograms(["TS_01"], found)


def test_a_tilt_file_above_two_namesakes_belongs_to_neither(tmp_path: Path) -> None:
    for folder in ("grid1", "grid2"):
        write(tmp_path / folder / "TS_01.mrc")
    (tmp_path / "TS_01.tlt").write_text("-33\n0\n60\n")
    both = open_tomograms([tmp_path / "grid1", tmp_path / "grid2"])
    assert {one.acquisition.tilt_range_deg for one in both.values()} == {(-60, 60)}
    (alone,) = open_tomograms(tmp_path / "grid1").values()
    assert alone.acquisition.tilt_range_deg == (-33, 60)


def test_tables_of_two_jobs_open_both_volumes(tmp_path: Path) -> None:
    tables = []
    for job in ("job010", "job011"):
        write(tmp_path / job / "tomograms/rec_TS_01.mrc")
        tables.append(write_table(tmp_path / job / "tomograms.star", f"{job}/tomograms/rec_TS_01.mrc"))
    found = open_tomograms(tables)
    assert {key: one.path.parts[-3] for key, one in found.items()} == {
        "job010/TS_01": "job010",
        "job011/TS_01": "job011",
    }
    beside = write_table(tmp_path / "job010/again.star", "job011/tomograms/rec_TS_01.mrc")
    with pytest.raises(ValueError, match="name different volumes of tomogram 'TS_01'; give one of the tables"):
        open_tomograms([tables[0], beside])
    one_table = open_tomograms([tables[0], *(tmp_path / job / "tomograms" for job in ("job010", "job011"))])
    extents = {key: one.grid.stated_extent_zyx_angstrom for key, one in one_table.items()}
    assert extents == {"job010/tomograms/rec_TS_01": (95, 102.5, 112.5), "job011/tomograms/rec_TS_01": None}


def test_a_table_without_volumes_hides_no_volume_of_another(tmp_path: Path) -> None:
    write(tmp_path / "TS_01.mrc")
    whole = write_table(tmp_path / "tomograms.star", "TS_01.mrc")
    series = write_table(tmp_path / "tilt_series.star")
    for tables in ([whole, series], [series, whole]):
        assert open_tomograms(tables)["TS_01"].path == tmp_path / "TS_01.mrc"


def test_halves_alone_have_their_folder_in_front_and_the_tilt_file_of_their_whole(tmp_path: Path) -> None:
    for folder in ("grid1", "grid2"):
        for half in (1, 2):
            write(tmp_path / folder / f"rec_A_half{half}.mrc")
    (tmp_path / "grid1/A.tlt").write_text("-41\n0\n42\n")
    found = open_tomograms([tmp_path / "grid1", tmp_path / "grid2"])
    assert sorted(found) == ["grid1/rec_A", "grid2/rec_A"]
    assert all(one.is_mean_of_halves for one in found.values())
    assert found["grid1/rec_A"].acquisition.tilt_range_deg == (-41, 42)


def test_volumes_of_copick_runs_have_the_run_before_their_name(tmp_path: Path) -> None:
    files = [write(tmp_path / f"ExperimentRuns/TS_{k}/VoxelSpacing10.000/wbp.zarr") for k in (1, 2)]
    assert list(open_tomograms(files)) == ["TS_1/VoxelSpacing10.000/wbp", "TS_2/VoxelSpacing10.000/wbp"]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"static_root": "local:///nowhere"}, "static_root is local:///nowhere, .*edit static_root: /nowhere does not"),
        ({"static_root": "s3://bucket"}, "static_root is s3://bucket, .*download the tomograms"),
        ({"static_root": "/nowhere", "overlay_root": "overlay"}, "without tomograms.*edit static_root: /nowhere does"),
        ({"dataset_ids": [1], "overlay_root": "overlay"}, "without tomograms.*download the tomograms"),
        ({"static_root": 3}, "static_root is 3"),
        ({}, "static_root is missing"),
        ([], "content is a list"),
        ("[" * 100_000, "no JSON"),
    ],
)
def test_roots_that_are_elsewhere_are_named(tmp_path: Path, config: object, message: str) -> None:
    (tmp_path / "overlay").mkdir()
    path = tmp_path / "project.json"
    path.write_text(config if isinstance(config, str) else json.dumps(config))
    with pytest.raises(FormatError, match=rf"project\.json: .*{message}"):
        open_tomograms(path)


def test_a_root_that_does_not_exist_yet_stops_nothing(tmp_path: Path) -> None:
    write(tmp_path / "static/ExperimentRuns/TS_1/VoxelSpacing10.000/wbp.zarr")
    (tmp_path / "project.json").write_text(json.dumps({"static_root": "static", "overlay_root": "later"}))
    assert list(open_tomograms(tmp_path / "project.json")) == ["TS_1"]
