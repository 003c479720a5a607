"""The commands around looks: a translator with its report, sets in a look, and boxes of nothing."""

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
def boxes(tmp_path_factory: pytest.TempPathFactory) -> Subtomograms:
    config = SubtomogramSetConfig(CLASSES, 30, 16, voxel_spacing_angstrom=20.0, max_neighbors=0, seed=3)
    return simulate_subtomograms(config, tmp_path_factory.mktemp("translate") / "set")


@pytest.fixture(scope="module")
def run(boxes: Subtomograms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("translate") / "run"
    main(["translate", *CLASSES, "--like", str(boxes.path), "--out", str(out), "--steps", "9", "--init", "None"])
    return out


def test_a_translator_reports_what_it_makes_and_how_it_learned(run: Path) -> None:
    page = (run / "report.html").read_text()
    for told in ("translated maps look most like their own class", "Told apart", "Critics", "Diversity", "translated"):
        assert told in page
    assert page.count("data:image/png") == 24
    assert (run / "result" / "model.json").exists()


def test_boxes_take_the_look_of_a_run_or_of_a_set(run: Path, boxes: Subtomograms, tmp_path: Path) -> None:
    ask = ["boxes", "--classes", *CLASSES, "--per-class", "4"]
    main([*ask, "--style", str(run), "--out", str(tmp_path / "run")])
    main([*ask, "--style", "power", "--like", str(boxes.path), "--out", str(tmp_path / "power")])
    main(
        [*ask, "--style", "noise", "--like", str(boxes.path), "--empty", str(boxes.path), "--out", str(tmp_path / "n")]
    )
    for name in ("run", "power", "n"):
        made = open_subtomograms(tmp_path / name)
        assert (len(made), made.box_size, made.voxel_spacing_angstrom) == (8, 16, 20.0)
        assert made.class_names == CLASSES
        assert made.has_masks
        assert made.provenance["look"]
    volumes = [open_subtomograms(tmp_path / name).volumes(range(8)) for name in ("run", "power")]
    assert np.abs(volumes[0] - volumes[1]).mean() > 0.1
    # The same words again open the set; another look in the same folder is refused, not taken for it.
    main([*ask, "--style", str(run), "--out", str(tmp_path / "run")])
    with pytest.raises(SystemExit):
        main([*ask, "--style", "power", "--like", str(boxes.path), "--out", str(tmp_path / "run")])


def test_bad_requests_end_in_one_sentence(boxes: Subtomograms, run: Path, tmp_path: Path, refuse: Refuse) -> None:
    ask = ("boxes", "--classes", *CLASSES, "--out", tmp_path / "set")
    assert "style is 'oil', expected one of plain" in refuse(*ask, "--style", "oil")
    assert "needs --like" in refuse(*ask, "--style", "power")
    assert "give one of its names" in refuse(*ask, "--like", boxes.path)
    assert "have no look" in refuse("boxes", "--random", 2, "--out", tmp_path / "set", "--style", "power")
    assert "was made for boxes of its own" in refuse(*ask, "--style", run, "--like", boxes.path)
    assert "a finished run of `tomosift translate`" in refuse(*ask, "--style", tmp_path)
    alone = ("translate", "apoferritin", "--like", boxes.path, "--out", tmp_path / "run")
    assert "structures name 1 classes" in refuse(*alone)
    assert not (tmp_path / "set").exists()
    assert not (tmp_path / "run").exists()
