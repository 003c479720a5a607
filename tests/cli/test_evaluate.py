"""The command evaluate: what it writes, and what is refused."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tomosift.cli.main import main

Refuse = Callable[..., str]


def test_report_is_one_file_complete_in_itself(
    world: Any, chain: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", str(chain.subtomograms), "--model", str(chain.classifier), "--out", str(tmp_path / "r.html")]
    main([*words, "--labels", str(world.paths.particles_truth), "--title", "A tiny world"])
    assert "report on 39 particles" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["r.html"]
    page = (tmp_path / "r.html").read_text()
    assert "A tiny world" in page
    assert all(name in page for name in ("groel", "apoferritin", "ribosome-70s"))
    assert "data:image/" in page or "<svg" in page
    assert 'src="http' not in page
    assert "6 particles whose labels were used for training are left out" in page


def test_without_known_classes_the_report_states_no_accuracy(
    chain: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["evaluate", str(chain.subtomograms), "--model", str(chain.classifier), "--out", str(tmp_path / "r.html")])
    assert "report on 45 particles" in capsys.readouterr().err
    assert "the report states no accuracy" in (tmp_path / "r.html").read_text()


def test_missing_files_are_refused(world: Any, chain: Any, tmp_path: Path, refuse: Refuse) -> None:
    out = ("--out", tmp_path / "r.html")
    assert "absent" in refuse("evaluate", chain.subtomograms, "--model", tmp_path / "absent", *out)
    assert "absent" in refuse("evaluate", tmp_path / "absent", "--model", chain.classifier, *out)
    labels = ("--labels", tmp_path / "absent.star")
    assert "absent" in refuse("evaluate", chain.subtomograms, "--model", chain.classifier, *out, *labels)
    more = ("--labels", world.paths.particles_truth, "--compare", tmp_path / "absent")
    assert "absent" in refuse("evaluate", chain.subtomograms, "--model", chain.classifier, *out, *more)


def test_runs_without_classes_are_refused(world: Any, chain: Any, tmp_path: Path, refuse: Refuse) -> None:
    words = ("evaluate", chain.subtomograms, "--model", chain.pretrained, "--out", tmp_path / "r.html")
    assert "trained without classes" in refuse(*words)
    assert "trained without classes" in refuse(*words, "--labels", world.paths.particles_truth)


def test_compared_runs_without_classes_are_refused(world: Any, chain: Any, tmp_path: Path, refuse: Refuse) -> None:
    words = ("evaluate", chain.subtomograms, "--model", chain.classifier, "--out", tmp_path / "r.html")
    message = refuse(*words, "--labels", world.paths.particles_truth, "--compare", chain.pretrained)
    assert "trained without classes" in message


def test_damaged_list_of_labeled_particles_is_refused(chain: Any, tmp_path: Path, refuse: Refuse) -> None:
    shutil.copytree(chain.classifier, tmp_path / "run")
    (tmp_path / "run" / "seen.json").write_text("[")
    assert "seen.json" in refuse(
        "evaluate", chain.subtomograms, "--model", tmp_path / "run", "--out", tmp_path / "r.html"
    )
