"""The command extract: the set it writes, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tomosift.cli.main import main
from tomosift.data.subtomogram_set import open_subtomograms
from tomosift.io.volumes import write_volume

Refuse = Callable[..., str]


def test_set_holds_every_pick_with_its_columns_and_tilt_range(world: Any, chain: Any) -> None:
    subtomograms = open_subtomograms(chain.subtomograms)
    assert (len(subtomograms), subtomograms.box_size, subtomograms.voxel_spacing_angstrom) == (45, 16, 16.0)
    assert subtomograms.has_halves
    assert subtomograms.tomogram_names == ("tomogram_001", "tomogram_002", "tomogram_003")
    assert "rlnTomoParticleName" in subtomograms.particles.columns
    np.testing.assert_allclose(subtomograms.tilt_range_deg, [[-60, 60]] * 45)
    assert len(subtomograms.labeled_rows) == 0


def test_same_command_again_opens_the_finished_set(world: Any, chain: Any, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in chain.subtomograms.iterdir()}
    words = ["extract", str(world.paths.particles), "--tomograms", str(world.paths.tomograms)]
    main([*words, "--out", str(chain.subtomograms), "--voxel-spacing", "16", "--box-size", "16"])
    assert "45 subtomograms of 16^3 voxels at 16 A from 3 tomograms" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in chain.subtomograms.iterdir()} == before


def test_stated_tilt_range_overrides_that_of_the_files(world: Any, tmp_path: Path) -> None:
    words = ["extract", str(world.paths.particles), "--tomograms", str(world.paths.tomograms), "--out", str(tmp_path)]
    main([*words, "--voxel-spacing", "16", "--box-size", "8", "--tilt-range", "-40", "50"])
    np.testing.assert_allclose(open_subtomograms(tmp_path).tilt_range_deg, [[-40, 50]] * 45)


def test_subtomograms_at_the_border_can_be_left_out_and_are_counted(
    world: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["extract", str(world.paths.particles), "--tomograms", str(world.paths.tomograms), "--out", str(tmp_path)]
    main([*words, "--voxel-spacing", "16", "--box-size", "16", "--borders", "drop"])
    kept = len(open_subtomograms(tmp_path))
    assert 0 < kept < 45
    assert f"{45 - kept} left out" in capsys.readouterr().err
    assert len((tmp_path / "dropped.csv").read_text().splitlines()) == 46 - kept


def test_subtomograms_of_another_program_are_imported_without_tomograms(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for k in range(3):
        write_volume(
            tmp_path / "files" / f"particle_{k}.mrc", rng.standard_normal((16, 16, 16)).astype(np.float32), 12.0
        )
    main(["extract", str(tmp_path / "files"), "--out", str(tmp_path / "set")])
    subtomograms = open_subtomograms(tmp_path / "set")
    assert (len(subtomograms), subtomograms.box_size, subtomograms.voxel_spacing_angstrom) == (3, 16, 12.0)


def test_missing_picks_are_refused(world: Any, tmp_path: Path, refuse: Refuse) -> None:
    absent = tmp_path / "absent.star"
    message = refuse("extract", absent, "--tomograms", world.paths.tomograms, "--out", tmp_path / "set")
    assert "absent.star" in message


def test_missing_tomograms_are_refused(world: Any, tmp_path: Path, refuse: Refuse) -> None:
    absent = tmp_path / "absent"
    assert "absent" in refuse("extract", world.paths.particles, "--tomograms", absent, "--out", tmp_path / "set")


def test_missing_files_to_import_are_refused(tmp_path: Path, refuse: Refuse) -> None:
    assert "absent" in refuse("extract", tmp_path / "absent", "--out", tmp_path / "set")


def test_tomograms_of_other_names_are_refused(world: Any, tmp_path: Path, refuse: Refuse) -> None:
    write_volume(tmp_path / "volumes" / "other.mrc", np.ones((8, 8, 8), dtype=np.float32), 10.0)
    folder = tmp_path / "volumes"
    assert "tomogram_00" in refuse("extract", world.paths.particles, "--tomograms", folder, "--out", tmp_path / "set")


@pytest.mark.parametrize("option", ["--voxel-spacing", "--box-size", "--tomogram-spacing"])
@pytest.mark.parametrize("value", ["0", "-3"])
def test_sizes_that_are_not_positive_are_refused(
    world: Any, tmp_path: Path, refuse: Refuse, option: str, value: str
) -> None:
    words = ("extract", world.paths.particles, "--tomograms", world.paths.tomograms, "--out", tmp_path / "set")
    refuse(*words, option, value)


def test_folder_with_another_set_is_refused(world: Any, chain: Any, refuse: Refuse) -> None:
    words = ("extract", world.paths.particles, "--tomograms", world.paths.tomograms, "--out", chain.subtomograms)
    before = (chain.subtomograms / "set.json").read_text()
    refuse(*words, "--voxel-spacing", 16, "--box-size", 24)
    assert (chain.subtomograms / "set.json").read_text() == before
    assert json.loads(before)["box_size"] == 16


def test_empty_positions_are_away_from_all_picks(world: Any, chain: Any, tmp_path: Path) -> None:
    words = ["extract", str(world.paths.particles), "--tomograms", str(world.paths.tomograms), "--voxel-spacing", "16"]
    main([*words, "--box-size", "16", "--empty", "12", "--empty-distance", "130", "--out", str(tmp_path / "empty")])
    picks, empty = (open_subtomograms(folder).particles for folder in (chain.subtomograms, tmp_path / "empty"))
    assert len(empty) == 12
    for name in set(empty.tomogram):
        sampled, picked = (table.position_zyx_angstrom[table.tomogram == name] for table in (empty, picks))
        assert np.linalg.norm(sampled[:, None] - picked, axis=2).min() >= 130


@pytest.mark.slow
def test_workers_extract_the_same_set_one_tomogram_at_a_time(world: Any, chain: Any, tmp_path: Path) -> None:
    words = ["extract", str(world.paths.particles), "--tomograms", str(world.paths.tomograms)]
    main([*words, "--out", str(tmp_path / "set"), "--voxel-spacing", "16", "--box-size", "16", "--workers", "2"])
    extracted, expected = open_subtomograms(tmp_path / "set"), open_subtomograms(chain.subtomograms)
    np.testing.assert_array_equal(extracted.volumes(np.arange(45)), expected.volumes(np.arange(45)))
    assert extracted.provenance == expected.provenance


def test_slurm_without_workers_is_refused(world: Any, tmp_path: Path, refuse: Refuse) -> None:
    words = (
        "extract",
        world.paths.particles,
        "--tomograms",
        world.paths.tomograms,
        "--out",
        tmp_path / "set",
        "--slurm",
    )
    assert "workers is 0, expected 1 or more with slurm" in refuse(*words)
    assert not (tmp_path / "set").exists()
