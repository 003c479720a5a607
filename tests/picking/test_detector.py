"""A detector finds in one tomogram what was picked in another; interrupted trainings end in the same weights."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from tomosift.data.extraction.tomogram_sources import open_tomograms
from tomosift.evaluation.metrics.detection import score_detections
from tomosift.inference.classifier import Classifier, ModelCard
from tomosift.inference.model_files import load_classifier, save_classifier
from tomosift.io.volumes import write_volume
from tomosift.models.embedder import Embedder
from tomosift.models.encoders import build_encoder
from tomosift.models.recentering import Recentering
from tomosift.particles import Particles
from tomosift.picking.blocks import Blocks
from tomosift.picking.config import Config
from tomosift.picking.detection import BACKGROUND, detect, extract_picks
from tomosift.picking.detector import train_detector
from tomosift.picking.self_training import concatenate_picks
from tomosift.picking.training_grid import TrainingGrid, select_training_points
from tomosift.train.loop import Training
from tomosift.train.run import Run

RADIUS = {"ball": 50.0, "shell": 60.0}


def select_picks(picks: Particles, **counts: int) -> Particles:
    """Return so many picks of each of these classes."""
    rows = [np.flatnonzero(picks.class_name == name)[:number] for name, number in counts.items()]
    return picks.select(np.concatenate(rows))


def weights(model: Classifier) -> dict[str, Any]:
    return dict(model.state_dict())


def assert_same(one: Classifier, other: Classifier) -> None:
    torch.testing.assert_close(weights(one), weights(other), rtol=0, atol=0)


def test_particles_picked_in_one_tomogram_are_found_and_classified_in_another(picking_world: Any) -> None:
    """Random positions would reach an F1 of about 0.02."""
    detections = detect(load_classifier(picking_world.detector), picking_world.tomograms["b"])
    score = score_detections(
        extract_picks(detections, "b", RADIUS, 0.5), picking_world.particles["b"], dict.fromkeys(RADIUS, 60.0)
    )
    assert score.recall >= 0.85
    assert score.precision >= 0.75
    assert all(one.error_angstrom < 15 for one in score.classes.values())


def test_a_few_picks_suffice_from_random_weights(picking_world: Any, tmp_path: Path) -> None:
    config = replace(picking_world.config, init=None, self_training_rounds=1)
    picks = select_picks(picking_world.particles["a"], ball=4, shell=4)
    model = train_detector(config, picks, picking_world.tomograms, Run.open(tmp_path / "run", {}), seed=0)
    particles = extract_picks(detect(model, picking_world.tomograms["b"]), "b", RADIUS, 0.5)
    score = score_detections(particles, picking_world.particles["b"], dict.fromkeys(RADIUS, 60.0))
    assert score.recall >= 0.7
    assert score.precision >= 0.5


def test_same_seed_same_weights_and_another_seed_others(picking_world: Any, tmp_path: Path) -> None:
    config = replace(picking_world.config, training=Training(10, 32, 2e-3), init=None)
    picks = picking_world.particles["a"]
    one, same, other = (
        train_detector(config, picks, picking_world.tomograms, Run.open(tmp_path / name, {}), seed)
        for name, seed in (("one", 0), ("same", 0), ("other", 1))
    )
    assert_same(one, same)
    assert_same(one, load_classifier(tmp_path / "one"))
    assert not all(torch.equal(a, b) for a, b in zip(weights(one).values(), weights(other).values(), strict=True))


@pytest.mark.parametrize("interrupted_in", [1, 2])
def test_an_interrupted_training_ends_in_the_weights_of_an_uninterrupted_one(
    picking_world: Any, tmp_path: Path, interrupted_in: int
) -> None:
    config = replace(picking_world.config, self_training_rounds=1, training=Training(30, 32, 2e-3, checkpoint_every=10))
    arguments = (config, picking_world.particles["a"], picking_world.tomograms)
    calls = 0

    def interrupt(step: int, steps: int, note: str = "") -> None:
        nonlocal calls
        calls += step == 17
        if step == 17 and calls == interrupted_in:
            raise InterruptedError

    whole = train_detector(*arguments, Run.open(tmp_path / "whole", {}), seed=3)
    run = Run.open(tmp_path / "broken", {})
    with pytest.raises(InterruptedError):
        train_detector(*arguments, run, seed=3, progress=interrupt)
    assert not run.result.exists()
    assert_same(train_detector(*arguments, run, seed=3), whole)


def test_an_interruption_while_tomograms_are_described_changes_nothing(picking_world: Any, tmp_path: Path) -> None:
    config = replace(picking_world.config, training=Training(10, 32, 2e-3))
    picks = concatenate_picks([picking_world.particles["a"], picking_world.particles["b"]])
    calls = []

    def interrupt(done: int, total: int, note: str = "") -> None:
        calls.append((done, total))
        if done == 1:
            raise InterruptedError

    run = Run.open(tmp_path / "broken", {})
    with pytest.raises(InterruptedError):
        train_detector(config, picks, picking_world.tomograms, run, 0, interrupt)
    calls.clear()
    resumed = train_detector(config, picks, picking_world.tomograms, run, 0, lambda *call: calls.append(call))
    assert calls == [(1, 2), (2, 2)]
    assert_same(resumed, train_detector(config, picks, picking_world.tomograms, Run.open(tmp_path / "whole", {}), 0))


def test_grid_points_that_were_cut_short_on_disk_are_described_again(picking_world: Any, tmp_path: Path) -> None:
    config = replace(picking_world.config, training=Training(10, 32, 2e-3))
    arguments = (config, picking_world.particles["a"], picking_world.tomograms)
    run = Run.open(tmp_path / "run", {})
    whole = train_detector(*arguments, run, seed=0)
    (stored,) = (run.folder / "round-1" / "grid_points").iterdir()
    stored.write_bytes(stored.read_bytes()[:1000])
    assert_same(train_detector(*arguments, run, seed=0), whole)


def test_only_classes_of_few_picks_get_more_rounds(picking_world: Any, tmp_path: Path) -> None:
    picks = select_picks(picking_world.particles["a"], ball=4, shell=2)
    config = replace(picking_world.config, self_training_rounds=2, self_training_max_picks=3)
    calls: list[tuple[int, int]] = []
    run = Run.open(tmp_path / "few", {})
    train_detector(config, picks, picking_world.tomograms, run, 0, lambda *call: calls.append(call))
    assert calls == [(1, 3), (2, 3), (3, 3)]
    grown = [line["picks"] for line in lines(run.folder) if line.get("event") == "self_training"]
    assert grown[0] > len(picks)  # there are four more shells
    first, last = (next(line for line in lines(run.folder / part) if line.get("event") == "grid_points")["per_class"]
                   for part in ("round-1", "round-3"))  # fmt: skip
    assert last[1] > 1.3 * first[1]
    assert last[0] < 1.3 * first[0]
    calls.clear()
    enough = Run.open(tmp_path / "enough", {})
    short = replace(config, self_training_max_picks=2, training=Training(2, 16, 2e-3))
    train_detector(short, picks, picking_world.tomograms, enough, 0, lambda *call: calls.append(call))
    assert calls == [(1, 1)]
    assert sorted(part.name for part in enough.folder.glob("round-*")) == ["round-1"]


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_grid_points_near_a_pick_have_its_class_and_are_never_background(picking_world: Any) -> None:
    picks, config = picking_world.particles["a"], picking_world.config
    grid = Blocks(picking_world.tomograms["a"], 10.0, 16, 1).grid
    points, label = select_training_points(config, picks, grid, ("ball", "shell"), 0, 1)
    assert len(np.unique(points)) == len(points)
    distance, nearest = cKDTree(picks.position_zyx_angstrom).query(grid.positions_zyx_angstrom(points))
    is_background = label == 2
    assert distance[is_background].min() >= config.background_distance_angstrom
    assert distance[~is_background].max() <= config.class_distance_angstrom
    assert (picks.class_name[nearest[~is_background]] == np.array(["ball", "shell"])[label[~is_background]]).all()
    everything = cKDTree(picks.position_zyx_angstrom).query(grid.positions_zyx_angstrom(np.arange(grid.size)))[0]
    assert set(np.flatnonzero(everything <= config.class_distance_angstrom)) == set(points[~is_background].tolist())
    assert 1000 < is_background.sum() <= config.background_points + config.nearby_background_points


def test_a_pick_between_grid_points_labels_the_closest_one(picking_world: Any) -> None:
    config = replace(picking_world.config, class_distance_angstrom=1.0)
    picks = Particles.create(["a"], np.array([[104.0, 303.0, 255.0]]), class_name=["ball"])
    grid = Blocks(picking_world.tomograms["a"], 10.0, 16, 1).grid
    points, label = select_training_points(config, picks, grid, ("ball",), 0, 1)
    near = grid.positions_zyx_angstrom(points[label == 0])
    assert near[:, :2].tolist() == [[100.0, 300.0]]
    assert near[0, 2] in {250.0, 260.0}


def test_batches_are_half_background_and_balanced_over_classes() -> None:
    label = np.repeat([0, 1, 2], [3, 50, 500])
    grid = TrainingGrid(np.zeros((len(label), 4), np.float16), label, 2, 4000, seed=0)
    share = np.bincount(grid.batch(7).label.numpy()) / 4000
    np.testing.assert_allclose(share, [0.25, 0.25, 0.5], atol=0.03)
    assert torch.equal(grid.batch(7).label, grid.batch(7).label)
    assert not torch.equal(grid.batch(7).label, grid.batch(8).label)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model of the right encoder at another voxel spacing, and the shipped one of another encoder."""
    folder = tmp_path_factory.mktemp("coarse")
    embedder = Embedder(build_encoder("dense"), Recentering())
    save_classifier(folder, Classifier(embedder, ModelCard("dense", 14.0, 16)))
    return {"coarse": folder, "general": Path("general")}


