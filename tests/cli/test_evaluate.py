"""The command evaluate: what it writes, and what is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tomosift.cli.evaluate import report_of
from tomosift.cli.main import main
from tomosift.data.labels import label_subtomograms
from tomosift.data.subtomogram_set import Subtomograms, open_subtomograms
from tomosift.io.particles import csv
from tomosift.particles import Particles

Refuse = Callable[..., str]


@pytest.fixture
def judged(world: Any, chain: Any) -> Subtomograms:
    return label_subtomograms(open_subtomograms(chain.subtomograms), world.paths.particles_truth)


def test_report_is_one_file_that_needs_nothing_else(
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
    assert "6 particles that were labeled for training are left out" in page


def test_particles_shown_in_training_are_left_out(chain: Any, judged: Subtomograms) -> None:
    report = report_of(chain.classifier, judged)
    seen = set(json.loads((chain.classifier / "seen.json").read_text()))
    assert len(seen) == 6
    assert not seen & set(report.particles.particle_id)
    assert len(report.particles) == 39
    assert report.labels_per_class == 2
    assert report.has_truth


def test_true_classes_keep_the_names_of_the_model(chain: Any, judged: Subtomograms) -> None:
    report = report_of(chain.classifier, judged)
    assert [report.class_names[k] for k in report.truth] == report.particles.class_name.tolist()


def test_particles_of_unknown_classes_are_no_errors_but_are_told(chain: Any, judged: Subtomograms) -> None:
    names = judged.particles.class_name.copy()
    names[:3] = "clathrin"
    report = report_of(chain.classifier, judged.with_labels(names))
    assert "clathrin" not in set(report.particles.class_name)
    assert any("clathrin" in note for note in report.notes)


def test_without_known_classes_answers_are_shown_and_accuracy_is_not(
    chain: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["evaluate", str(chain.subtomograms), "--model", str(chain.classifier), "--out", str(tmp_path / "r.html")])
    assert "report on 45 particles" in capsys.readouterr().err
    assert "nothing is said about accuracy" in (tmp_path / "r.html").read_text()


def test_labels_of_training_alone_judge_nothing(world: Any, chain: Any) -> None:
    boxes = label_subtomograms(open_subtomograms(chain.subtomograms), world.labels)
    report = report_of(chain.classifier, boxes)
    assert not report.has_truth
    assert len(report.particles) == 45


def test_compared_runs_are_judged_on_what_neither_has_seen(
    world: Any, chain: Any, judged: Subtomograms, tmp_path: Path
) -> None:
    rows = np.flatnonzero(judged.particles.tomogram == "tomogram_002")
    part = judged.particles.select(rows)
    csv.write_particles(
        tmp_path / "more.csv", Particles.create(part.tomogram, part.position_zyx_angstrom, class_name=part.class_name)
    )
    words = ["train", "supervised", str(chain.subtomograms), "--out", str(tmp_path / "other")]
    main([*words, "--labels", str(tmp_path / "more.csv"), "--training.steps", "2", "--training.batch-size", "8"])
    report = report_of(chain.classifier, judged, (tmp_path / "other",))
    seen = {
        name for run in (chain.classifier, tmp_path / "other") for name in json.loads((run / "seen.json").read_text())
    }
    assert not seen & set(report.particles.particle_id)
    assert len(report.particles) == 45 - len(seen)
    assert [one.name for one in report.comparisons] == ["other"]
    assert 0 <= report.comparisons[0].low <= report.comparisons[0].accuracy <= report.comparisons[0].high <= 1


def test_compared_runs_are_wrong_about_classes_they_do_not_know(
    chain: Any, judged: Subtomograms, tmp_path: Path
) -> None:
    part = judged.particles.select(np.flatnonzero(judged.particles.class_name != "groel")[:8])
    csv.write_particles(
        tmp_path / "two.csv", Particles.create(part.tomogram, part.position_zyx_angstrom, class_name=part.class_name)
    )
    words = ["train", "supervised", str(chain.subtomograms), "--out", str(tmp_path / "two")]
    main([*words, "--labels", str(tmp_path / "two.csv"), "--tuning", "probe"])
    report = report_of(chain.classifier, judged, (tmp_path / "two",))
    known = float((report.particles.class_name != "groel").mean())
    assert 0 < report.comparisons[0].accuracy <= known < 1


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
    said = refuse(*words, "--labels", world.paths.particles_truth, "--compare", chain.pretrained)
    assert "trained without classes" in said


def test_damaged_list_of_seen_particles_is_refused(chain: Any, tmp_path: Path, refuse: Refuse) -> None:
    shutil.copytree(chain.classifier, tmp_path / "run")
    (tmp_path / "run" / "seen.json").write_text("[")
    assert "seen.json" in refuse(
        "evaluate", chain.subtomograms, "--model", tmp_path / "run", "--out", tmp_path / "r.html"
    )
