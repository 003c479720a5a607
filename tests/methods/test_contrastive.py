"""Contrastive pretraining: where it starts from, what it keeps of that, resuming and learning."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tomosift import methods
from tomosift.data.training_sets import TrainingSets
from tomosift.inference.classifier import Classifier
from tomosift.inference.model_files import GENERAL, load_classifier, save_classifier
from tomosift.methods import contrastive
from tomosift.physics.augmentation import ViewRanges
from tomosift.train.loop import Training

ShortConfig = Callable[[str, int], Any]


@pytest.mark.parametrize("framework", ["simclr", "moco"])
@pytest.mark.parametrize("at", [2, 4])
def test_resumed_pretraining_ends_in_the_weights_of_an_uninterrupted_one(
    framework: str, at: int, sets: TrainingSets, short_config: ShortConfig, tmp_path: Path
) -> None:
    def interrupt(step: int, steps: int, note: str = "") -> None:
        if step == at:
            raise InterruptedError

    config = replace(short_config("contrastive", 6), framework=framework, queue_size=48)
    whole = methods.train("contrastive", config, sets, tmp_path / "whole", 3)
    with pytest.raises(InterruptedError):
        methods.train("contrastive", config, sets, tmp_path / "parts", 3, interrupt)
    resumed = methods.train("contrastive", config, sets, tmp_path / "parts", 3)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def start_weights(**changes: Any) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return contrastive.start_encoder(contrastive.Config(**changes))[1].state_dict()


def are_equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


def test_pretraining_starts_from_the_shipped_model_from_a_run_or_from_nothing(
    sets: TrainingSets, short_config: ShortConfig, tmp_path: Path
) -> None:
    general = load_classifier(GENERAL).encoder.state_dict()
    assert are_equal(start_weights(), general)
    assert not are_equal(start_weights(init=None), general)
    methods.train("contrastive", replace(short_config("contrastive", 1), init=None), sets, tmp_path / "run", 0)
    assert are_equal(start_weights(init=tmp_path / "run"), load_classifier(tmp_path / "run").encoder.state_dict())
    start_weights(encoder="rb3d")  # not the encoder of the shipped model; random weights, then
    with pytest.raises(ValueError, match="is radial, expected rb3d"):
        start_weights(encoder="rb3d", init=tmp_path / "run")


def test_plda_and_decoder_of_the_model_to_start_from_are_kept_as_far_as_they_apply(
    sets: TrainingSets, short_config: ShortConfig, tmp_path: Path
) -> None:
    config = short_config("contrastive", 1)
    shipped = load_classifier(GENERAL)
    methods.train("contrastive", config, sets, tmp_path / "kept", 0)
    kept = load_classifier(tmp_path / "kept")
    assert (kept.card.head, kept.card.decoder) == ("plda", "unet")
    assert torch.equal(kept.head.transform, shipped.head.transform)
    assert are_equal(shipped.decoder.state_dict(), kept.decoder.state_dict())
    card = replace(shipped.card, class_names=("a", "b"), head="linear")
    with_classes = Classifier(shipped.embedder, card, decoder=shipped.decoder)
    save_classifier(tmp_path / "with-classes" / "result", with_classes)
    later = methods.train("contrastive", replace(config, init=tmp_path / "with-classes"), sets, tmp_path / "later", 0)
    assert (later.card.head, later.card.decoder, later.card.class_names) == ("linear", "unet", ())
    methods.train("contrastive", replace(config, init=None), sets, tmp_path / "run", 0)
    own = load_classifier(tmp_path / "run")
    assert (own.card.head, own.head, own.decoder) == ("linear", None, None)


def test_independent_noise_of_halves_needs_half_subtomograms(
    sets: TrainingSets, short_config: ShortConfig, tmp_path: Path
) -> None:
    config = replace(short_config("contrastive", 1), independent_noise="halves")
    with pytest.raises(ValueError, match="half"):
        methods.train("contrastive", config, sets, tmp_path / "run", 0)
    assert not (tmp_path / "run").exists()


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
        "contrastive",
        config,
        sets,
        tmp_path / "run",
        0,
        lambda step, steps, note: losses.append(float(note.split()[1])),
    )
    assert np.mean(losses[-5:]) < np.log(47) - 0.3
