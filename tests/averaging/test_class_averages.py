"""Class averages classify particles in their poses, and their posterior is calibrated."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tomosift.averaging import alignment_input, class_averages
from tomosift.averaging.alignment_input import align_volumes, prepare_alignment
from tomosift.averaging.class_averages import AVERAGES_PER_CLASS, ClassAverages
from tomosift.averaging.multireference_alignment import MIN_MEMBERS, compute_class_averages
from tomosift.averaging.whitened_spectra import WhitenedSpectra
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.inference.model_files import shipped_decoder
from tomosift.models.embedder import Embedder

pytestmark = pytest.mark.usefixtures("few_rotations")

SIZE, CLASSES, QUERIES_EACH = 16, 3, 8


def spectra_of(embedder: Embedder, subtomograms: Subtomograms, averages: ClassAverages) -> WhitenedSpectra:
    return prepare_alignment(embedder, subtomograms, averages.weight).spectra


def averages_of(subtomograms: Subtomograms, label: NDArray[np.int64], embedder: Embedder) -> ClassAverages:
    alignment, confidence = prepare_alignment(embedder, subtomograms), np.ones(len(label))
    return compute_class_averages(subtomograms, alignment, label, confidence, CLASSES, shipped_decoder())


def uniform(count: int) -> NDArray[np.float64]:
    return np.full((count, CLASSES), -np.log(CLASSES))


def random_posterior(count: int, seed: int = 5) -> NDArray[np.float64]:
    logits = np.random.default_rng(seed).normal(size=(count, CLASSES))
    return np.asarray(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))


def mean_confidence(log_probability: NDArray[np.float64]) -> float:
    return float(np.exp(log_probability.max(axis=1)).mean())


def copy_of(averages: ClassAverages) -> ClassAverages:
    copy = ClassAverages(CLASSES, SIZE)
    copy.load_state_dict(averages.state_dict())
    return copy


def test_averages_of_labeled_particles_classify_others_without_a_prior(
    averages: ClassAverages, queries: Subtomograms, embedder: Embedder
) -> None:
    assert averages.has_average.tolist() == [True] * CLASSES
    posterior = averages.update_posterior(uniform(len(queries)), spectra_of(embedder, queries, averages))
    assert (posterior.argmax(1) == queries.label).mean() > 0.9


def test_averages_of_noisy_particles_classify_other_noisy_particles(
    write_ball_particles: Callable[..., Any], embedder: Embedder, tmp_path: Path
) -> None:
    labeled = write_ball_particles(tmp_path / "labeled", 14, 2, snr=0.15).subtomograms
    queries = write_ball_particles(tmp_path / "queries", QUERIES_EACH, 3, snr=0.15).subtomograms
    averages = averages_of(labeled, labeled.label, embedder)
    posterior = averages.update_posterior(uniform(len(queries)), spectra_of(embedder, queries, averages))
    assert (posterior.argmax(1) == queries.label).mean() > 2 / CLASSES


def test_an_average_has_the_extent_of_its_particle(averages: ClassAverages) -> None:
    assert averages.density.shape == (CLASSES, AVERAGES_PER_CLASS, SIZE, SIZE, SIZE)
    assert averages.display_densities(2 * SIZE).shape == (CLASSES, *3 * (2 * SIZE,))
    assert ((averages.mask >= 0) & (averages.mask <= 1)).all()
    # Poses are free, but the extent of the density is not: the lump is smaller than the rod.
    axis = torch.arange(SIZE) - SIZE // 2
    squared = axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2
    weight = averages.density.clamp(min=0)
    extent = (weight * squared).sum((2, 3, 4)) / weight.sum((2, 3, 4))
    assert (extent[2] < extent[1]).all()


def test_the_posterior_is_normalized(averages: ClassAverages, queries: Subtomograms, embedder: Embedder) -> None:
    spectra = spectra_of(embedder, queries, averages)
    posterior = averages.update_posterior(random_posterior(len(queries)), spectra)
    assert posterior.shape == (len(queries), CLASSES)
    assert np.isfinite(posterior).all()
    np.testing.assert_allclose(np.exp(posterior).sum(axis=1), 1)


def test_calibrated_confidence_is_the_accuracy_on_held_out_particles(
    averages: ClassAverages, queries: Subtomograms, embedder: Embedder
) -> None:
    spectra, prior = spectra_of(embedder, queries, averages), random_posterior(len(queries))
    # Labels that are wrong for half of the particles give a confidence of a half.
    half = np.where(np.arange(len(queries)) % 2, queries.label, (queries.label + 1) % CLASSES)
    for label, low, high in ((queries.label, 0.85, 1.0), (half, 0.4, 0.6)):
        calibrated = copy_of(averages)
        right = int((calibrated.update_posterior(prior, spectra).argmax(1) == label).sum())
        calibrated.calibrate(prior, spectra, label, spectra, prior)
        posterior = calibrated.update_posterior(prior, spectra)
        assert mean_confidence(posterior) == pytest.approx((right + 1) / (len(label) + 2), abs=0.01)
        assert low < mean_confidence(posterior) < high
        np.testing.assert_array_equal(posterior.argmax(1), averages.update_posterior(prior, spectra).argmax(1))


@pytest.mark.parametrize("embedding_accuracy", [None, 0.7])
def test_with_one_label_per_class_confidence_is_the_accuracy_expected_of_averages_and_embeddings(
    averages: ClassAverages, queries: Subtomograms, embedder: Embedder, embedding_accuracy: float | None
) -> None:
    calibrated = copy_of(averages)
    spectra, prior = spectra_of(embedder, queries, averages), random_posterior(len(queries))
    one_each = np.arange(CLASSES)
    held_out = spectra.select(torch.from_numpy(one_each))
    calibrated.calibrate(prior, spectra, queries.label[one_each], held_out, None, embedding_accuracy)
    alone, both = (averages.update_posterior(p, spectra) for p in (uniform(len(queries)), prior))
    agreement, consistent = ((alone.argmax(1) == other.argmax(1)).mean() for other in (prior, both))
    right_names = ((alone.argmax(1) == queries.label)[one_each].sum() + 1) / (CLASSES + 2)
    accuracy = embedding_accuracy
    assigned = agreement if accuracy is None else accuracy**2 / (accuracy**2 + (1 - accuracy) ** 2)
    expected = max(1 / CLASSES, assigned * min(1.0, right_names / consistent))
    confidence = mean_confidence(calibrated.update_posterior(prior, spectra))
    assert confidence == pytest.approx(expected, abs=0.02)
    assert confidence < mean_confidence(both)


@pytest.mark.parametrize("known", [0, 1])
def test_fewer_than_two_averages_do_not_change_the_posterior(
    known: int, averages: ClassAverages, queries: Subtomograms, embedder: Embedder
) -> None:
    few = ClassAverages(CLASSES, SIZE)
    few.density[:known] = averages.density[:known]
    prior = random_posterior(len(queries))
    posterior = few.update_posterior(prior, spectra_of(embedder, queries, averages))
    np.testing.assert_array_equal(posterior, prior)


def test_no_particles_have_an_empty_posterior(
    averages: ClassAverages, queries: Subtomograms, embedder: Embedder
) -> None:
    spectra = spectra_of(embedder, queries, averages).select(torch.zeros(0, dtype=torch.int64))
    assert averages.update_posterior(random_posterior(0), spectra).shape == (0, CLASSES)


def test_a_class_without_an_average_keeps_its_odds_against_the_most_likely_class(
    labeled: Subtomograms, queries: Subtomograms, embedder: Embedder
) -> None:
    label = labeled.label.copy()
    label[np.flatnonzero(label == 1)[MIN_MEMBERS - 1 :]] = -1
    averages = averages_of(labeled, label, embedder)
    assert averages.has_average.tolist() == [True, False, True]
    assert not averages.density[1].any()
    assert not averages.mask[1].any()
    prior = random_posterior(len(queries))
    gain = averages.update_posterior(prior, spectra_of(embedder, queries, averages)) - prior
    np.testing.assert_allclose(gain[:, 1], gain[:, [0, 2]].max(axis=1))
    assert (gain[:, 1] > gain[:, [0, 2]].min(axis=1) + 0.1).mean() > 0.5


def test_classes_that_are_not_compared_gain_nothing(
    averages: ClassAverages, queries: Subtomograms, embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    prior, spectra = random_posterior(len(queries)), spectra_of(embedder, queries, averages)
    monkeypatch.setattr(class_averages, "CANDIDATE_CLASSES", 1)
    np.testing.assert_allclose(averages.update_posterior(prior, spectra), prior, atol=1e-9)
    monkeypatch.setattr(class_averages, "CANDIDATE_CLASSES", 2)
    gain = averages.update_posterior(prior, spectra) - prior
    ranked = np.take_along_axis(gain, np.argsort(-prior, axis=1), axis=1)
    np.testing.assert_allclose(ranked[:, 2], ranked[:, :2].min(axis=1))
    assert (np.ptp(ranked[:, :2], axis=1) > 0.1).mean() > 0.5


def test_the_posterior_of_a_particle_does_not_depend_on_the_others(
    averages: ClassAverages, queries: Subtomograms, embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 3
    some, prior = queries.select(np.arange(count)), random_posterior(count)
    batch = averages.update_posterior(prior, spectra_of(embedder, some, averages))
    one_by_one = [
        averages.update_posterior(prior[[k]], spectra_of(embedder, some.select(np.array([k])), averages))
        for k in range(count)
    ]
    np.testing.assert_allclose(np.concatenate(one_by_one), batch, rtol=1e-4, atol=1e-3)
    monkeypatch.setattr(alignment_input, "_BATCH_SIZE", 2)
    in_batches = averages.update_posterior(prior, spectra_of(embedder, some, averages))
    np.testing.assert_allclose(in_batches, batch, rtol=1e-4, atol=1e-3)


def test_particles_are_recentered_before_their_spectra_are_computed(
    write_subtomograms: Callable[..., Subtomograms], queries: Subtomograms, embedder: Embedder, tmp_path: Path
) -> None:
    shifted = write_subtomograms(tmp_path / "set", np.roll(queries.volumes(np.arange(4)), 2, axis=1))
    alignment = prepare_alignment(embedder, shifted)
    volume = torch.from_numpy(shifted.volumes(np.arange(4)))
    torch.testing.assert_close(alignment.offset_zyx_voxels, embedder.estimate_offsets(volume))
    assert len(alignment.spectra) == 4
    in_memory = align_volumes(embedder, volume, shifted.tilt_range_deg)
    assert torch.equal(in_memory.offset_zyx_voxels, alignment.offset_zyx_voxels)
    assert torch.equal(in_memory.spectra.coefficient, alignment.spectra.coefficient)
