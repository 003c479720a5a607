"""Conformance of every method: what the table promises, each keeps."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tomosift import methods
from tomosift.data.subtomograms import Subtomograms, SubtomogramWriter, open_subtomograms
from tomosift.data.training_sets import TrainingSets
from tomosift.errors import FormatError, NonFiniteLossError
from tomosift.inference.classifier import Classifier, load_classifier, save_classifier
from tomosift.inference.prediction import predict
from tomosift.learning.query_strategies import QueryRounds
from tomosift.methods import METHODS, contrastive, supervised
from tomosift.models.generators import GeneratorConfig
from tomosift.particles import Particles
from tomosift.physics.augmentation import ViewRanges
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
    writer = SubtomogramWriter(folder, box_size=16, voxel_spacing_angstrom=10.0, masks=True)
    writer.append(boxes, particles, np.tile(np.float32([-90, 90]), (120, 1)), masks=boxes > 2)
    writer.close()
    return open_subtomograms(folder)


@pytest.fixture(scope="module")
def sets(shapes: Subtomograms) -> TrainingSets:
    last = shapes.particles.tomogram == "tomogram_3"
    return TrainingSets(shapes.select(~last), shapes.select(~last), shapes.select(last))


def short(name: str, steps: int) -> object:
    config = methods.method(name).Config()
    if name == "prototypical":  # there are three shapes, not five
        config = replace(config, ways=3, shots=2, queries=3)
    if name == "metric":
        config = replace(config, box_size=16, complexes=32, boxes_each=4, classes_per_batch=8, plda_complexes=2)
    if name == "domain_adversarial":
        config = replace(config, init=None, warp_width=2, source_steps=2, discriminator_steps=2)
    if name == "active":
        config = replace(config, init=None, labels=30, rounds=QueryRounds(first_labels=20, labels_per_round=10))
    if name == "cycle_wgan":
        shape = GeneratorConfig(width=2, blocks=1)
        config = replace(config, init=None, structures=("groel", "apoferritin"), shape=shape, critic_width=2)
        config = replace(config, least_faithful=-1.0, pool_size=4)
    return replace(config, training=replace(config.training, steps=steps, batch_size=12, checkpoint_every=3))


def test_every_method_is_a_file_of_its_name_with_source_and_frozen_config() -> None:
    folder = Path(methods.__file__).parent
    assert set(METHODS) == {path.stem for path in folder.glob("*.py")} - {"__init__"}
    for name in METHODS:
        module = methods.method(name)
        assert "Source:" in (module.__doc__ or "")
        config = module.Config()
        assert dataclasses.is_dataclass(config)
        assert type(config).__dataclass_params__.frozen
        json.dumps(dataclasses.asdict(config), default=os.fspath)


def test_unknown_method_is_named_with_the_alternatives() -> None:
    with pytest.raises(ValueError, match="'magic', expected one of active, contrastive"):
        methods.method("magic")


@pytest.mark.parametrize("name", METHODS)
def test_same_seed_gives_same_weights_and_another_seed_others(name: str, sets: TrainingSets, tmp_path: Path) -> None:
    one, two, other = (
        methods.train(name, short(name, 3), sets, tmp_path / folder, seed)
        for folder, seed in (("one", 1), ("two", 1), ("other", 2))
    )
    equal = [torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True)]
    assert all(equal)
    differ = [torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True)]
    assert not all(differ)


@pytest.mark.parametrize("name", METHODS)
def test_model_saves_and_loads_to_the_same_predictions(name: str, sets: TrainingSets, tmp_path: Path) -> None:
    trained = methods.train(name, short(name, 2), sets, tmp_path / "run", 0)
    loaded = load_classifier(tmp_path / "run")
    assert loaded.card == trained.card
    a, b = (predict(model, sets.validation.volumes, 5) for model in (trained, loaded))
    np.testing.assert_array_equal(a.embeddings, b.embeddings)
    np.testing.assert_array_equal(a.probabilities, b.probabilities)


def interrupted(losses_until: int) -> object:
    class Stop(Exception):
        pass

    def progress(step: int, steps: int, losses: dict[str, float]) -> None:
        if step == losses_until:
            raise Stop

    return progress, Stop


@pytest.mark.parametrize("framework", ["simclr", "moco"])
@pytest.mark.parametrize("at", [2, 4])
def test_resumed_pretraining_ends_in_the_weights_of_an_uninterrupted_one(
    framework: str, at: int, sets: TrainingSets, tmp_path: Path
) -> None:
    config = replace(short("contrastive", 6), framework=framework, queue_size=48)
    whole = methods.train("contrastive", config, sets, tmp_path / "whole", 3)
    progress, stop = interrupted(at)
    with pytest.raises(stop):
        methods.train("contrastive", config, sets, tmp_path / "parts", 3, progress)
    resumed = methods.train("contrastive", config, sets, tmp_path / "parts", 3)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


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
    none = shapes.select(np.zeros(0, dtype=np.int64))
    given = TrainingSets(shapes, shapes, none)
    config = replace(short("supervised", 8), evaluate_every=2, patience=9)
    whole = methods.train("supervised", config, given, tmp_path / "whole", 3)
    entries = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    rehearsed = next(entry for entry in entries if entry.get("event") == "rehearsed")
    assert 2 <= rehearsed["steps"] <= 8
    assert rehearsed["temperature"] == whole.card.temperature
    assert max(entry.get("step", 0) for entry in entries) == rehearsed["steps"]
    calls = 0

    def progress(step: int, steps: int, losses: dict[str, float]) -> None:
        nonlocal calls
        calls += 1
        if calls == at:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        methods.train("supervised", config, given, tmp_path / "parts", 3, progress)
    resumed = methods.train("supervised", config, given, tmp_path / "parts", 3)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


_KILLED = """
import sys
from pathlib import Path
from tomosift import methods
from tomosift.data.training_sets import TrainingSets
from tomosift.data.subtomograms import open_subtomograms
from tomosift.methods.contrastive import Config
from tomosift.train.loop import Training
boxes = open_subtomograms(Path(sys.argv[1]))
config = Config(training=Training(steps=12, batch_size=12, checkpoint_every=4))
methods.train("contrastive", config, TrainingSets(boxes, boxes, boxes), Path(sys.argv[2]), 5,
              lambda step, steps, losses: print(step, flush=True))
