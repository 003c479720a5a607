"""The command sort: every stage, repeated, and after an interruption."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import starfile

from tomosift.cli.main import main
from tomosift.data.subtomogram_set import open_subtomograms
from tomosift.inference.model_files import load_classifier
from tomosift.inference.prediction import predict_by_embeddings
from tomosift.io.particles import csv
from tomosift.particles import Particles

pytestmark = pytest.mark.usefixtures("few_rotations", "fast_recentering")

Refuse = Callable[..., str]
TINY = [
    *("--voxel-spacing", "16", "--box-size", "16"),
    *("--pretrain.training.steps", "3", "--pretrain.training.batch-size", "8"),
    *("--finetune.training.steps", "2", "--finetune.training.batch-size", "8"),
]


def words(world: Any, out: Path) -> list[str]:
    options = ["--tomograms", str(world.paths.tomograms), "--labels", str(world.labels), "--out", str(out)]
    return ["sort", str(world.paths.particles), *options, *TINY]


@pytest.fixture(scope="module")
def sorted_world(few_rotations: None, world: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sorted") / "out"
    main([*words(world, out), "--truth", str(world.paths.particles_truth), "--compare-scratch"])
    return out


def test_every_stage_is_kept_under_its_name(sorted_world: Path) -> None:
    names = {path.name for path in sorted_world.iterdir()}
    stages = {"subtomograms", "pretrained", "classifier", "from scratch"}
    assert names == stages | {"classified.star", "classified_embeddings.npy", "report.html"}


def test_every_pick_has_a_class_and_keeps_its_columns(world: Any, sorted_world: Path) -> None:
    picks = starfile.read(world.paths.particles, always_dict=True)
    table = starfile.read(sorted_world / "classified.star", always_dict=True)
    pd.testing.assert_frame_equal(table["particles"][picks["particles"].columns], picks["particles"])
    pd.testing.assert_frame_equal(table["optics"], picks["optics"])
    assert set(table["particles"]["rlnClassNumber"]) <= {1, 2, 3}


def test_report_states_the_accuracy_of_both_trainings(sorted_world: Path) -> None:
    page = (sorted_world / "report.html").read_text()
    assert "45 particles sorted" in page
    assert "6 particles whose labels were used for training are left out" in page
    assert "from scratch" in page


def test_class_averages_change_predictions_and_are_kept_and_shown(sorted_world: Path) -> None:
    kept, scratch = (load_classifier(sorted_world / name) for name in ("classifier", "from scratch"))
    assert kept.card.class_averages
    assert kept.class_averages is not None
    assert kept.class_averages.has_average.all()
    assert not scratch.card.class_averages
    assert "Compared with" in (sorted_world / "report.html").read_text()
    subtomograms = open_subtomograms(sorted_world / "subtomograms")
    before = predict_by_embeddings(kept, subtomograms).probabilities
    table = starfile.read(sorted_world / "classified.star", always_dict=True)["particles"]
    after = table[[f"tomosiftProbability_{name}" for name in kept.card.class_names]].to_numpy()
    assert (np.abs(after - before).max(axis=1) > 0.01).mean() > 0.5


def test_repeated_command_keeps_every_stage(world: Any, sorted_world: Path) -> None:
    watched = [*sorted_world.glob("*/result/*"), *sorted_world.glob("subtomograms/*")]
    content = {path: path.read_bytes() for path in watched}
    times = {path: path.stat().st_mtime_ns for path in sorted_world.glob("subtomograms/*")}
    steps = [(path, path.read_text().count('"loss":')) for path in sorted_world.glob("*/log.jsonl")]
    main([*words(world, sorted_world), "--truth", str(world.paths.particles_truth), "--compare-scratch"])
    assert {path: path.read_bytes() for path in watched} == content
    assert {path: path.stat().st_mtime_ns for path in sorted_world.glob("subtomograms/*")} == times
    assert [(path, path.read_text().count('"loss":')) for path, _ in steps] == steps


def test_deleted_stage_is_computed_again_from_the_others(world: Any, sorted_world: Path) -> None:
    kept, lost = (sorted_world / name / "result" / "model.safetensors" for name in ("pretrained", "classifier"))
    weights, again = kept.read_bytes(), lost.read_bytes()
    classified = (sorted_world / "classified.star").read_bytes()
    shutil.rmtree(sorted_world / "classifier")
    (sorted_world / "classified.star").unlink()
    main(words(world, sorted_world))
    assert kept.read_bytes() == weights
    assert lost.read_bytes() == again
    assert (sorted_world / "classified.star").read_bytes() == classified


def test_labels_of_no_particle_are_refused_before_the_work(world: Any, tmp_path: Path, refuse: Refuse) -> None:
    particles = Particles.create(["tomogram_001", "tomogram_009"], np.ones((2, 3)), class_name=["groel", "clpb"])
    csv.write_particles(tmp_path / "labels.csv", particles)
    inputs = ("--tomograms", world.paths.tomograms, "--labels", tmp_path / "labels.csv", "--out", tmp_path / "out")
    assert "labels lie in tomogram_009" in refuse("sort", world.paths.particles, *inputs, *TINY)


def test_labels_of_one_class_are_refused_before_the_work(world: Any, tmp_path: Path, refuse: Refuse) -> None:
    table = starfile.read(world.labels, always_dict=True)
    table["particles"] = table["particles"][table["particles"]["tomosiftClass"] == "groel"]
    starfile.write(table, tmp_path / "labels.star")
    inputs = ("--tomograms", world.paths.tomograms, "--labels", tmp_path / "labels.star", "--out", tmp_path / "out")
    assert "expected at least 2" in refuse("sort", world.paths.particles, *inputs, *TINY)


def test_missing_files_are_refused_before_the_work(world: Any, tmp_path: Path, refuse: Refuse) -> None:
    inputs = {"tomograms": world.paths.tomograms, "labels": world.labels}
    for name in inputs:
        options = {**inputs, name: tmp_path / "absent.star"}
        words = [word for key, value in options.items() for word in (f"--{key}", value)]
        message = refuse("sort", world.paths.particles, *words, "--out", tmp_path / "out", *TINY)
        assert "absent.star" in message