@pytest.mark.parametrize(
    ("change", "init", "sentence"),
    [
        ({"class_name": ""}, "", "no pick has a class; label one or more picks of every class"),
        ({"class_name": BACKGROUND}, "", "'background' is the class of grid points without a particle"),
        ({"tomogram": "c"}, "", "1 of 1 tomogram names of the particles have no tomogram: 'c'"),
        ({"position": 5000.0}, "", r"12 of 12 picks lie outside of a, the first at 5000, 5000, 5000 A .* --picks-sp"),
        ({"position": np.nan}, "", "12 of 12 picks lie outside of a"),
        ({}, "general", "the encoder of general is .*, expected dense"),
        ({}, "coarse", "voxel_spacing_angstrom is 10 but .* was trained at 14 A; give that, or --detector.model None"),
    ],
)
def test_unusable_picks_and_models_are_refused_before_a_tomogram_is_read(
    picking_world: Any, tmp_path: Path, models: dict[str, Path], change: dict[str, Any], init: str, sentence: str
) -> None:
    picks = picking_world.particles["a"]
    for name in ("class_name", "tomogram"):
        if name in change:
            picks = replace(picks, **{name: np.full(len(picks), change[name], dtype=object)})
    if "position" in change:
        picks = picks.with_geometry(np.full((len(picks), 3), change["position"]))
    config = replace(picking_world.config, init=models[init]) if init else picking_world.config
    run = Run.open(tmp_path / "run", {})
    with pytest.raises(ValueError, match=sentence):
        train_detector(config, picks, picking_world.tomograms, run, seed=0)
    assert not (run.folder / "round-1").exists()


def test_a_tomogram_without_background_is_refused(picking_world: Any, tmp_path: Path) -> None:
    write_volume(tmp_path / "small.mrc", np.random.default_rng(0).normal(size=(8, 16, 16)).astype(np.float32), 10.0)
    position = np.stack(np.meshgrid(*[np.arange(0, edge * 10.0, 30.0) for edge in (8, 16, 16)]), axis=-1).reshape(-1, 3)
    picks = Particles.create(["small"] * len(position), position, class_name=["ball"] * len(position))
    run = Run.open(tmp_path / "run", {})
    with pytest.raises(ValueError, match="no grid point is left for 'background'"):
        train_detector(picking_world.config, picks, open_tomograms(tmp_path / "small.mrc"), run, seed=0)


def test_a_detector_starts_from_a_shipped_model_by_default() -> None:
    init = Config().init
    assert init is not None
    assert load_classifier(init).card.encoder == "dense"
