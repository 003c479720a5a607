"""The command simulate tomograms: the files that it writes, opened as a user does."""

from pathlib import Path

import numpy as np
import pytest

from tomosift.cli.main import main
from tomosift.data.extraction.tomogram_sources import collect_grids, open_tomograms
from tomosift.data.extraction.tomograms import match_tomograms
from tomosift.io.particles import read_particles
from tomosift.io.volumes import open_volume, write_volume


@pytest.fixture(scope="module")
def ball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("maps") / "ball.mrc"
    axis = np.arange(12) - 6.0
    square = axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2
    write_volume(path, np.exp(-0.5 * square / 1.6**2).astype(np.float32), 10.0)
    return path


@pytest.fixture(scope="module")
def words(ball: Path) -> list[str]:
    return [
        *("--structures", str(ball), "--tomograms", "2", "--particles-per-class", "4", "--shape-zyx", "16", "48", "48"),
        *("--tilt-range", "-40", "60", "--tilt-step-deg", "10", "--vesicles", "0", "--gold-beads", "0"),
        *("--template-extent-angstrom", "120", "--snr-box-size", "12", "--no-voxel-labels"),
    ]


@pytest.fixture(scope="module")
def folder(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("simulated")
    main(["simulate", "tomograms", "--out", str(out), *words])
    return out


def test_folder_opens_with_tilt_range_halves_and_picks(folder: Path) -> None:
    for source in (folder / "tomograms.star", [folder / "tomograms.star", folder / "tomograms"]):
        tomograms = open_tomograms(source)
        assert sorted(tomograms) == ["tomogram_001", "tomogram_002"]
        for tomogram in tomograms.values():
            assert tomogram.acquisition.tilt_range_deg == pytest.approx((-40, 60))
            assert tomogram.half_paths is not None
            assert tomogram.grid.shape_zyx == (16, 48, 48)
        picks = read_particles(folder / "particles.star", grids=collect_grids(tomograms))
        assert set(match_tomograms(picks.tomogram, tomograms)) == {"tomogram_001", "tomogram_002"}
        assert (picks.position_zyx_angstrom >= 0).all()


def test_next_command_is_printed_and_labels_are_written_on_request(
    folder: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    main(["simulate", "tomograms", "--out", str(folder), "--labels-per-class", "2", *words])
    printed = " ".join(capsys.readouterr().err.split())
    assert "next: tomosift check" in printed
    assert (folder / "labels.star").exists()


def test_other_settings_and_negative_numbers_end_in_one_sentence(
    folder: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for extra, sentence in ((["--seed", "4"], "other settings"), (["--labels-per-class", "-1"], "labels_per_class")):
        with pytest.raises(SystemExit) as end:
            main(["simulate", "tomograms", "--out", str(folder), *words, *extra])
        assert end.value.code == 2
        assert sentence in " ".join(capsys.readouterr().err.split())


def test_simulated_folder_passes_the_check(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picks, tomograms = folder / "particles.star", folder / "tomograms.star"
    main(["check", str(picks), "--tomograms", str(tomograms), "--box-size", "12"])
    assert "-40 to 60" in " ".join(capsys.readouterr().out.split())


def test_two_processes_simulate_the_same_tomograms(folder: Path, words: list[str], tmp_path: Path) -> None:
    main(["simulate", "tomograms", "--out", str(tmp_path / "shared"), *words, "--workers", "2"])
    for path in sorted(folder.rglob("*.mrc")):
        other = tmp_path / "shared" / path.relative_to(folder)
        # Headers hold the time of writing.
        np.testing.assert_array_equal(open_volume(other).data, open_volume(path).data)
