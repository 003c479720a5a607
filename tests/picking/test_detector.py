"""A detector finds in one tomogram what was picked in another, and is the same however it came about."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from tomosift.data.extraction.tomogram_sources import open_tomograms
from tomosift.evaluation.metrics.detection import detection_score
from tomosift.inference.classifier import Classifier, ModelCard, load_classifier, save_classifier
from tomosift.io.volumes import write_volume
from tomosift.models.encoders import build_encoder
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


def of_each(picks: Particles, **wanted: int) -> Particles:
    """So many picks of each of these classes."""
    rows = [np.flatnonzero(picks.class_name == name)[:number] for name, number in wanted.items()]
    return picks.select(np.concatenate(rows))


def weights(model: Classifier) -> dict[str, Any]:
    return dict(model.state_dict())


def assert_same(one: Classifier, other: Classifier) -> None:
    torch.testing.assert_close(weights(one), weights(other), rtol=0, atol=0)


def test_what_was_picked_in_one_tomogram_is_found_and_named_in_another(scanned_world: Any) -> None:
    """Picks at random places would reach an F1 of some 0.02."""
    found = extract_picks(
        detect(load_classifier(scanned_world.detector), scanned_world.tomograms["b"]), "b", RADIUS, 0.5
    )
    score = detection_score(found, scanned_world.particles["b"], dict.fromkeys(RADIUS, 60.0))
    assert score.recall >= 0.85
    assert score.precision >= 0.75
    assert all(one.error_angstrom < 15 for one in score.classes.values())


def test_a_few_picks_and_random_weights_are_a_start(scanned_world: Any, tmp_path: Path) -> None:
    config = replace(scanned_world.config, init=None, rounds=1)
    picks = of_each(scanned_world.particles["a"], ball=4, shell=4)
    model = train_detector(config, picks, scanned_world.tomograms, Run.open(tmp_path / "run", {}), seed=0)
    found = extract_picks(detect(model, scanned_world.tomograms["b"]), "b", RADIUS, 0.5)
    score = detection_score(found, scanned_world.particles["b"], dict.fromkeys(RADIUS, 60.0))
    assert score.recall >= 0.7
    assert score.precision >= 0.5


def test_same_seed_same_weights_and_another_seed_others(scanned_world: Any, tmp_path: Path) -> None:
    config = replace(scanned_world.config, training=Training(10, 32, 2e-3), init=None)
    picks = scanned_world.particles["a"]
    one, same, other = (
        train_detector(config, picks, scanned_world.tomograms, Run.open(tmp_path / name, {}), seed)
        for name, seed in (("one", 0), ("same", 0), ("other", 1))
    )
    assert_same(one, same)
    assert_same(one, load_classifier(tmp_path / "one"))
    assert not all(torch.equal(a, b) for a, b in zip(weights(one).values(), weights(other).values(), strict=True))


@pytest.mark.parametrize("interrupted_in", [1, 2])
def test_an_interrupted_training_ends_in_the_weights_of_an_uninterrupted_one(
    scanned_world: Any, tmp_path: Path, interrupted_in: int
) -> None:
    config = replace(scanned_world.config, rounds=1, training=Training(30, 32, 2e-3, checkpoint_every=10))
    ask = (config, scanned_world.particles["a"], scanned_world.tomograms)
    calls = 0

    def interrupt(step: int, steps: int, losses: dict[str, float]) -> None:
        nonlocal calls
        calls += step == 17
        if step == 17 and calls == interrupted_in:
            raise InterruptedError

    whole = train_detector(*ask, Run.open(tmp_path / "whole", {}), seed=3)
    run = Run.open(tmp_path / "broken", {})
    with pytest.raises(InterruptedError):
        train_detector(*ask, run, seed=3, progress=interrupt)
    assert not run.result.exists()
    assert_same(train_detector(*ask, run, seed=3), whole)


def test_an_interruption_while_tomograms_are_looked_at_changes_nothing(scanned_world: Any, tmp_path: Path) -> None:
    config = replace(scanned_world.config, training=Training(10, 32, 2e-3))
    picks = concatenate_picks([scanned_world.particles["a"], scanned_world.particles["b"]])
    seen = []

    def interrupt(done: int, total: int) -> None:
        seen.append((done, total))
        if done == 1:
            raise InterruptedError

    run = Run.open(tmp_path / "broken", {})
    with pytest.raises(InterruptedError):
        train_detector(config, picks, scanned_world.tomograms, run, 0, interrupt)
    seen.clear()
    again = train_detector(config, picks, scanned_world.tomograms, run, 0, lambda *now: seen.append(now))
    assert seen == [(1, 2), (2, 2)]
    assert_same(again, train_detector(config, picks, scanned_world.tomograms, Run.open(tmp_path / "whole", {}), 0))


def test_places_of_a_tomogram_that_were_cut_short_on_disk_are_described_again(
    scanned_world: Any, tmp_path: Path
) -> None:
    config = replace(scanned_world.config, training=Training(10, 32, 2e-3))
    ask = (config, scanned_world.particles["a"], scanned_world.tomograms)
    run = Run.open(tmp_path / "run", {})
    whole = train_detector(*ask, run, seed=0)
    (kept,) = (run.folder / "round-1" / "places").iterdir()
    kept.write_bytes(kept.read_bytes()[:1000])
    assert_same(train_detector(*ask, run, seed=0), whole)


def test_only_classes_of_few_picks_get_more_rounds(scanned_world: Any, tmp_path: Path) -> None:
    picks = of_each(scanned_world.particles["a"], ball=4, shell=2)
    config = replace(scanned_world.config, rounds=2, few=3)
    seen: list[tuple[int, int]] = []
    run = Run.open(tmp_path / "few", {})
    train_detector(config, picks, scanned_world.tomograms, run, 0, lambda *now: seen.append(now))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    grown = [line["picks"] for line in lines(run.folder) if line.get("event") == "grown"]
    assert grown[0] > len(picks)  # there are four more shells
    first, last = (next(line for line in lines(run.folder / part) if line.get("event") == "places")["of_each"]
                   for part in ("round-1", "round-3"))  # fmt: skip
    assert last[1] > 1.3 * first[1]
    assert last[0] < 1.3 * first[0]
    seen.clear()
    enough = Run.open(tmp_path / "enough", {})
    short = replace(config, few=2, training=Training(2, 16, 2e-3))
    train_detector(short, picks, scanned_world.tomograms, enough, 0, lambda *now: seen.append(now))
    assert seen == [(1, 1)]
    assert sorted(part.name for part in enough.folder.glob("round-*")) == ["round-1"]


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_places_near_a_pick_are_of_its_class_and_never_background(scanned_world: Any) -> None:
    picks, config = scanned_world.particles["a"], scanned_world.config
    lattice = Blocks(scanned_world.tomograms["a"], 10.0, 16, 1).lattice
    rows, label = select_training_points(config, picks, lattice, ("ball", "shell"), 0, 1)
    assert len(np.unique(rows)) == len(rows)
    distance, nearest = cKDTree(picks.position_zyx_angstrom).query(lattice.positions(rows))
    is_background = label == 2
    assert distance[is_background].min() >= config.far_angstrom
    assert distance[~is_background].max() <= config.near_angstrom
    assert (picks.class_name[nearest[~is_background]] == np.array(["ball", "shell"])[label[~is_background]]).all()
    everything = cKDTree(picks.position_zyx_angstrom).query(lattice.positions(np.arange(lattice.size)))[0]
    assert set(np.flatnonzero(everything <= config.near_angstrom)) == set(rows[~is_background].tolist())
    assert 1000 < is_background.sum() <= config.background_places + config.beside_places


def test_a_pick_between_far_places_has_the_closest_one(scanned_world: Any) -> None:
    config = replace(scanned_world.config, near_angstrom=1.0)
    picks = Particles.create(["a"], np.array([[104.0, 303.0, 255.0]]), class_name=["ball"])
    lattice = Blocks(scanned_world.tomograms["a"], 10.0, 16, 1).lattice
    rows, label = select_training_points(config, picks, lattice, ("ball",), 0, 1)
    near = lattice.positions(rows[label == 0])
    assert near[:, :2].tolist() == [[100.0, 300.0]]
    assert near[0, 2] in {250.0, 260.0}


def test_batches_are_half_background_and_even_over_classes() -> None:
    label = np.repeat([0, 1, 2], [3, 50, 500])
    places = TrainingGrid(np.zeros((len(label), 4), np.float16), label, 2, 4000, seed=0)
    share = np.bincount(places.batch(7).label.numpy()) / 4000
    np.testing.assert_allclose(share, [0.25, 0.25, 0.5], atol=0.03)
    assert torch.equal(places.batch(7).label, places.batch(7).label)
    assert not torch.equal(places.batch(7).label, places.batch(8).label)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model of the right encoder at another voxel spacing, and the shipped one of another encoder."""
    folder = tmp_path_factory.mktemp("coarse")
    save_classifier(folder, Classifier(build_encoder("dense"), ModelCard("dense", 14.0, 16)))
    return {"coarse": folder, "general": Path("general")}


