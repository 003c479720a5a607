"""Stored configurations are restored exactly, or refused with the name of the field."""

import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from tomosift.errors import FormatError
from tomosift.methods import METHODS, load_method
from tomosift.methods.supervised import Config as Supervised
from tomosift.train.config import config_from_json, rename_fields
from tomosift.train.loop import Training

PATH = Path("run/config.json")


def as_json(config: Any) -> Any:
    return json.loads(json.dumps(asdict(config), default=os.fspath))


@pytest.mark.parametrize("name", METHODS)
def test_defaults_of_every_method_survive(name: str) -> None:
    config = load_method(name).Config()
    assert config_from_json(type(config), as_json(config), PATH) == config


def test_paths_tuples_and_nested_settings_survive() -> None:
    config = Supervised(init=Path("runs/pretrained"), training=Training(steps=7, precision="bf16-mixed"))
    config = replace(config, views=replace(config.views, scale=(0.5, 2.0)))
    back = config_from_json(Supervised, as_json(config), PATH)
    assert back == config
    assert isinstance(back.init, Path)
    assert isinstance(back.views.scale, tuple)


def test_missing_settings_take_their_defaults() -> None:
    assert config_from_json(Training, {"steps": 5}, PATH) == Training(steps=5)


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"epochs": 3}, "epochs"),
        ({"training": {"steps": 3, "epochs": 3}}, "training.epochs"),
        ({"training": {"steps": "many"}}, "training.steps"),
        ({"tuning": "hard"}, "tuning"),
        ({"views": {"scale": [1.0]}}, "views.scale"),
        ({"patience": None}, "patience"),
    ],
)
def test_unknown_names_and_wrong_values_are_refused_with_the_field(changed: dict[str, Any], field: str) -> None:
    with pytest.raises(FormatError) as refusal:
        config_from_json(Supervised, changed, PATH)
    assert refusal.value.path == PATH
    assert refusal.value.field.startswith(field)


def test_fields_of_an_earlier_version_are_read_under_their_new_names() -> None:
    stored = {"fine_tuning": "probe", "training": {"epochs": 7}}
    names = {"fine_tuning": "tuning", "training.epochs": "training.steps"}
    config = config_from_json(Supervised, stored, PATH, names)
    assert (config.tuning, config.training.steps) == ("probe", 7)
    assert stored == {"fine_tuning": "probe", "training": {"epochs": 7}}
    assert config_from_json(Supervised, as_json(config), PATH, names) == config


def test_a_field_under_both_its_names_is_refused() -> None:
    with pytest.raises(FormatError, match="epochs"):
        config_from_json(Training, {"epochs": 7, "steps": 8}, PATH, {"epochs": "steps"})


def test_renamed_fields_move_between_levels_and_leave_other_values_alone() -> None:
    value = {"rate": 0.1, "training": 3}
    assert rename_fields(value, {"rate": "optimizer.rate"}) == {"optimizer": {"rate": 0.1}, "training": 3}
    assert rename_fields(value, {"training.epochs": "steps", "more": "less"}) == value
    assert rename_fields([1], {"rate": "speed"}) == [1]


@pytest.mark.parametrize("value", [[], "text", 3, None])
def test_values_that_are_no_objects_are_refused(value: Any) -> None:
    with pytest.raises(FormatError):
        config_from_json(Supervised, value, PATH)


@pytest.mark.parametrize("name", ["steps", "batch_size", "checkpoint_every", "devices"])
def test_training_refuses_numbers_that_are_not_positive(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is 0, expected"):
        Training(**{name: 0}).check()


def test_training_refuses_rates_that_are_not_positive() -> None:
    for rate in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match=r"learning_rate is .*, expected more than 0"):
            Training(learning_rate=rate).check()


def test_values_of_an_earlier_version_are_read_under_their_new_names() -> None:
    values = {"head": {"discriminant": "plda"}, "training.precision": {"full": "32-true"}}
    stored = {"head": "discriminant", "training": {"precision": "bf16-mixed"}}
    assert rename_fields(stored, {}, values) == {"head": "plda", "training": {"precision": "bf16-mixed"}}
    assert rename_fields({"kind": "discriminant", "training": 3}, {"kind": "head"}, values) == {
        "head": "plda",
        "training": 3,
    }
    assert config_from_json(Training, {"precision": "full"}, PATH, {}, {"precision": {"full": "32-true"}}) == Training()
