"""A command writes what the function of the Python API returns."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import starfile

import tomosift
from tomosift.cli.main import main
from tomosift.data.labels import label_subtomograms
from tomosift.methods.contrastive import Config as ContrastiveConfig
from tomosift.methods.supervised import Config as SupervisedConfig
from tomosift.picking.config import Config as DetectorConfig
from tomosift.workflows.explore import explore

pytestmark = pytest.mark.usefixtures("hardly_any_rotations", "fast_recentering")


def run(*words: object) -> None:
    main([str(word) for word in words])


def read_table(path: Path) -> pd.DataFrame:
    return starfile.read(path, always_dict=True)["particles"]


def assert_same_predictions(table: pd.DataFrame, particles: Any) -> None:
    """Classes are equal, and probabilities to 1e-6."""
    columns = [name for name in particles.columns.columns if name.startswith("tomosift")]
    probabilities = [name for name in columns if name.startswith("tomosiftProbability")]
    assert len(probabilities) > 1
    assert table["tomosiftClass"].tolist() == particles.columns["tomosiftClass"].tolist()
    assert table["rlnClassNumber"].tolist() == particles.columns["rlnClassNumber"].tolist()
    np.testing.assert_allclose(table[probabilities], particles.columns[probabilities], rtol=0, atol=1e-6)


@pytest.mark.slow
def test_sort_equals_a_fitted_classifier(world: Any, tmp_path: Path) -> None:
    """With class averages, after pretraining."""
    words = ("--tomograms", world.paths.tomograms, "--labels", world.labels, "--voxel-spacing", 16, "--box-size", 16)
    few = [("training.steps", 2), ("training.batch-size", 8)]
    steps = [word for stage in ("pretrain", "finetune") for name, value in few for word in (f"--{stage}.{name}", value)]
    run("sort", world.paths.particles, *words, *steps, "--out", tmp_path / "sorted")
    subtomograms = tomosift.open_subtomograms(tmp_path / "sorted" / "subtomograms")
    pretraining = replace(ContrastiveConfig().training, steps=2, batch_size=8)
    finetuning = replace(SupervisedConfig().training, steps=2, batch_size=8)
    pretrained = tomosift.pretrain(subtomograms, tmp_path / "run", config=ContrastiveConfig(training=pretraining))
    classifier = tomosift.SubtomogramClassifier(init=pretrained, config=SupervisedConfig(training=finetuning))
    particles = classifier.fit(subtomograms, world.labels).predict(subtomograms)
    assert classifier.classifier_.class_averages is not None
    assert_same_predictions(read_table(tmp_path / "sorted" / "classified.star"), particles)


@pytest.mark.parametrize("class_averages", ["never", pytest.param("auto", marks=pytest.mark.slow)])
def test_identify_equals_a_classifier_by_prototypes(
    world: Any, chain: Any, tmp_path: Path, class_averages: Any
) -> None:
    words = ("--labels", world.labels, "--class-averages", class_averages, "--out", tmp_path / "classified.star")
    run("identify", chain.subtomograms, *words)
    subtomograms = tomosift.open_subtomograms(chain.subtomograms)
    classifier = tomosift.SubtomogramClassifier("prototypes", class_averages=class_averages)
    particles = classifier.fit(subtomograms, world.labels).predict(subtomograms)
    assert (classifier.classifier_.class_averages is not None) == (class_averages == "auto")
    is_labeled = label_subtomograms(subtomograms, world.labels).label >= 0
    table = read_table(tmp_path / "classified.star")
    assert (table["tomosiftIsExample"].to_numpy() == is_labeled).all()
    others = np.flatnonzero(~is_labeled)  # examples keep their own class
    assert_same_predictions(table.iloc[others].reset_index(drop=True), particles.select(others))


def test_explore_equals_cluster(chain: Any, tmp_path: Path) -> None:
    run("explore", chain.subtomograms, "--clusters", 3, "--no-suggest", "--out", tmp_path / "explored")
    subtomograms = tomosift.open_subtomograms(chain.subtomograms)
    clusters = tomosift.cluster(subtomograms, 3)
    table = read_table(tmp_path / "explored" / "clusters.star")
    assert table["tomosiftClass"].tolist() == [f"cluster-{number + 1}" for number in clusters.label]
    columns = [f"tomosiftProbability_cluster-{number}" for number in (1, 2, 3)]
    np.testing.assert_allclose(table[columns], clusters.probability, rtol=0, atol=1e-6)
    result = explore(subtomograms, tmp_path / "again", clusters=3, suggest=False)
    np.testing.assert_allclose(result.clusters.probability, clusters.probability, rtol=0, atol=1e-6)
    np.testing.assert_allclose(result.embeddings, tomosift.embed(subtomograms), atol=1e-5)


@pytest.mark.slow
def test_scan_equals_pick(world: Any, tmp_path: Path) -> None:
    tomogram = world.folder / "tomograms" / "tomogram_001.mrc"
    labels, options = world.paths.particles_truth, ("--radius", 100, "--seed", 2)
    detector = DetectorConfig(
        init=None, voxel_spacing_angstrom=16.0, box_size=16, background_points=1500, self_training_rounds=0
    )
    detector = replace(detector, training=replace(detector.training, steps=40, batch_size=64))
    settings = {
        "model": None,
        "voxel-spacing": 16.0,
        "box-size": 16,
        "background-points": 1500,
        "self-training-rounds": 0,
        "training.steps": 40,
        "training.batch-size": 64,
    }
    words = [word for name, value in settings.items() for word in (f"--detector.{name}", value)]
    words += ["--labels", labels, "--label-tomograms", world.paths.tomograms]
    run("scan", tomogram, *words, *options, "--out", tmp_path / "command")
    result = tomosift.pick(
        tomogram,
        tmp_path / "function",
        labels=labels,
        label_tomograms=[world.paths.tomograms],
        radius_angstrom=100.0,
        detector=detector,
        seed=2,
    )
    table = read_table(tmp_path / "command" / "particles.star")
    assert len(table) == len(result.particles) > 3
    assert table["tomosiftClass"].tolist() == result.particles.class_name.tolist()
    confidence = result.particles.columns["tomosiftConfidence"]
    np.testing.assert_allclose(table["tomosiftConfidence"], confidence, rtol=0, atol=1e-6)
    written = read_table(result.table)
    pd.testing.assert_frame_equal(table, written)