@pytest.mark.parametrize(
    ("change", "init", "sentence"),
    [
        ({"class_name": ""}, "", "no pick has a class; name one or more of every class"),
        ({"class_name": BACKGROUND}, "", "'background' is what places without a pick are called"),
        ({"tomogram": "c"}, "", "1 of 1 tomogram names of the particles have no tomogram: 'c'"),
        ({"position": 5000.0}, "", r"12 of 12 picks lie outside of a, the first at 5000, 5000, 5000 A .* --picks-sp"),
        ({"position": np.nan}, "", "12 of 12 picks lie outside of a"),
        ({}, "general", "the encoder of general is .*, expected dense"),
        ({}, "coarse", "voxel_spacing_angstrom is 10 but .* was trained at 14 A; give that, or --detector.init None"),
    ],
)
def test_what_cannot_be_learned_from_is_refused_before_anything_is_looked_at(
    scanned_world: Any, tmp_path: Path, models: dict[str, Path], change: dict[str, Any], init: str, sentence: str
) -> None:
    picks = scanned_world.particles["a"]
    for name in ("class_name", "tomogram"):
        if name in change:
            picks = replace(picks, **{name: np.full(len(picks), change[name], dtype=object)})
    if "position" in change:
        picks = picks.with_geometry(np.full((len(picks), 3), change["position"]))
    config = replace(scanned_world.config, init=models[init]) if init else scanned_world.config
    run = Run.open(tmp_path / "run", {})
    with pytest.raises(ValueError, match=sentence):
        train_detector(config, picks, scanned_world.tomograms, run, seed=0)
    assert not (run.folder / "round-1").exists()


def test_a_tomogram_without_background_is_refused(scanned_world: Any, tmp_path: Path) -> None:
    write_volume(tmp_path / "small.mrc", np.random.default_rng(0).normal(size=(8, 16, 16)).astype(np.float32), 10.0)
    position = np.stack(np.meshgrid(*[np.arange(0, edge * 10.0, 30.0) for edge in (8, 16, 16)]), axis=-1).reshape(-1, 3)
    picks = Particles.create(["small"] * len(position), position, class_name=["ball"] * len(position))
    run = Run.open(tmp_path / "run", {})
    with pytest.raises(ValueError, match="no place is left for 'background'"):
        train_detector(scanned_world.config, picks, open_tomograms(tmp_path / "small.mrc"), run, seed=0)


def test_a_detector_starts_from_a_shipped_model_unless_told_otherwise() -> None:
    init = Config().init
    assert init is not None
    assert load_classifier(init).card.encoder == "dense"
