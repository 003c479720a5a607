"""Supervised training: early stopping, hold-out, pseudo-labels, class averages and calibration."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tomosift import methods
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.data.training_sets import TrainingSets
from tomosift.inference import training_examples
from tomosift.inference.model_files import load_classifier
from tomosift.inference.prediction import predict
from tomosift.methods import supervised
from tomosift.objectives import supervised_stages
from tomosift.progress import Progress
from tomosift.train.loop import Training

ShortConfig = Callable[[str, int], Any]
GENERAL = Path("general")


def read_events(run: Path, name: str) -> list[dict[str, Any]]:
    """The entries of a log that belong to one event."""
    entries = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [entry for entry in entries if entry.get("event") == name]


def select_labels(labeled: Subtomograms, per_class: int) -> Subtomograms:
    """The first labeled particles of each class."""
    return labeled.select(np.concatenate([np.flatnonzero(labeled.label == k)[:per_class] for k in range(3)]))


def interrupt_at(number: int) -> Progress:
    """A progress that stops the training at this call."""
    calls = 0

    def progress(step: int, steps: int, note: str = "") -> None:
        nonlocal calls
        calls += 1
        if calls == number:
            raise InterruptedError

    return progress


def assert_interrupted_equals_whole(
    config: supervised.Config, data: TrainingSets, folder: Path, interruption: Progress
) -> None:
    whole = methods.train("supervised", config, data, folder / "whole", 3)
    with pytest.raises(InterruptedError):
        methods.train("supervised", config, data, folder / "parts", 3, interruption)
    resumed = methods.train("supervised", config, data, folder / "parts", 3)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert whole.card == resumed.card


def test_resumed_fine_tuning_keeps_the_best_weights_of_an_uninterrupted_one(
    sets: TrainingSets, short_config: ShortConfig, tmp_path: Path
) -> None:
    config = replace(short_config("supervised", 8), evaluate_every=2, patience=2)

    def stop_at_step_five(step: int, steps: int, note: str = "") -> None:
        if step == 5:
            raise InterruptedError

    assert_interrupted_equals_whole(config, sets, tmp_path, stop_at_step_five)


@pytest.mark.parametrize("call", [2, 9])
def test_a_hold_out_selects_the_steps_of_a_training_on_all_labels_and_both_resume(
    call: int, shapes: Subtomograms, short_config: ShortConfig, tmp_path: Path
) -> None:
    data = TrainingSets(shapes, shapes, shapes.empty())
    config = replace(short_config("supervised", 8), evaluate_every=2, patience=9)
    assert_interrupted_equals_whole(config, data, tmp_path, interrupt_at(call))
    (selected,) = read_events(tmp_path / "whole", "steps_selected")
    assert 2 <= selected["steps"] <= 8
    assert selected["temperature"] == load_classifier(tmp_path / "whole").card.temperature
    log = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert max(entry.get("step", 0) for entry in log) == selected["steps"]


def test_fewer_than_two_labeled_classes_are_refused(
    shapes: Subtomograms, short_config: ShortConfig, tmp_path: Path
) -> None:
    balls = shapes.select(shapes.label == 0)
    with pytest.raises(ValueError, match="labels name 1 classes, expected at least 2"):
        methods.train("supervised", short_config("supervised", 1), TrainingSets(balls, balls, balls), tmp_path, 0)


def test_encoder_of_another_voxel_spacing_is_refused(
    sets: TrainingSets, short_config: ShortConfig, tmp_path: Path
) -> None:
    methods.train("contrastive", short_config("contrastive", 1), sets, tmp_path / "pre", 0)
    parts = (sets.labeled, sets.unlabeled, sets.validation)
    finer = TrainingSets(*(replace(part, voxel_spacing_angstrom=7.0) for part in parts))
    config = replace(short_config("supervised", 1), init=tmp_path / "pre")
    with pytest.raises(ValueError, match="extract with --voxel-spacing 10"):
        methods.train("supervised", config, finer, tmp_path / "run", 0)


def test_unlabeled_particles_get_pseudo_labels_unless_labels_suffice(
    sets: TrainingSets, short_config: ShortConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def has_pseudo_labels(name: str, per_class: int, is_mixed: bool = True, **changes: object) -> bool:
        few = select_labels(sets.labeled, per_class)
        if is_mixed:  # every class holds one or two of each shape, so that no label is predicted from the others
            few = few.with_labels(np.tile(sets.labeled.class_names, per_class).astype(object), few.class_names)
        data = TrainingSets(few, sets.unlabeled, sets.validation.empty())
        config = replace(short_config("supervised", 1), tuning="probe", class_averages="never", **changes)
        methods.train("supervised", config, data, tmp_path / name, 0)
        events = read_events(tmp_path / name, "pseudo_labels")
        assert all(3 <= event["assigned"] <= event["particles"] == len(sets.unlabeled) for event in events)
        return bool(events)

    assert has_pseudo_labels("one", 1, is_mixed=False, init=GENERAL)
    assert has_pseudo_labels("five", 5, init=GENERAL)
    assert not has_pseudo_labels("distinct", 8, is_mixed=False, init=GENERAL)
    assert not has_pseudo_labels("scratch", 5)
    assert not has_pseudo_labels("never", 5, init=GENERAL, pseudo_labels="never")
    assert has_pseudo_labels("always", 8, is_mixed=False, pseudo_labels="always")
    monkeypatch.setattr(supervised_stages, "_LABELS_WITHOUT_PSEUDO", 5)
    assert not has_pseudo_labels("enough", 5, init=GENERAL)


def test_pseudo_labels_of_another_set_are_refused(
    sets: TrainingSets, short_config: ShortConfig, tmp_path: Path
) -> None:
    elsewhere = replace(sets.unlabeled, path=sets.unlabeled.path / "other")
    data = TrainingSets(sets.labeled, elsewhere, sets.validation)
    config = replace(short_config("supervised", 1), pseudo_labels="always")
    with pytest.raises(ValueError, match="some labeled particles are not among the unlabeled ones"):
        methods.train("supervised", config, data, tmp_path, 0)


@pytest.mark.usefixtures("few_rotations")
def test_class_averages_are_kept_from_a_pretrained_encoder_on_unless_they_lower_the_accuracy(
    sets: TrainingSets, short_config: ShortConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_averages(name: str, per_class: int, **changes: object) -> list[dict[str, Any]]:
        """What the log has of class averages, of a run with so many labels per class."""
        data = TrainingSets(select_labels(sets.labeled, per_class), sets.unlabeled, sets.validation.empty())
        config = replace(short_config("supervised", 1), **{"init": GENERAL, "tuning": "probe", **changes})
        methods.train("supervised", config, data, tmp_path / name, 0)
        model = load_classifier(tmp_path / name)
        events = read_events(tmp_path / name, "class_averages")
        is_attached = any(event["attached"] for event in events)
        assert model.card.class_averages == (model.class_averages is not None) == is_attached
        if model.class_averages is not None:
            assert int(model.class_averages.has_average.sum()) == events[-1]["classes"] > 1
        return events

    (labels_alone,) = read_averages("labels-alone", 10, pseudo_labels="never")
    assert (labels_alone["classes"], labels_alone["labeled"]) == (3, 30)
    (with_pseudo_labels,) = read_averages("with-pseudo-labels", 2, pseudo_labels="always")
    assert with_pseudo_labels["classes"] == 3
    assert 6 <= with_pseudo_labels["labeled"] <= len(sets.unlabeled)
    assert with_pseudo_labels["temperature"] != 1
    (few,) = read_averages("few", 9, pseudo_labels="never")
    assert few["classes"] == 0
    assert not read_averages("never", 10, pseudo_labels="never", class_averages="never")
    assert not read_averages("scratch", 10, pseudo_labels="never", init=None, tuning="finetune")
    monkeypatch.setattr(training_examples, "lowers_accuracy", lambda *arguments: True)
    (worse,) = read_averages("worse", 2, pseudo_labels="always")
    assert "classify fewer labeled particles right" in worse["reason"]


def test_a_hold_out_calibrates_unless_all_labels_can(
    sets: TrainingSets, short_config: ShortConfig, tmp_path: Path
) -> None:
    data = TrainingSets(select_labels(sets.labeled, 8), sets.unlabeled, sets.validation.empty())
    for mode in ("never", "always"):
        config = replace(short_config("supervised", 2), pseudo_labels=mode)
        temperature = methods.train("supervised", config, data, tmp_path / mode, 0).card.temperature
        (selected,) = read_events(tmp_path / mode, "steps_selected")
        assert (temperature == selected["temperature"]) == (mode == "never")


@pytest.mark.slow
def test_supervised_training_learns_three_shapes(sets: TrainingSets, tmp_path: Path) -> None:
    config = supervised.Config(training=Training(steps=60, batch_size=24))
    classifier = methods.train("supervised", config, sets, tmp_path / "run", 0)
    assert (predict(classifier, sets.validation).probabilities.argmax(1) == sets.validation.label).mean() > 0.8
