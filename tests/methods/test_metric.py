"""Metric training: features are cached, every loss is learned, and the model can replace `general`."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tomosift import methods
from tomosift.data.batches import FeatureBatch
from tomosift.inference.model_files import load_classifier, load_start
from tomosift.methods.metric import CACHE_FOLDER, Config
from tomosift.models.descriptors.radial import RADIAL_DESCRIPTOR_SIZE
from tomosift.models.embedder import Embedder
from tomosift.models.encoders import build_encoder
from tomosift.models.recentering import MAX_SHIFT
from tomosift.objectives.metric import MetricObjective, MetricSettings
from tomosift.physics.imaging import ImagingRanges
from tomosift.simulation.feature_cache import FeatureCache, compute_features
from tomosift.simulation.synthetic_stream import SyntheticComplexStream
from tomosift.train import loop
from tomosift.train.loop import Training
from tomosift.train.schedule import step_generator

SMALL = Config(
    complexes=64,
    particles_per_complex=4,
    box_size=16,
    classes_per_batch=12,
    plda_complexes=4,
    training=Training(steps=3, checkpoint_every=2),
)
EASY = ImagingRanges(snr=(5.0, 5.0), shift_voxels=(0.0, 0.0))


def log_entries(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a few steps."""
    folder = tmp_path_factory.mktemp("metric") / "run"
    methods.train("metric", SMALL, None, folder, 1)
    return folder


def test_model_can_replace_the_shipped_one(run_folder: Path) -> None:
    card = load_classifier(run_folder).card
    assert (card.encoder, card.head, card.class_names) == ("radial", "plda", ())
    start = load_start(run_folder, 10.0)
    assert start.encoder.embedding_size == 256
    assert float(start.recentering.picking_error) == MAX_SHIFT
    assert np.load(run_folder / CACHE_FOLDER / "00000.npy").shape == (64, 4, 1, RADIAL_DESCRIPTOR_SIZE)


def test_cached_features_are_not_simulated_again(run_folder: Path, tmp_path: Path) -> None:
    stream = SyntheticComplexStream(64, 4, 1, 16, 10.0, SMALL.imaging)
    cache = FeatureCache(tmp_path / CACHE_FOLDER, stream, 64, 12, 4, 1)
    calls: list[tuple[int, int]] = []
    cache.simulate(build_encoder("radial"), lambda done, blocks, note: calls.append((done, blocks)))
    cache.simulate(build_encoder("radial"), lambda done, blocks, note: calls.append((done, blocks)))
    assert calls == [(1, 1)]
    first, again = cache.batch(3), cache.batch(3)
    assert torch.equal(first.x, again.x)
    assert first.x.shape == (48, RADIAL_DESCRIPTOR_SIZE)
    assert torch.unique(first.label, return_counts=True)[1].tolist() == [4] * 12


@pytest.mark.parametrize("loss", ["supervised-contrastive", "cosine", "triplet", "prototypical"])
def test_every_loss_pulls_particles_of_one_complex_together(
    loss: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_STEPS_PER_LOG_LINE", 1)
    config = replace(SMALL, loss=loss, imaging=EASY, training=Training(80, learning_rate=2e-3, checkpoint_every=80))
    methods.train("metric", config, None, tmp_path / "run", 2)
    accuracy = [entry["accuracy"] for entry in log_entries(tmp_path / "run") if "loss" in entry]
    assert np.mean(accuracy[-20:]) > np.mean(accuracy[:5]) + 0.05


def test_halves_with_independent_noise_attract_each_other(tmp_path: Path) -> None:
    config = replace(SMALL, independent_noise=0.5)
    methods.train("metric", config, None, tmp_path / "run", 1)
    assert np.load(tmp_path / "run" / CACHE_FOLDER / "00000.npy").shape[2] == 3
    last = [entry for entry in log_entries(tmp_path / "run") if "loss" in entry][-1]
    assert last["loss"] > 0.5 * last["halves"] > 0


def test_encoders_without_fixed_features_train_on_fresh_subtomograms_and_cache_nothing(tmp_path: Path) -> None:
    config = replace(SMALL, encoder="residual", per_class=2, classes_per_batch=4)
    model = methods.train("metric", config, None, tmp_path / "run", 1)
    assert model.card.encoder == "residual"
    assert not (tmp_path / "run" / CACHE_FOLDER).exists()


def test_encoders_with_fixed_features_may_train_on_fresh_subtomograms_as_well(tmp_path: Path) -> None:
    config = replace(SMALL, fresh=True, per_class=2, classes_per_batch=4)
    assert methods.train("metric", config, None, tmp_path / "run", 1).card.encoder == "radial"
    assert not (tmp_path / "run" / CACHE_FOLDER).exists()


def test_standardization_of_features_is_absorbed_by_the_weights() -> None:
    torch.manual_seed(0)
    encoder = build_encoder("radial").eval()
    x = 3 * torch.randn(5, RADIAL_DESCRIPTOR_SIZE) + 2
    mean, deviation = torch.full((RADIAL_DESCRIPTOR_SIZE,), 2.0), torch.full((RADIAL_DESCRIPTOR_SIZE,), 3.0)
    expected = encoder.embed((x - mean) / deviation)
    encoder.absorb_standardization(mean, deviation)
    torch.testing.assert_close(encoder.embed(x), expected, atol=1e-4, rtol=1e-3)


def test_cached_features_are_those_of_subtomograms_recentered_at_the_most_probable_center() -> None:
    volume = SyntheticComplexStream(3, 4, 1, 16).batch(0).volume
    encoder = build_encoder("radial").eval()
    x = compute_features(encoder, volume, volume[:, None])[:, 0]
    expected = encoder(Embedder.fit(encoder, volume).recenter(volume))
    torch.testing.assert_close(encoder.embed(x.clone()), expected, atol=1e-4, rtol=1e-3)


def test_dropout_is_for_training_alone() -> None:
    torch.manual_seed(0)
    encoder = build_encoder("radial")
    scale = (torch.zeros(RADIAL_DESCRIPTOR_SIZE), torch.ones(RADIAL_DESCRIPTOR_SIZE))
    objective = MetricObjective(encoder, MetricSettings(dropout=0.5, input_noise=0.0), 64, scale)
    batch = FeatureBatch(torch.randn(8, RADIAL_DESCRIPTOR_SIZE), torch.arange(4).repeat_interleave(2))
    one, two = (float(objective(batch, step_generator(0, 0))["loss"].detach()) for _ in range(2))
    assert one != two
    objective.eval()
    one, two = (float(objective(batch, step_generator(0, 0))["loss"].detach()) for _ in range(2))
    assert one == two


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"complexes": 1}, "complexes, particles per complex .* are 1, 4 and 4, expected at least 2"),
        ({"particles_per_complex": 3}, "64, 3 and 4"),
        ({"per_class": 1}, "64, 4 and 1"),
        ({"loss": "cosine", "encoder": "residual"}, "the cosine loss needs complexes that recur"),
    ],
)
def test_impossible_settings_are_refused(change: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        methods.train("metric", replace(SMALL, **change), None, tmp_path / "run", 0)  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()
