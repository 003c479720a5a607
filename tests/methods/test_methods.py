"""Supervised training: early stopping, hold-out, pseudo-labels, class averages and calibration."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tomosift import methods
from tomosift.data.set_writer import SubtomogramWriter
from tomosift.data.subtomogram_set import Subtomograms, open_subtomograms
from tomosift.data.training_sets import TrainingSets
from tomosift.inference.model_files import load_classifier
from tomosift.inference.prediction import predict
from tomosift.learning.query_rounds import QueryRounds
from tomosift.methods import supervised
from tomosift.models.generators import GeneratorConfig
from tomosift.particles import Particles
from tomosift.train.loop import Training

SHAPES = ("ball", "plate", "rod")


def draw(shape: str, rng: np.random.Generator, size: int = 16) -> np.ndarray:
    axis = np.arange(size) - size // 2
    coordinates = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).astype(float)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    widths = {"ball": (3, 3, 3), "plate": (1, 5, 5), "rod": (1, 1, 6)}[shape]
    density = np.exp(-0.5 * (((coordinates @ turn) / widths) ** 2).sum(-1))
    return density / density.std() + rng.normal(size=density.shape)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Subtomograms:
    """Three shapes, 40 of each, 16^3, SNR 1, in four tomograms."""
    rng = np.random.default_rng(0)
    names = [SHAPES[k % 3] for k in range(120)]
    boxes = np.stack([draw(name, rng) for name in names]).astype(np.float32)
    tomogram = [f"tomogram_{k // 30}" for k in range(120)]
    folder = tmp_path_factory.mktemp("shapes") / "set"
    particles = Particles.create(tomogram, np.zeros((120, 3)), class_name=names)
    writer = SubtomogramWriter(folder, box_size=16, voxel_spacing_angstrom=10.0, has_masks=True)
    writer.append(boxes, particles, np.tile(np.float32([-90, 90]), (120, 1)), masks=boxes > 2)
    writer.close()
    return open_subtomograms(folder)


@pytest.fixture(scope="module")
def sets(shapes: Subtomograms) -> TrainingSets:
    last = shapes.particles.tomogram == "tomogram_3"
    return TrainingSets(shapes.select(~last), shapes.select(~last), shapes.select(last))


def short(name: str, steps: int) -> object:
    config = methods.load_method(name).Config()
    if name == "prototypical":  # there are three shapes, not five
        config = replace(config, ways=3, shots=2, queries=3)
    if name == "metric":
        config = replace(
            config, box_size=16, complexes=32, particles_per_complex=4, classes_per_batch=8, plda_complexes=2
        )
    if name == "domain_adversarial":
        config = replace(config, init=None, warp_width=2, source_steps=2, discriminator_steps=2)
    if name == "active":
        config = replace(config, init=None, total_labels=30, rounds=QueryRounds(first_labels=20, labels_per_round=10))
    if name == "cycle_wgan":
        shape = GeneratorConfig(width=2, blocks=1)
        config = replace(config, init=None, structures=("groel", "apoferritin"), generator=shape, critic_width=2)
        config = replace(config, min_faithfulness=-1.0, pool_size=4)
    return replace(config, training=replace(config.training, steps=steps, batch_size=12, checkpoint_every=3))


def interrupted(losses_until: int) -> object:
    class Stop(Exception):
        pass

    def progress(step: int, steps: int, note: str = "") -> None:
        if step == losses_until:
            raise Stop

    return progress, Stop


def test_resumed_fine_tuning_keeps_the_best_weights_of_an_uninterrupted_one(sets: TrainingSets, tmp_path: Path) -> None:
    config = replace(short("supervised", 8), evaluate_every=2, patience=2)
    whole = methods.train("supervised", config, sets, tmp_path / "whole", 3)
    progress, stop = interrupted(5)
    with pytest.raises(stop):
        methods.train("supervised", config, sets, tmp_path / "parts", 3, progress)
    resumed = methods.train("supervised", config, sets, tmp_path / "parts", 3)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert whole.card == resumed.card


@pytest.mark.parametrize("at", [2, 9])
def test_fine_tuning_with_a_rehearsal_learns_from_all_labels_and_resumes(
    at: int, shapes: Subtomograms, tmp_path: Path
) -> None:
    none = shapes.empty()
    given = TrainingSets(shapes, shapes, none)
    config = replace(short("supervised", 8), evaluate_every=2, patience=9)
    whole = methods.train("supervised", config, given, tmp_path / "whole", 3)
    entries = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    rehearsed = next(entry for entry in entries if entry.get("event") == "rehearsed")
    assert 2 <= rehearsed["steps"] <= 8
    assert rehearsed["temperature"] == whole.card.temperature
    assert max(entry.get("step", 0) for entry in entries) == rehearsed["steps"]
    calls = 0

    def progress(step: int, steps: int, note: str = "") -> None:
        nonlocal calls
        calls += 1
        if calls == at:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        methods.train("supervised", config, given, tmp_path / "parts", 3, progress)
    resumed = methods.train("supervised", config, given, tmp_path / "parts", 3)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_fewer_than_two_labeled_classes_are_refused(shapes: Subtomograms, tmp_path: Path) -> None:
    balls = shapes.select(shapes.label == 0)
    with pytest.raises(ValueError, match="labels name 1 classes, expected at least 2"):
        methods.train("supervised", short("supervised", 1), TrainingSets(balls, balls, balls), tmp_path / "run", 0)


def test_encoder_of_another_voxel_spacing_is_refused(sets: TrainingSets, tmp_path: Path) -> None:
    methods.train("contrastive", short("contrastive", 1), sets, tmp_path / "pre", 0)
    finer = TrainingSets(
        *(replace(part, voxel_spacing_angstrom=7.0) for part in (sets.labeled, sets.unlabeled, sets.validation))
    )
    config = replace(short("supervised", 1), init=tmp_path / "pre")
    with pytest.raises(ValueError, match="extract with --voxel-spacing 10"):
        methods.train("supervised", config, finer, tmp_path / "run", 0)


def test_few_labels_are_spread_from_pretrained_encoders_unless_they_are_enough(
    sets: TrainingSets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spread(name: str, per_class: int, mixed: bool = True, **changes: object) -> bool:
        rows = np.concatenate([np.flatnonzero(sets.labeled.label == k)[:per_class] for k in range(3)])
        few = sets.labeled.select(rows)
        if mixed:  # every class holds two or one of each shape, so that no particle is named by the others
            few = few.with_labels(np.tile(SHAPES, per_class).astype(object), few.class_names)
        given = TrainingSets(few, sets.unlabeled, sets.validation.empty())
        config = replace(short("supervised", 1), tuning="probe", averages="never", **changes)
        methods.train("supervised", config, given, tmp_path / name, 0)
        log = [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        asked = [entry for entry in log if entry.get("event") == "spread"]
        assert all(3 <= entry["agreed"] <= entry["particles"] == len(sets.unlabeled) for entry in asked)
        return bool(asked)

    general = Path("general")
    assert spread("one", 1, mixed=False, init=general)
    assert spread("five", 5, init=general)
    assert not spread("told apart", 8, mixed=False, init=general)
    assert not spread("scratch", 5)
    assert not spread("never", 5, init=general, spread="never")
    assert spread("always", 8, mixed=False, spread="always")
    elsewhere = replace(sets.unlabeled, path=sets.unlabeled.path / "other")
    apart = TrainingSets(sets.labeled, elsewhere, sets.validation)
    with pytest.raises(ValueError, match="some labeled particles are not among the unlabeled ones"):
        methods.train("supervised", replace(short("supervised", 1), spread="always"), apart, tmp_path / "apart", 0)
    monkeypatch.setattr(supervised, "_LABELS_TO_SPREAD", 5)
    assert not spread("enough", 5, init=general)


@pytest.mark.usefixtures("few_rotations")
def test_averages_are_kept_from_a_pretrained_encoder_on_unless_they_are_not_wanted_or_worse(
    sets: TrainingSets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kept(name: str, per_class: int, **changes: object) -> list[dict[str, Any]]:
        """What the log says of averages, of a run that has as many labels of each class."""
        rows = np.concatenate([np.flatnonzero(sets.labeled.label == k)[:per_class] for k in range(3)])
        none = sets.validation.empty()
        given = TrainingSets(sets.labeled.select(rows), sets.unlabeled, none)
        config = replace(short("supervised", 1), **{"init": Path("general"), "tuning": "probe", **changes})
        methods.train("supervised", config, given, tmp_path / name, 0)
        model = load_classifier(tmp_path / name)
        log = [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        said = [entry for entry in log if "averages" in str(entry.get("event"))]
        assert model.card.averages == (model.averages is not None) == any(entry.get("classes", 0) > 1 for entry in said)
        assert all((entry["event"] == "averages") == model.card.averages for entry in said)
        assert model.averages is None or int(model.averages.known.sum()) == said[-1]["classes"]
        return said

    (alone,) = kept("labels alone", 10, spread="never")
    assert alone["classes"] == 3
    assert alone["labeled"] == 30
    (spread,) = kept("spread", 2, spread="always")
    assert spread["classes"] == 3
    assert 6 <= spread["labeled"] <= len(sets.unlabeled)
    assert spread["temperature"] != 1
    (few,) = kept("too few labels", 9, spread="never")
    assert few["classes"] == 0
    assert not kept("never", 10, spread="never", averages="never")
    assert not kept("scratch", 10, spread="never", init=None, tuning="finetune")
    monkeypatch.setattr(supervised, "name_fewer", lambda *given: True)
    (worse,) = kept("worse", 2, spread="always")
    assert "name fewer of the labeled particles right" in worse["event"]


def test_a_rehearsal_calibrates_unless_all_labels_can(sets: TrainingSets, tmp_path: Path) -> None:
    rows = np.concatenate([np.flatnonzero(sets.labeled.label == k)[:8] for k in range(3)])
    given = TrainingSets(sets.labeled.select(rows), sets.unlabeled, sets.validation.empty())
    for spread in ("never", "always"):
        config = replace(short("supervised", 2), spread=spread)  # type: ignore[type-var]
        found = methods.train("supervised", config, given, tmp_path / spread, 0).card.temperature
        log = [json.loads(line) for line in (tmp_path / spread / "log.jsonl").read_text().splitlines()]
        rehearsed = next(entry["temperature"] for entry in log if entry.get("event") == "rehearsed")
        assert (found == rehearsed) == (spread == "never")


@pytest.mark.slow
def test_supervised_training_learns_three_shapes(sets: TrainingSets, tmp_path: Path) -> None:
    config = supervised.Config(training=Training(steps=60, batch_size=24))
    classifier = methods.train("supervised", config, sets, tmp_path / "run", 0)
    predictions = predict(classifier, sets.validation.volumes, len(sets.validation))
    assert (predictions.probabilities.argmax(1) == sets.validation.label).mean() > 0.8
