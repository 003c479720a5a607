"""Running models over many boxes gives what calling them gives."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tomosift.inference.classifier import Classifier, ModelCard
from tomosift.inference.prediction import embed, predict
from tomosift.models.encoders import build_encoder

BOXES = np.random.default_rng(0).standard_normal((7, 16, 16, 16)).astype(np.float32)


def read(rows: NDArray[np.int64]) -> NDArray[np.float32]:
    return BOXES[rows]


@pytest.fixture
def classifier() -> Classifier:
    torch.manual_seed(0)
    return Classifier(build_encoder("radial"), ModelCard("radial", 10.0, 16, ("a", "b", "c"), temperature=2.0))


@pytest.mark.parametrize("batch_size", [1, 3, 7, 64])
def test_embeddings_are_those_of_a_direct_call_for_any_batch_size(classifier: Classifier, batch_size: int) -> None:
    with torch.inference_mode():
        direct = classifier.eval().encoder(torch.from_numpy(BOXES)).numpy()
    # Sums of the center finder are rounded otherwise in other batches, and so are the shares of places.
    np.testing.assert_allclose(embed(classifier.encoder, read, 7, batch_size), direct, rtol=1e-4, atol=1e-4)


def test_logits_and_tempered_probabilities_are_those_of_a_direct_call(classifier: Classifier) -> None:
    with torch.inference_mode():
        logits = classifier.eval()(torch.from_numpy(BOXES))
    found = predict(classifier, read, 7, batch_size=3)
    np.testing.assert_allclose(found.logits, logits.numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.probabilities, torch.softmax(logits / 2.0, 1).numpy(), atol=1e-5)
    np.testing.assert_allclose(found.probabilities.sum(1), 1)


def test_progress_counts_boxes_up_to_all(classifier: Classifier) -> None:
    told: list[tuple[int, int]] = []
    embed(classifier.encoder, read, 7, 3, lambda done, total: told.append((done, total)))
    assert told == [(3, 7), (6, 7), (7, 7)]


@pytest.mark.parametrize("training", [True, False])
def test_mode_is_left_as_it_was(classifier: Classifier, training: bool) -> None:
    classifier.train(training)
    predict(classifier, read, 2)
    assert classifier.training is training
    assert classifier.encoder.training is training


def test_weights_can_be_trained_afterwards(classifier: Classifier) -> None:
    predict(classifier, read, 2)
    classifier(torch.from_numpy(BOXES[:2])).sum().backward()
    assert all(parameter.grad is not None for parameter in classifier.parameters())


def test_no_boxes_give_empty_arrays(classifier: Classifier) -> None:
    found = predict(classifier, read, 0)
    assert found.embeddings.shape == (0, classifier.encoder.embedding_size)
    assert found.probabilities.shape == (0, 3)


def test_models_without_classes_give_embeddings_and_no_probabilities() -> None:
    found = predict(Classifier(build_encoder("radial"), ModelCard("radial", 10.0, 16)), read, 7)
    assert found.embeddings.shape[0] == 7
    assert found.logits.shape == found.probabilities.shape == (7, 0)