"""


@pytest.mark.slow
def test_kill_minus_nine_at_a_random_step_then_resume_gives_the_same_weights(
    shapes: Subtomograms, tmp_path: Path
) -> None:
    def command(folder: str) -> list[str]:
        return [sys.executable, "-c", _KILLED, str(shapes.path), str(tmp_path / folder)]

    subprocess.run(command("whole"), check=True, capture_output=True)
    step = int(np.random.default_rng().integers(1, 12))
    process = subprocess.Popen(command("parts"), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= step:
            os.kill(process.pid, signal.SIGKILL)
            break
    process.wait()
    process.stdout.close()
    subprocess.run(command("parts"), check=True, capture_output=True)
    whole, parts = (load_classifier(tmp_path / name).state_dict() for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole), f"killed at step {step}"


def test_run_folder_of_another_configuration_is_refused_and_left_alone(sets: TrainingSets, tmp_path: Path) -> None:
    methods.train("contrastive", short("contrastive", 1), sets, tmp_path / "run", 0)
    before = (tmp_path / "run" / "config.json").read_text()
    with pytest.raises(FormatError, match="give another --out"):
        methods.train("contrastive", short("contrastive", 2), sets, tmp_path / "run", 0)
    assert (tmp_path / "run" / "config.json").read_text() == before


def test_runs_that_were_moved_together_go_on(sets: TrainingSets, tmp_path: Path) -> None:
    def tuned(folder: Path) -> torch.Tensor:
        methods.train("contrastive", short("contrastive", 1), sets, folder / "pretrained", 0)
        config = replace(short("supervised", 1), init=folder / "pretrained", averages="never")
        return methods.train("supervised", config, sets, folder / "tuned", 0).head.linear.weight

    before = tuned(tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")
    assert torch.equal(tuned(tmp_path / "there"), before)


def test_another_start_or_a_corrected_label_is_another_run(sets: TrainingSets, tmp_path: Path) -> None:
    for seed in (0, 1):
        methods.train("contrastive", short("contrastive", 1), sets, tmp_path / f"start{seed}", seed)
    config = replace(short("supervised", 1), init=tmp_path / "start0", averages="never")
    methods.train("supervised", config, sets, tmp_path / "run", 0)
    with pytest.raises(FormatError, match="starts_from"):
        methods.train("supervised", replace(config, init=tmp_path / "start1"), sets, tmp_path / "run", 0)
    names = sets.labeled.particles.class_name.copy()
    names[:2] = names[1::-1]
    corrected = replace(sets, labeled=sets.labeled.with_labels(names))
    with pytest.raises(FormatError, match="digest"):
        methods.train("supervised", config, corrected, tmp_path / "run", 0)


def test_non_finite_loss_stops_clearly_and_keeps_the_checkpoint(sets: TrainingSets, tmp_path: Path) -> None:
    config = replace(
        short("supervised", 9), training=Training(steps=9, batch_size=12, checkpoint_every=1, learning_rate=1e30)
    )
    with pytest.raises(NonFiniteLossError, match="lower learning rate"):
        methods.train("supervised", config, sets, tmp_path / "run", 0)
    assert not (tmp_path / "run" / "result").exists()


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


def test_pretraining_starts_from_the_shipped_model_from_a_run_or_from_nothing(
    sets: TrainingSets, tmp_path: Path
) -> None:
    def start(**changes: object) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        config = contrastive.Config(**changes)  # type: ignore[arg-type]
        return contrastive.Learner(config, 10.0, contrastive.starting_model(config)).encoder.state_dict()

    general = load_classifier(Path("general")).encoder.state_dict()
    weights = [name for name in general if name != "spread"]
    assert all(torch.equal(start()[name], general[name]) for name in weights)
    assert not all(torch.equal(start(init=None)[name], general[name]) for name in weights)
    methods.train("contrastive", replace(short("contrastive", 1), init=None), sets, tmp_path / "run", 0)
    methods.train("contrastive", short("contrastive", 1), sets, tmp_path / "kept", 0)
    own = load_classifier(tmp_path / "run").encoder.state_dict()
    assert all(torch.equal(start(init=tmp_path / "run")[name], own[name]) for name in weights)
    kept = load_classifier(tmp_path / "kept")
    shipped = load_classifier(Path("general"))
    assert (kept.card.head, kept.card.decoder) == ("discriminant", "unet")
    assert torch.equal(kept.head.transform, shipped.head.transform)
    assert all(torch.equal(value, kept.decoder.state_dict()[k]) for k, value in shipped.decoder.state_dict().items())
    general_with_classes = replace(shipped.card, class_names=("a", "b"), head="linear")
    named = Classifier(shipped.encoder, general_with_classes)
    named.decoder = shipped.decoder
    save_classifier(tmp_path / "named" / "result", named)
    config = replace(short("contrastive", 1), init=tmp_path / "named")
    later = methods.train("contrastive", config, sets, tmp_path / "later", 0).card
    assert (later.head, later.decoder, later.class_names) == ("linear", "unet", ())
    own = load_classifier(tmp_path / "run")
    assert (own.card.head, own.head, own.decoder) == ("linear", None, None)
    start(encoder="rb3d")  # which the shipped model is not; random weights, then
    with pytest.raises(ValueError, match="is radial, asked for is rb3d"):
        start(encoder="rb3d", init=tmp_path / "run")


def test_few_labels_are_spread_from_pretrained_encoders_unless_they_are_enough(
    sets: TrainingSets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spread(name: str, per_class: int, mixed: bool = True, **changes: object) -> bool:
        rows = np.concatenate([np.flatnonzero(sets.labeled.label == k)[:per_class] for k in range(3)])
        few = sets.labeled.select(rows)
        if mixed:  # every class holds two or one of each shape, so that no particle is named by the others
            few = few.with_labels(np.tile(SHAPES, per_class).astype(object), few.class_names)
        given = TrainingSets(few, sets.unlabeled, sets.validation.select(np.zeros(0, dtype=np.int64)))
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
        none = sets.validation.select(np.zeros(0, dtype=np.int64))
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
    given = TrainingSets(sets.labeled.select(rows), sets.unlabeled, sets.validation.select(np.zeros(0, dtype=np.int64)))
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


@pytest.mark.slow
@pytest.mark.parametrize("framework", ["simclr", "moco"])
def test_pretraining_brings_the_loss_below_chance(framework: str, sets: TrainingSets, tmp_path: Path) -> None:
    config = contrastive.Config(
        framework=framework,
        queue_size=48,
        views=ViewRanges(rotation_max_deg=30.0),
        training=Training(steps=40, batch_size=24),
    )
    losses: list[float] = []
    methods.train(
        "contrastive", config, sets, tmp_path / "run", 0, lambda step, steps, found: losses.append(found["loss"])
    )
    assert np.mean(losses[-5:]) < np.log(47) - 0.3


def test_a_finished_run_is_returned_without_training_again(sets: TrainingSets, tmp_path: Path) -> None:
    methods.train("contrastive", short("contrastive", 3), sets, tmp_path / "run", 0)
    started = time.monotonic()
    called: list[int] = []
    methods.train("contrastive", short("contrastive", 3), sets, tmp_path / "run", 0, lambda *step: called.append(1))
    assert not called
    assert time.monotonic() - started < 20
