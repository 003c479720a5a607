"""Metric training: lessons are kept and gone on with, every loss teaches, and the model stands where `general` does."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tomosift import methods
from tomosift.data.batches import FeatureBatch
from tomosift.inference.classifier import load_classifier, load_start
from tomosift.methods.metric import Config, Learner
from tomosift.models.encoders import build_encoder
from tomosift.models.radial_descriptors import RADIAL_DESCRIPTOR_SIZE
from tomosift.models.recentering import REACH
from tomosift.physics.imaging import ImagingRanges
from tomosift.simulate.feature_cache import FeatureCache, cached_features
from tomosift.simulate.synthetic_stream import SyntheticComplexStream
from tomosift.train.loop import Training, step_generator

SMALL = Config(
    complexes=64,
    boxes_each=4,
    box_size=16,
    classes_per_batch=12,
    plda_complexes=4,
    training=Training(steps=3, checkpoint_every=2),
)
EASY = ImagingRanges(snr=(5.0, 5.0), shift_voxels=(0.0, 0.0))


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a few steps."""
    folder = tmp_path_factory.mktemp("metric") / "run"
    methods.train("metric", SMALL, None, folder, 1)
    return folder


def test_model_can_stand_where_the_shipped_one_does(taught: Path) -> None:
    card = load_classifier(taught).card
    assert (card.encoder, card.head, card.class_names) == ("radial", "discriminant", ())
    encoder = load_start(taught, 10.0).encoder
    assert encoder.embedding_size == 256
    assert float(encoder.spread) == REACH
    assert np.load(taught / "lessons" / "00000.npy").shape == (64, 4, 1, RADIAL_DESCRIPTOR_SIZE)


def test_lessons_that_are_there_are_not_simulated_again(taught: Path, tmp_path: Path) -> None:
    stream = SyntheticComplexStream(64, 4, 1, 16, 10.0, SMALL.imaging)
    lessons = FeatureCache(tmp_path / "lessons", stream, 64, 12, 4, 1)
    seen: list[tuple[int, int]] = []
    lessons.simulate(build_encoder("radial"), lambda done, blocks, losses: seen.append((done, blocks)))
    lessons.simulate(build_encoder("radial"), lambda done, blocks, losses: seen.append((done, blocks)))
    assert seen == [(1, 1)]
    first, again = lessons.batch(3), lessons.batch(3)
    assert torch.equal(first.x, again.x)
    assert first.x.shape == (48, RADIAL_DESCRIPTOR_SIZE)
    assert torch.unique(first.label, return_counts=True)[1].tolist() == [4] * 12


@pytest.mark.parametrize("loss", ["supervised-contrastive", "cosine", "triplet", "prototypical"])
def test_every_loss_pulls_particles_of_one_complex_together(loss: str, tmp_path: Path) -> None:
    config = replace(SMALL, loss=loss, imaging=EASY, training=Training(80, learning_rate=2e-3, checkpoint_every=80))
    right: list[float] = []
    methods.train(
        "metric", config, None, tmp_path / "run", 2, lambda step, steps, losses: right.append(losses.get("right", 0.0))
    )
    assert np.mean(right[-20:]) > np.mean(right[1:6]) + 0.05


def test_halves_with_independent_noise_find_each_other(tmp_path: Path) -> None:
    found: list[dict[str, float]] = []
    config = replace(SMALL, independent_noise=0.5)
    methods.train("metric", config, None, tmp_path / "run", 1, lambda step, steps, losses: found.append(losses))
    assert np.load(tmp_path / "run" / "lessons" / "00000.npy").shape[2] == 3
    last = found[-1]
    assert last["loss"] > 0.5 * last["halves"] > 0


def test_encoders_without_a_fixed_part_see_fresh_boxes_and_leave_no_lessons(tmp_path: Path) -> None:
    config = replace(SMALL, encoder="residual", per_class=2, classes_per_batch=4)
    model = methods.train("metric", config, None, tmp_path / "run", 1)
    assert model.card.encoder == "residual"
    assert not (tmp_path / "run" / "lessons").exists()


def test_a_fixed_part_may_see_fresh_boxes_as_well(tmp_path: Path) -> None:
    config = replace(SMALL, fresh=True, per_class=2, classes_per_batch=4)
    assert methods.train("metric", config, None, tmp_path / "run", 1).card.encoder == "radial"
    assert not (tmp_path / "run" / "lessons").exists()


def test_scale_of_lessons_ends_up_in_the_weights() -> None:
    torch.manual_seed(0)
    encoder = build_encoder("radial").eval()
    x = 3 * torch.randn(5, RADIAL_DESCRIPTOR_SIZE) + 2
    mean, deviation = torch.full((RADIAL_DESCRIPTOR_SIZE,), 2.0), torch.full((RADIAL_DESCRIPTOR_SIZE,), 3.0)
    expected = encoder.embed((x - mean) / deviation)
    encoder.take_scale(mean, deviation)
    torch.testing.assert_close(encoder.embed(x), expected, atol=1e-4, rtol=1e-3)


def test_inputs_are_what_the_encoder_sees_at_the_most_probable_middle() -> None:
    boxes = SyntheticComplexStream(3, 4, 1, 16).batch(0).volume
    encoder = build_encoder("radial").eval()
    x = cached_features(encoder, boxes, boxes[:, None])[:, 0]
    seen = encoder(encoder.centered(boxes), True)
    torch.testing.assert_close(encoder.embed(x.clone()), seen, atol=1e-4, rtol=1e-3)


def test_dropout_is_for_training_alone() -> None:
    torch.manual_seed(0)
    encoder = build_encoder("radial")
    learner = Learner(
        replace(SMALL, dropout=0.5, input_noise=0.0),
        encoder,
        (torch.zeros(RADIAL_DESCRIPTOR_SIZE), torch.ones(RADIAL_DESCRIPTOR_SIZE)),
    )
    batch = FeatureBatch(torch.randn(8, RADIAL_DESCRIPTOR_SIZE), torch.arange(4).repeat_interleave(2))
    one, two = (float(learner(batch, step_generator(0, 0))["loss"].detach()) for _ in range(2))
    assert one != two
    learner.eval()
    one, two = (float(learner(batch, step_generator(0, 0))["loss"].detach()) for _ in range(2))
    assert one == two


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"complexes": 1}, "complexes, boxes of each .* are 1, 4 and 4, expected at least 2"),
        ({"boxes_each": 3}, "64, 3 and 4"),
        ({"per_class": 1}, "64, 4 and 1"),
        ({"loss": "cosine", "encoder": "residual"}, "the cosine loss needs complexes that come again"),
    ],
)
def test_impossible_settings_are_refused(change: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        methods.train("metric", replace(SMALL, **change), None, tmp_path / "run", 0)  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()
