"""The command translate with its report, and simulated sets in a style."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tomosift.cli.main import main
from tomosift.data.subtomogram_set import Subtomograms, open_subtomograms
from tomosift.simulation.subtomograms import SubtomogramSetConfig, simulate_subtomograms

Refuse = Callable[..., str]
CLASSES = ("ribosome-70s", "apoferritin")


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Subtomograms:
    config = SubtomogramSetConfig(CLASSES, 30, 16, voxel_spacing_angstrom=20.0, max_neighbors=0, seed=3)
    return simulate_subtomograms(config, tmp_path_factory.mktemp("translate") / "set")


@pytest.fixture(scope="module")
def run(target: Subtomograms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("translate") / "run"
    words = ["--structures", *CLASSES, "--out", str(out), "--steps", "9", "--model", "None"]
    main(["translate", str(target.path), *words])
    return out


def test_report_shows_translated_maps_and_training(run: Path) -> None:
    page = (run / "report.html").read_text()
    headline = "translated maps are most similar to their own class"
    for text in (headline, "Separability", "Critics", "Diversity", "translated"):
        assert text in page
    assert page.count("data:image/png") == 24
    assert (run / "result" / "model.json").exists()


def test_simulated_subtomograms_take_the_style_of_a_run_or_of_a_set(
    run: Path, target: Subtomograms, tmp_path: Path
) -> None:
    words = ["simulate", "subtomograms", "--structures", *CLASSES, "--per-class", "4"]
    main([*words, "--style", str(run), "--out", str(tmp_path / "run")])
    main([*words, "--style", "power", "--like", str(target.path), "--out", str(tmp_path / "power")])
    main(
        [
            *words,
            "--style",
            "noise",
            "--like",
            str(target.path),
            "--empty",
            str(target.path),
            "--out",
            str(tmp_path / "n"),
        ]
    )
    for name in ("run", "power", "n"):
        simulated = open_subtomograms(tmp_path / name)
        assert (len(simulated), simulated.box_size, simulated.voxel_spacing_angstrom) == (8, 16, 20.0)
        assert simulated.class_names == CLASSES
        assert simulated.has_masks
        assert simulated.provenance["look"]
    volumes = [open_subtomograms(tmp_path / name).volumes(range(8)) for name in ("run", "power")]
    assert np.abs(volumes[0] - volumes[1]).mean() > 0.1
    # The same command again opens the set; another style in the same folder is refused.
    main([*words, "--style", str(run), "--out", str(tmp_path / "run")])
    with pytest.raises(SystemExit):
        main([*words, "--style", "power", "--like", str(target.path), "--out", str(tmp_path / "run")])


def test_wrong_requests_are_refused_in_one_sentence(
    target: Subtomograms, run: Path, tmp_path: Path, refuse: Refuse
) -> None:
    words = ("simulate", "subtomograms", "--structures", *CLASSES, "--out", tmp_path / "set")
    assert "style is 'oil', expected one of plain" in refuse(*words, "--style", "oil")
    assert "needs --like" in refuse(*words, "--style", "power")
    assert "give one of its names" in refuse(*words, "--like", target.path)
    synthetic = ("simulate", "subtomograms", "--synthetic", 2, "--out", tmp_path / "set")
    assert "have no measured style" in refuse(*synthetic, "--style", "power")
    assert "has its own style" in refuse(*words, "--style", run, "--like", target.path)
    assert "a finished run of `tomosift translate`" in refuse(*words, "--style", tmp_path)
    alone = ("translate", target.path, "--structures", "apoferritin", "--out", tmp_path / "run")
    assert "structures name 1 classes" in refuse(*alone)
    assert not (tmp_path / "set").exists()
    assert not (tmp_path / "run").exists()
