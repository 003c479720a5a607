"""Reports on runs: the particles that count, and comparisons of runs."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tomosift.cli.main import main
from tomosift.data.labels import label_subtomograms
from tomosift.data.subtomogram_set import Subtomograms, open_subtomograms
from tomosift.io.particles import csv
from tomosift.particles import Particles
from tomosift.workflows.evaluate import report_on_run


@pytest.fixture
def labeled(world: Any, chain: Any) -> Subtomograms:
    return label_subtomograms(open_subtomograms(chain.subtomograms), world.paths.particles_truth)


def test_particles_labeled_in_training_are_left_out(chain: Any, labeled: Subtomograms) -> None:
    report = report_on_run(chain.classifier, labeled)
    learned = set(json.loads((chain.classifier / "seen.json").read_text()))
    assert len(learned) == 6
    assert not learned & set(report.particles.particle_id)
    assert len(report.particles) == 39
    assert report.labels_per_class == 2
    assert report.has_truth


def test_true_classes_keep_the_names_of_the_model(chain: Any, labeled: Subtomograms) -> None:
    report = report_on_run(chain.classifier, labeled)
    assert [report.class_names[k] for k in report.truth] == report.particles.class_name.tolist()


def test_particles_of_unknown_classes_are_left_out_with_a_note(chain: Any, labeled: Subtomograms) -> None:
    names = labeled.particles.class_name.copy()
    names[:3] = "clathrin"
    report = report_on_run(chain.classifier, labeled.with_labels(names))
    assert "clathrin" not in set(report.particles.class_name)
    assert any("clathrin" in note for note in report.notes)


def test_labels_of_training_alone_give_no_accuracy(world: Any, chain: Any) -> None:
    subtomograms = label_subtomograms(open_subtomograms(chain.subtomograms), world.labels)
    report = report_on_run(chain.classifier, subtomograms)
    assert not report.has_truth
    assert len(report.particles) == 45


def test_compared_runs_are_evaluated_on_particles_that_neither_learned_from(
    world: Any, chain: Any, labeled: Subtomograms, tmp_path: Path
) -> None:
    rows = np.flatnonzero(labeled.particles.tomogram == "tomogram_002")
    part = labeled.particles.select(rows)
    csv.write_particles(
        tmp_path / "more.csv", Particles.create(part.tomogram, part.position_zyx_angstrom, class_name=part.class_name)
    )
    words = ["train", "supervised", str(chain.subtomograms), "--out", str(tmp_path / "other")]
    main([*words, "--labels", str(tmp_path / "more.csv"), "--training.steps", "2", "--training.batch-size", "8"])
    report = report_on_run(chain.classifier, labeled, None, (tmp_path / "other",))
    learned = {
        name for run in (chain.classifier, tmp_path / "other") for name in json.loads((run / "seen.json").read_text())
    }
    assert not learned & set(report.particles.particle_id)
    assert len(report.particles) == 45 - len(learned)
    assert [one.name for one in report.comparisons] == ["other"]
    assert 0 <= report.comparisons[0].low <= report.comparisons[0].accuracy <= report.comparisons[0].high <= 1


def test_compared_runs_are_wrong_about_classes_they_do_not_know(
    chain: Any, labeled: Subtomograms, tmp_path: Path
) -> None:
    part = labeled.particles.select(np.flatnonzero(labeled.particles.class_name != "groel")[:8])
    csv.write_particles(
        tmp_path / "two.csv", Particles.create(part.tomogram, part.position_zyx_angstrom, class_name=part.class_name)
    )
    words = ["train", "supervised", str(chain.subtomograms), "--out", str(tmp_path / "two")]
    main([*words, "--labels", str(tmp_path / "two.csv"), "--tuning", "probe"])
    report = report_on_run(chain.classifier, labeled, None, (tmp_path / "two",))
    known = float((report.particles.class_name != "groel").mean())
    assert 0 < report.comparisons[0].accuracy <= known < 1
