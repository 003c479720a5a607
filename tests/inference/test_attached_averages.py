"""Class averages as a part of a model: attached if they help, saved with it, and used in its predictions."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tomosift.averaging.alignment_input import prepare_alignment
from tomosift.averaging.class_averages import ClassAverages
from tomosift.averaging.multireference_alignment import compute_class_averages, select_held_out
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.inference.class_average_classifier import attach_class_averages
from tomosift.inference.classifier import Classifier, ModelCard
from tomosift.inference.model_files import load_classifier, save_classifier, shipped_decoder
from tomosift.inference.prediction import apply_class_averages, predict, predict_by_embeddings
from tomosift.inference.prototypes import enroll_classes
from tomosift.models.embedder import Embedder

pytestmark = pytest.mark.usefixtures("few_rotations")

SIZE, CLASSES, CARD = 16, 3, ModelCard("radial", 10.0, 16, ("bent", "rod", "lump"))


def uniform(count: int) -> NDArray[np.float64]:
    return np.full((count, CLASSES), -np.log(CLASSES))


def mean_confidence(log_probability: NDArray[np.float64]) -> float:
    return float(np.exp(log_probability.max(axis=1)).mean())


@pytest.fixture
def classifier(embedder: Embedder, averages: ClassAverages) -> Classifier:
    """A model whose averages alone are trained."""
    card = replace(CARD, temperature=2.0, decoder="unet")
    return Classifier(embedder, card, decoder=shipped_decoder()).eval().with_class_averages(averages)


def test_averages_of_random_labels_are_calibrated_to_a_low_confidence(
    embedder: Embedder, write_ball_particles: Callable[..., Any], tmp_path: Path
) -> None:
    labeled = write_ball_particles(tmp_path / "labeled", 14, 6, snr=0.02).subtomograms
    queries = write_ball_particles(tmp_path / "queries", 8, 7, snr=0.02).subtomograms
    label = np.random.default_rng(0).permutation(labeled.label)
    is_held_out = select_held_out(label, np.ones(len(label), dtype=bool))
    averages = compute_class_averages(
        labeled,
        prepare_alignment(embedder, labeled),
        label,
        np.ones(len(label)),
        CLASSES,
        shipped_decoder(),
        is_held_out=is_held_out,
    )
    spectra, prior = prepare_alignment(embedder, queries, averages.weight).spectra, uniform(len(queries))
    before = mean_confidence(averages.update_posterior(prior, spectra))
    held_out = labeled.select(np.flatnonzero(is_held_out))
    model = Classifier(embedder, CARD).eval()
    attached = attach_class_averages(model, averages, queries, held_out, held_out.label, uniform(len(held_out)))
    assert attached.classifier.class_averages is averages
    assert before > 0.6
    assert mean_confidence(averages.update_posterior(prior, spectra)) < before - 0.05


def test_without_held_out_labels_averages_are_attached_without_calibration(
    averages: ClassAverages, queries: Subtomograms, embedder: Embedder
) -> None:
    model, none = Classifier(embedder, CARD).eval(), queries.empty()
    attached = attach_class_averages(model, averages, queries, none, none.label, None)
    assert attached.reason == ""
    assert attached.classifier.class_averages is averages
    assert attached.classifier.card.class_averages
    assert model.class_averages is None
    assert float(averages.temperature) == 1.0


def test_averages_of_fewer_than_two_classes_are_not_attached(
    averages: ClassAverages, queries: Subtomograms, embedder: Embedder
) -> None:
    few = ClassAverages(CLASSES, SIZE)
    few.density[:1] = averages.density[:1]
    model = Classifier(embedder, CARD).eval()
    attached = attach_class_averages(model, few, queries, queries, queries.label, None)
    assert "fewer than 2 classes" in attached.reason
    assert attached.classifier is model


def test_a_model_is_saved_and_loaded_with_its_averages(
    classifier: Classifier, queries: Subtomograms, tmp_path: Path
) -> None:
    by_embeddings = predict_by_embeddings(classifier, queries)
    calls: list[tuple[int, int]] = []
    prediction = apply_class_averages(
        classifier, by_embeddings, queries, lambda done, total, note="": calls.append((done, total))
    )
    assert calls == [(0, len(queries)), (len(queries), len(queries))]
    assert (prediction.probabilities.argmax(1) == queries.label).mean() > 0.9
    np.testing.assert_allclose(prediction.probabilities.sum(1), 1)
    tempered = np.exp(prediction.logits / 2.0)
    np.testing.assert_allclose(tempered / tempered.sum(1, keepdims=True), prediction.probabilities, atol=1e-9)
    np.testing.assert_array_equal(prediction.similarity, by_embeddings.similarity)
    save_classifier(tmp_path / "model", classifier)
    loaded = load_classifier(tmp_path / "model")
    assert loaded.card == classifier.card
    assert loaded.card.class_averages
    np.testing.assert_array_equal(predict(loaded, queries).probabilities, prediction.probabilities)


def test_nothing_changes_without_averages_or_without_subtomograms(
    classifier: Classifier, embedder: Embedder, queries: Subtomograms
) -> None:
    plain, some = Classifier(embedder, CARD).eval(), queries.select(np.arange(5))
    prediction = predict_by_embeddings(plain, some)
    assert apply_class_averages(plain, prediction, some) is prediction
    none = predict_by_embeddings(classifier, queries.empty())
    assert apply_class_averages(classifier, none, queries.empty()) is none


def test_another_box_size_is_refused(
    classifier: Classifier, write_subtomograms: Callable[..., Subtomograms], tmp_path: Path
) -> None:
    larger = write_subtomograms(tmp_path / "set", np.random.default_rng(0).normal(size=(2, 20, 20, 20)))
    message = r"is 20 voxels but the class averages .* have 16; extract with --box-size 16"
    with pytest.raises(ValueError, match=message):
        apply_class_averages(classifier, predict_by_embeddings(classifier, larger), larger)
    with pytest.raises(ValueError, match=message):
        predict(classifier, larger)


def test_enrolment_drops_the_averages_of_earlier_classes(classifier: Classifier, labeled: Subtomograms) -> None:
    examples = predict_by_embeddings(classifier, labeled.select(np.arange(CLASSES))).embeddings
    base = Classifier(classifier.embedder, replace(CARD, class_names=()))
    first = enroll_classes(base, ("ring", "cube", "plate"), examples, np.arange(3), examples)
    first = first.with_class_averages(ClassAverages(3, SIZE))
    later = enroll_classes(first, ("cone",), examples[:1], np.zeros(1, dtype=np.int64), examples)
    assert first.card.class_averages
    assert not later.card.class_averages
    assert later.class_averages is None
