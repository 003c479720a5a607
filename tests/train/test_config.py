"""Stored configurations come back as what they were, or are refused by name."""

import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from tomosift.errors import FormatError
from tomosift.methods import METHODS, method
from tomosift.methods.supervised import Config as Supervised
from tomosift.train.config import config_from_json
from tomosift.train.loop import Training

PATH = Path("run/config.json")


def as_json(config: Any) -> Any:
    return json.loads(json.dumps(asdict(config), default=os.fspath))


@pytest.mark.parametrize("name", METHODS)
def test_defaults_of_every_method_survive(name: str) -> None:
    config = method(name).Config()
    assert config_from_json(type(config), as_json(config), PATH) == config


def test_paths_tuples_and_nested_settings_survive() -> None:
    config = Supervised(init=Path("runs/pretrained"), training=Training(steps=7, precision="bf16-mixed"))
    config = replace(config, views=replace(config.views, scale=(0.5, 2.0)))
    back = config_from_json(Supervised, as_json(config), PATH)
    assert back == config
    assert isinstance(back.init, Path)
    assert isinstance(back.views.scale, tuple)


def test_lacking_settings_take_their_defaults() -> None:
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
def test_names_and_values_that_do_not_fit_are_named(changed: dict[str, Any], field: str) -> None:
    with pytest.raises(FormatError) as refusal:
        config_from_json(Supervised, changed, PATH)
    assert refusal.value.path == PATH
    assert refusal.value.field.startswith(field)


@pytest.mark.parametrize("value", [[], "text", 3, None])
def test_values_that_are_no_settings_are_refused(value: Any) -> None:
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
