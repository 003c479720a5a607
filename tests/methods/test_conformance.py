"""Conformance of every method to the table, and what the door `methods.train` does for all of them."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
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
from tomosift.errors import FormatError, NonFiniteLossError
from tomosift.folder_lock import locked_folder
from tomosift.inference.classifier import Classifier
from tomosift.inference.model_files import load_classifier
from tomosift.inference.prediction import predict
from tomosift.methods import METHODS
from tomosift.train.loop import Training

ShortConfig = Callable[[str, int], Any]


def test_every_method_is_a_file_of_its_name_with_source_input_and_frozen_config() -> None:
    folder = Path(methods.__file__).parent
    assert set(METHODS) == {path.stem for path in folder.glob("*.py")} - {"__init__"}
    for name in METHODS:
        module = methods.load_method(name)
        assert isinstance(module, methods.Method), name
        assert "Source:" in (module.__doc__ or "")
        assert isinstance(module.INPUT, methods.TrainingInput)
        assert (module.INPUT.description == "") == (module.INPUT.kind == "none")
        config = module.Config()
        assert dataclasses.is_dataclass(config)
        assert type(config).__dataclass_params__.frozen
        json.dumps(dataclasses.asdict(config), default=os.fspath)


def test_unknown_method_is_named_with_the_alternatives() -> None:
    with pytest.raises(ValueError, match="'magic', expected one of active, contrastive"):
        methods.load_method("magic")


@dataclasses.dataclass(frozen=True)
class FirstRun:
    """Three steps of a method with seed 1."""

    name: str
    folder: Path
    trained: Classifier


@pytest.fixture(scope="module", params=METHODS)
def first_run(
    request: pytest.FixtureRequest,
    sets: TrainingSets,
    short_config: ShortConfig,
    tmp_path_factory: pytest.TempPathFactory,
) -> FirstRun:
    folder = tmp_path_factory.mktemp(request.param) / "run"
    trained = methods.train(request.param, short_config(request.param, 3), sets, folder, 1)
    return FirstRun(request.param, folder, trained)


def test_same_seed_gives_same_weights_and_another_seed_others(
    first_run: FirstRun, sets: TrainingSets, short_config: ShortConfig, tmp_path: Path
) -> None:
    one = first_run.trained
    two, other = (
        methods.train(first_run.name, short_config(first_run.name, 3), sets, tmp_path / folder, seed)
        for folder, seed in (("two", 1), ("other", 2))
    )
    equal = [torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True)]
    assert all(equal)
    differ = [torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True)]
    assert not all(differ)


def test_model_saves_and_loads_to_the_same_predictions(first_run: FirstRun, sets: TrainingSets) -> None:
    trained, loaded = first_run.trained, load_classifier(first_run.folder)
    assert loaded.card == trained.card
    some = sets.validation.select(np.arange(5))
    a, b = (predict(model, some) for model in (trained, loaded))
    np.testing.assert_array_equal(a.embeddings, b.embeddings)
    np.testing.assert_array_equal(a.probabilities, b.probabilities)


EARLIER_NAMES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "supervised": (
        {"spread": "never", "averages": "never", "unknown_below": 0.5, "unfamiliar_below": 0.1},
        {"pseudo_labels": "never", "class_averages": "never", "min_confidence": 0.5, "min_similarity": 0.1},
    ),
    "metric": (
        {"directions_complexes": 7, "boxes_each": 9},
        {"plda_complexes": 7, "particles_per_complex": 9},
    ),
    "prototypical": ({"head": "discriminant"}, {"head": "plda"}),
    "cycle_wgan": (
        {"translator_rate": 0.5, "adversary": "least-squares", "average": 0.9, "least_faithful": 0.1},
        {"generator_rate": 0.5, "adversarial_loss": "least-squares", "ema_decay": 0.9, "min_faithfulness": 0.1},
    ),
    "domain_adversarial": (
        {"most_noise": 0.1, "most_bend_voxels": 2.0, "own_scale": False},
        {"max_noise": 0.1, "max_deformation_voxels": 2.0, "standardize_per_domain": False},
    ),
}
"""Method -> settings as earlier versions stored them, and as they are called now."""


@pytest.mark.parametrize("name", METHODS)
def test_configurations_of_earlier_versions_are_read_under_their_new_names(name: str, tmp_path: Path) -> None:
    earlier, now = EARLIER_NAMES.get(name, ({}, {}))
    (tmp_path / "config.json").write_text(json.dumps({"config": earlier}))
    config = methods.read_config(name, tmp_path)
    assert config == replace(methods.load_method(name).Config(), **now)
    assert methods.read_config(name, tmp_path / "config.json") == config


def test_a_file_that_is_no_run_is_refused_as_a_configuration(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FormatError, match=r"config\.json of a run"):
        methods.read_config("contrastive", tmp_path)


def test_a_run_of_an_earlier_version_is_not_another_run(
    sets: TrainingSets, short_config: ShortConfig, tmp_path: Path
) -> None:
    config = replace(short_config("prototypical", 1), head="plda")
    before = methods.train("prototypical", config, sets, tmp_path / "run", 0)
    path = tmp_path / "run" / "config.json"
    path.write_text(path.read_text().replace('"plda"', '"discriminant"'))
    again = methods.train("prototypical", config, sets, tmp_path / "run", 0)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in before.state_dict().items())


_KILLED = """
import sys
from pathlib import Path
from tomosift import methods
from tomosift.data.training_sets import TrainingSets
from tomosift.data.subtomogram_set import open_subtomograms
from tomosift.methods.contrastive import Config
from tomosift.train.loop import Training
subtomograms = open_subtomograms(Path(sys.argv[1]))
config = Config(training=Training(steps=12, batch_size=12, checkpoint_every=4))
for run in sys.argv[2:]:
    methods.train("contrastive", config, TrainingSets(subtomograms, subtomograms, subtomograms), Path(run), 5,
                  lambda step, steps, note: print(step, flush=True))
