"""Masks of particles by the decoder, and by class averages as far as classes are certain."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tomosift.averaging.class_averages import ClassAverages
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.inference.classifier import Classifier, ModelCard
from tomosift.inference.masks import MASK_THRESHOLD, predict_masks
from tomosift.inference.model_files import shipped_decoder
from tomosift.models.embedder import Embedder

pytestmark = pytest.mark.usefixtures("few_rotations")

CLASSES, CARD = 3, ModelCard("radial", 10.0, 16, ("bent", "rod", "lump"), decoder="unet")


@pytest.fixture
def classifier(embedder: Embedder, averages: ClassAverages) -> Classifier:
    """A model whose head is untrained."""
    return Classifier(embedder, CARD, decoder=shipped_decoder()).eval().with_class_averages(averages)


def masks_of(
    classifier: Classifier, subtomograms: Subtomograms, posterior: NDArray[np.float64] | None
) -> NDArray[np.float32]:
    return np.concatenate(list(predict_masks(classifier, subtomograms, posterior, batch_size=3)))


def test_masks_of_averages_have_the_weight_of_their_classes(classifier: Classifier, queries: Subtomograms) -> None:
    some = queries.select(np.arange(5))
    alone, certain = masks_of(classifier, some, None), np.eye(CLASSES)[some.label]
    combined = masks_of(classifier, some, certain)
    assert combined.shape == alone.shape
    assert combined.min() >= 0
    assert combined.max() <= 1
    assert (np.abs(combined - alone).max(axis=(1, 2, 3)) > 0.05).all()
    np.testing.assert_allclose(masks_of(classifier, some, 0 * certain), alone, atol=1e-6)
    np.testing.assert_allclose(masks_of(classifier, some, 0.5 * certain), combined, atol=1e-6)


def test_the_weight_of_a_class_without_an_average_goes_to_the_decoder(
    classifier: Classifier, averages: ClassAverages, queries: Subtomograms
) -> None:
    few = ClassAverages(CLASSES, 16)
    few.load_state_dict(averages.state_dict())
    few.density[2] = 0
    classifier = classifier.with_class_averages(few)
    some = queries.select(np.flatnonzero(queries.label < 2)[:4])
    certain, unknown = np.eye(CLASSES)[some.label], np.eye(CLASSES)[np.full(4, 2)]
    alone, combined = masks_of(classifier, some, None), masks_of(classifier, some, certain)
    np.testing.assert_allclose(masks_of(classifier, some, unknown), alone, atol=1e-6)
    half = masks_of(classifier, some, (certain + unknown) / 2)
    np.testing.assert_allclose(half, (combined + alone) / 2, atol=1e-5)


def test_masks_with_averages_are_better_than_those_of_noisy_subtomograms(
    classifier: Classifier, write_ball_particles: Callable[..., Any], tmp_path: Path
) -> None:
    particles, rows = write_ball_particles(tmp_path / "set", 8, 1), np.arange(12)
    some, is_particle = particles.subtomograms.select(rows), particles.is_particle[rows]
    dice = [
        2 * (mask & is_particle).sum() / (mask.sum() + is_particle.sum())
        for mask in (
            masks_of(classifier, some, posterior) > MASK_THRESHOLD for posterior in (None, np.eye(CLASSES)[some.label])
        )
    ]
    assert dice[1] > dice[0]


def test_masks_without_a_posterior_are_those_of_a_model_without_averages(
    classifier: Classifier, embedder: Embedder, queries: Subtomograms
) -> None:
    plain = Classifier(embedder, CARD, decoder=classifier.decoder).eval()
    some = queries.select(np.arange(3))
    with_posterior = masks_of(plain, some, np.eye(CLASSES)[some.label])
    np.testing.assert_array_equal(with_posterior, masks_of(classifier, some, None))


def test_progress_counts_subtomograms(classifier: Classifier, queries: Subtomograms) -> None:
    calls: list[tuple[int, int]] = []
    some = queries.select(np.arange(5))
    for _ in predict_masks(
        classifier, some, batch_size=3, progress=lambda done, total, note="": calls.append((done, total))
    ):
        pass
    assert calls == [(3, 5), (5, 5)]


def test_a_model_without_a_decoder_is_refused(embedder: Embedder, queries: Subtomograms) -> None:
    model = Classifier(embedder, ModelCard("radial", 10.0, 16, ("bent", "rod", "lump"))).eval()
    with pytest.raises(ValueError, match="this model predicts no masks"):
        next(predict_masks(model, queries))


def test_another_box_size_is_refused(
    classifier: Classifier, write_subtomograms: Callable[..., Subtomograms], tmp_path: Path
) -> None:
    larger = write_subtomograms(tmp_path / "set", np.random.default_rng(0).normal(size=(2, 20, 20, 20)))
    with pytest.raises(ValueError, match=r"is 20 voxels but the class averages .* have 16; extract with --box-size 16"):
        next(predict_masks(classifier, larger, np.full((2, CLASSES), 1 / CLASSES)))
