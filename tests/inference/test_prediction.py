"""Prediction of a set equals calls of the model, for any batch size."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from tomosift.data.subtomogram_set import Subtomograms
from tomosift.inference.classifier import Classifier, ModelCard
from tomosift.inference.prediction import embed, embed_volumes, predict, predict_by_embeddings
from tomosift.models.embedder import Embedder
from tomosift.models.encoders import build_encoder
from tomosift.models.recentering import Recentering

VOLUMES = np.random.default_rng(0).standard_normal((7, 16, 16, 16)).astype(np.float32)
CARD = ModelCard("radial", 10.0, 16, ("a", "b", "c"), temperature=2.0)


@pytest.fixture(scope="module")
def subtomograms(
    write_subtomograms: Callable[..., Subtomograms], tmp_path_factory: pytest.TempPathFactory
) -> Subtomograms:
    return write_subtomograms(tmp_path_factory.mktemp("set") / "set", VOLUMES)


@pytest.fixture
def classifier() -> Classifier:
    torch.manual_seed(0)
    return Classifier(Embedder(build_encoder("radial"), Recentering()), CARD)


def volumes_of(subtomograms: Subtomograms) -> torch.Tensor:
    return torch.from_numpy(subtomograms.volumes(np.arange(len(subtomograms))))


@pytest.mark.parametrize("batch_size", [1, 3, 7, 64])
def test_embeddings_are_those_of_a_direct_call_for_any_batch_size(
    classifier: Classifier, subtomograms: Subtomograms, batch_size: int
) -> None:
    with torch.inference_mode():
        direct = classifier.eval().embedder(torch.from_numpy(VOLUMES)).numpy()
    # Sums of the center finder are rounded differently in other batches, and so is the posterior of centers.
    embeddings = embed_volumes(classifier.embedder, VOLUMES.__getitem__, 7, batch_size)
    np.testing.assert_allclose(embeddings, direct, rtol=1e-4, atol=1e-4)
    of_set = embed_volumes(classifier.embedder, subtomograms.volumes, 7, batch_size)
    np.testing.assert_array_equal(embed(classifier.embedder, subtomograms, batch_size), of_set)


def test_logits_and_calibrated_probabilities_are_those_of_a_direct_call(
    classifier: Classifier, subtomograms: Subtomograms
) -> None:
    with torch.inference_mode():
        logits = classifier.eval()(volumes_of(subtomograms))
    prediction = predict(classifier, subtomograms)
    np.testing.assert_allclose(prediction.logits, logits.numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(prediction.probabilities, torch.softmax(logits / 2.0, 1).numpy(), atol=1e-5)
    np.testing.assert_allclose(prediction.probabilities.sum(1), 1)
    by_embeddings = predict_by_embeddings(classifier, subtomograms)
    np.testing.assert_array_equal(by_embeddings.probabilities, prediction.probabilities)


def test_a_selection_of_a_prediction_has_its_rows(classifier: Classifier, subtomograms: Subtomograms) -> None:
    prediction, rows = predict(classifier, subtomograms), np.array([4, 1])
    part = prediction.select(rows)
    assert len(part) == 2
    np.testing.assert_array_equal(part.embeddings, prediction.embeddings[rows])
    np.testing.assert_array_equal(part.similarity, prediction.similarity[rows])


def test_progress_counts_subtomograms(classifier: Classifier, subtomograms: Subtomograms) -> None:
    calls: list[tuple[int, int]] = []
    embed(classifier.embedder, subtomograms, 3, lambda done, total, note="": calls.append((done, total)))
    assert calls == [(3, 7), (6, 7), (7, 7)]


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_of_the_model_stays(classifier: Classifier, subtomograms: Subtomograms, training: bool) -> None:
    classifier.train(training)
    predict(classifier, subtomograms.select(np.arange(2)))
    assert classifier.training is training
    assert classifier.encoder.training is training


def test_weights_can_be_trained_afterwards(classifier: Classifier, subtomograms: Subtomograms) -> None:
    predict(classifier, subtomograms.select(np.arange(2)))
    classifier(volumes_of(subtomograms)[:2]).sum().backward()
    assert all(parameter.grad is not None for parameter in classifier.parameters())


def test_an_empty_set_gives_empty_arrays(classifier: Classifier, subtomograms: Subtomograms) -> None:
    prediction = predict(classifier, subtomograms.empty())
    assert prediction.embeddings.shape == (0, classifier.encoder.embedding_size)
    assert prediction.probabilities.shape == (0, 3)


def test_models_without_classes_give_embeddings_and_no_probabilities(subtomograms: Subtomograms) -> None:
    embedder = Embedder(build_encoder("radial"), Recentering())
    prediction = predict(Classifier(embedder, ModelCard("radial", 10.0, 16)), subtomograms)
    assert prediction.embeddings.shape[0] == 7
    assert prediction.logits.shape == prediction.probabilities.shape == (7, 0)