"""


@pytest.mark.slow
def test_kill_minus_nine_at_a_random_step_then_resume_gives_the_same_weights(
    shapes: Subtomograms, tmp_path: Path
) -> None:
    def command(*folders: str) -> list[str]:
        """The program that trains into these folders, one after the other."""
        return [sys.executable, "-c", _KILLED, str(shapes.path), *(str(tmp_path / folder) for folder in folders)]

    step = int(np.random.default_rng().integers(1, 12))
    process = subprocess.Popen(command("parts"), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= step:
            os.kill(process.pid, signal.SIGKILL)
            break
    process.wait()
    process.stdout.close()
    subprocess.run(command("parts", "whole"), check=True, capture_output=True)
    whole, parts = (load_classifier(tmp_path / name).state_dict() for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole), f"killed at step {step}"


def test_run_folder_of_another_configuration_is_refused_and_left_alone(
    sets: TrainingSets, short_config: ShortConfig, tmp_path: Path
) -> None:
    methods.train("contrastive", short_config("contrastive", 1), sets, tmp_path / "run", 0)
    before = (tmp_path / "run" / "config.json").read_text()
    with pytest.raises(FormatError, match="give another --out"):
        methods.train("contrastive", short_config("contrastive", 2), sets, tmp_path / "run", 0)
    assert (tmp_path / "run" / "config.json").read_text() == before


def test_runs_that_were_moved_together_resume(sets: TrainingSets, short_config: ShortConfig, tmp_path: Path) -> None:
    def fine_tune(folder: Path) -> torch.Tensor:
        methods.train("contrastive", short_config("contrastive", 1), sets, folder / "pretrained", 0)
        config = replace(short_config("supervised", 1), init=folder / "pretrained", class_averages="never")
        return methods.train("supervised", config, sets, folder / "tuned", 0).head.linear.weight

    before = fine_tune(tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")
    assert torch.equal(fine_tune(tmp_path / "there"), before)


def test_another_start_or_a_corrected_label_is_another_run(
    sets: TrainingSets, short_config: ShortConfig, tmp_path: Path
) -> None:
    for seed in (0, 1):
        methods.train("contrastive", short_config("contrastive", 1), sets, tmp_path / f"start{seed}", seed)
    config = replace(short_config("supervised", 1), init=tmp_path / "start0", class_averages="never")
    methods.train("supervised", config, sets, tmp_path / "run", 0)
    with pytest.raises(FormatError, match="starts_from"):
        methods.train("supervised", replace(config, init=tmp_path / "start1"), sets, tmp_path / "run", 0)
    names = sets.labeled.particles.class_name.copy()
    names[:2] = names[1::-1]
    corrected = replace(sets, labeled=sets.labeled.with_labels(names))
    with pytest.raises(FormatError, match="digest"):
        methods.train("supervised", config, corrected, tmp_path / "run", 0)


def test_non_finite_loss_stops_clearly_and_keeps_the_checkpoint(
    sets: TrainingSets, short_config: ShortConfig, tmp_path: Path
) -> None:
    training = Training(steps=9, batch_size=12, checkpoint_every=1, learning_rate=1e30)
    config = replace(short_config("supervised", 9), training=training)
    with pytest.raises(NonFiniteLossError, match="lower learning rate"):
        methods.train("supervised", config, sets, tmp_path / "run", 0)
    assert not (tmp_path / "run" / "result").exists()


def test_a_finished_run_is_returned_without_training_again(
    sets: TrainingSets, short_config: ShortConfig, tmp_path: Path
) -> None:
    methods.train("contrastive", short_config("contrastive", 3), sets, tmp_path / "run", 0)
    calls: list[int] = []
    methods.train(
        "contrastive", short_config("contrastive", 3), sets, tmp_path / "run", 0, lambda *step: calls.append(1)
    )
    assert not calls


def test_a_second_training_in_one_folder_stops(tmp_path: Path) -> None:
    module = methods.load_method("contrastive")
    with locked_folder(tmp_path / "run", is_inside=False), pytest.raises(ValueError, match=r"run is in use by process"):
        methods.train("contrastive", module.Config(), None, tmp_path / "run", 0)
    assert not (tmp_path / "run").exists()
