"""The whole job in one command: all of it, again, and after an interruption."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import starfile

from tomosift.cli import sort
from tomosift.cli.main import main
from tomosift.data.subtomogram_set import open_subtomograms
from tomosift.inference.model_files import load_classifier
from tomosift.inference.prediction import predict
from tomosift.io.particles import csv
from tomosift.methods.contrastive import Config as Contrastive
from tomosift.methods.supervised import Config as Supervised
from tomosift.particles import Particles

pytestmark = pytest.mark.usefixtures("few_rotations")

Refuse = Callable[..., str]
TINY = [
    *("--voxel-spacing", "16", "--box-size", "16"),
    *("--pretrain.training.steps", "3", "--pretrain.training.batch-size", "8"),
    *("--finetune.training.steps", "2", "--finetune.training.batch-size", "8"),
]


def words(world: Any, out: Path) -> list[str]:
    given = ["--tomograms", str(world.paths.tomograms), "--labels", str(world.labels), "--out", str(out)]
    return ["sort", str(world.paths.particles), *given, *TINY]


@pytest.fixture(scope="module")
def sorted_world(few_rotations: None, world: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sorted") / "out"
    main([*words(world, out), "--label.truth", str(world.paths.particles_truth), "--compare-scratch"])
    return out


def test_every_stage_is_kept_under_its_name(sorted_world: Path) -> None:
    names = {path.name for path in sorted_world.iterdir()}
    stages = {"subtomograms", "pretrained", "classifier", "from scratch"}
    assert names == stages | {"classified.star", "classified_embeddings.npy", "report.html"}


@pytest.mark.parametrize(
    ("asked", "pretrain", "finetune", "spacing", "expected"),
    [
        ("auto", Contrastive(), Supervised(), 10.0, False),
        ("auto", Contrastive(), Supervised(), 10.05, False),
        ("auto", Contrastive(), Supervised(), 13.3, True),
        ("auto", Contrastive(), Supervised(averages="never"), 10.0, True),
        ("auto", Contrastive(temperature=0.5), Supervised(), 10.0, True),
        ("always", Contrastive(), Supervised(), 10.0, True),
        ("never", Contrastive(), Supervised(), 13.3, False),
    ],
)
def test_pretraining_comes_first_where_it_helps(
    asked: sort.Pretraining, pretrain: Contrastive, finetune: Supervised, spacing: float, expected: bool
) -> None:
    assert sort._pretrains(asked, pretrain, finetune, spacing) == expected


def test_every_pick_has_a_class_and_keeps_its_columns(world: Any, sorted_world: Path) -> None:
    given = starfile.read(world.paths.particles, always_dict=True)
    found = starfile.read(sorted_world / "classified.star", always_dict=True)
    pd.testing.assert_frame_equal(found["particles"][given["particles"].columns], given["particles"])
    pd.testing.assert_frame_equal(found["optics"], given["optics"])
    assert set(found["particles"]["rlnClassNumber"]) <= {1, 2, 3}


def test_report_judges_by_the_truth_and_shows_both_ways_of_training(sorted_world: Path) -> None:
    page = (sorted_world / "report.html").read_text()
    assert "45 particles sorted" in page
    assert "6 particles that were labeled for training are left out" in page
    assert "from scratch" in page


def test_classes_are_told_apart_by_averages_that_are_kept_and_shown(sorted_world: Path) -> None:
    kept, scratch = (load_classifier(sorted_world / name) for name in ("classifier", "from scratch"))
    assert kept.card.averages
    assert kept.averages is not None
    assert kept.averages.known.all()
    assert not scratch.card.averages
    assert "Compared with" in (sorted_world / "report.html").read_text()
    boxes = open_subtomograms(sorted_world / "subtomograms")
    before = predict(kept, boxes.volumes, len(boxes)).probabilities
    table = starfile.read(sorted_world / "classified.star", always_dict=True)["particles"]
    after = table[[f"tomosiftProbability_{name}" for name in kept.card.class_names]].to_numpy()
    assert (np.abs(after - before).max(axis=1) > 0.01).mean() > 0.5


def test_the_same_command_again_trains_nothing_again(world: Any, sorted_world: Path) -> None:
    watched = [*sorted_world.glob("*/result/*"), *sorted_world.glob("subtomograms/*")]
    content = {path: path.read_bytes() for path in watched}
    cut = {path: path.stat().st_mtime_ns for path in sorted_world.glob("subtomograms/*")}
    steps = [(path, path.read_text().count('"loss":')) for path in sorted_world.glob("*/log.jsonl")]
    main([*words(world, sorted_world), "--label.truth", str(world.paths.particles_truth), "--compare-scratch"])
    assert {path: path.read_bytes() for path in watched} == content
    assert {path: path.stat().st_mtime_ns for path in sorted_world.glob("subtomograms/*")} == cut
    assert [(path, path.read_text().count('"loss":')) for path, _ in steps] == steps


def test_a_stage_that_was_lost_is_made_again_from_the_others(world: Any, sorted_world: Path) -> None:
    kept, lost = (sorted_world / name / "result" / "model.safetensors" for name in ("pretrained", "classifier"))
    weights, again = kept.read_bytes(), lost.read_bytes()
    classified = (sorted_world / "classified.star").read_bytes()
    shutil.rmtree(sorted_world / "classifier")
    (sorted_world / "classified.star").unlink()
    main(words(world, sorted_world))
    assert kept.read_bytes() == weights
    assert lost.read_bytes() == again
    assert (sorted_world / "classified.star").read_bytes() == classified


def test_wrong_labels_are_said_before_any_work(world: Any, tmp_path: Path, refuse: Refuse) -> None:
    particles = Particles.create(["tomogram_001", "tomogram_009"], np.ones((2, 3)), class_name=["groel", "clpb"])
    csv.write_particles(tmp_path / "labels.csv", particles)
    given = ("--tomograms", world.paths.tomograms, "--labels", tmp_path / "labels.csv", "--out", tmp_path / "out")
    assert "belong to no particle" in refuse("sort", world.paths.particles, *given, *TINY)


def test_labels_of_one_class_are_said_before_any_work(world: Any, tmp_path: Path, refuse: Refuse) -> None:
    table = starfile.read(world.labels, always_dict=True)
    table["particles"] = table["particles"][table["particles"]["tomosiftClass"] == "groel"]
    starfile.write(table, tmp_path / "labels.star")
    given = ("--tomograms", world.paths.tomograms, "--labels", tmp_path / "labels.star", "--out", tmp_path / "out")
    assert "expected at least 2" in refuse("sort", world.paths.particles, *given, *TINY)


def test_missing_files_are_said_before_any_work(world: Any, tmp_path: Path, refuse: Refuse) -> None:
    given = {"tomograms": world.paths.tomograms, "labels": world.labels}
    for name in given:
        options = {**given, name: tmp_path / "absent.star"}
        told = [word for key, value in options.items() for word in (f"--{key}", value)]
        said = refuse("sort", world.paths.particles, *told, "--out", tmp_path / "out", *TINY)
        assert "absent.star" in said
