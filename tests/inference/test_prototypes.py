"""Enrolment from a few examples gives a classifier, whether of all classes at once or of one after the other."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tomosift.inference.classifier import Classifier, ModelCard
from tomosift.inference.heads import CosineHead, PrototypeHead
from tomosift.inference.model_files import load_classifier, save_classifier
from tomosift.inference.prediction import classify_embeddings
from tomosift.inference.prototypes import compare_leave_one_out, enroll_classes
from tomosift.models.embedder import Embedder
from tomosift.models.encoders import build_encoder
from tomosift.models.recentering import Recentering

SIZE = 256
NAMES = ("apoferritin", "ribosome", "groel")


def base() -> Classifier:
    torch.manual_seed(0)
    return Classifier(Embedder(build_encoder("radial"), Recentering()), ModelCard("radial", 10.0, 16)).eval()


def clusters(per_class: int, seed: int, width: float = 0.7) -> tuple[np.ndarray, np.ndarray]:
    centers = np.random.default_rng(0).normal(size=(len(NAMES), SIZE))
    rng = np.random.default_rng(seed)
    label = np.repeat(np.arange(len(NAMES)), per_class)
    return (centers[label] + width * rng.normal(size=(len(label), SIZE))).astype(np.float32), label


def test_a_few_examples_make_a_classifier_of_their_classes() -> None:
    examples, label = clusters(2, 1)
    queries, truth = clusters(40, 2)
    prediction = classify_embeddings(enroll_classes(base(), NAMES, examples, label, queries), queries)
    assert (prediction.probabilities.argmax(1) == truth).mean() > 0.95
    assert np.allclose(prediction.probabilities.sum(1), 1)
    others = np.random.default_rng(3).normal(size=(200, SIZE)).astype(np.float32)
    assert (
        np.median(prediction.similarity)
        > 0.5
        > np.median(classify_embeddings(enroll_classes(base(), NAMES, examples, label, queries), others).similarity)
        + 0.3
    )


def test_enrolment_one_after_the_other_equals_enrolment_at_once(tmp_path: Path) -> None:
    examples, label = clusters(1, 1)
    queries, _ = clusters(10, 2)
    once = enroll_classes(base(), NAMES, examples, label, queries)
    first = enroll_classes(base(), NAMES[:2], examples[:2], label[:2], queries)
    save_classifier(tmp_path / "kept", first)
    later = enroll_classes(load_classifier(tmp_path / "kept"), NAMES[2:], examples[2:], label[2:] - 2, queries)
    assert later.card.class_names == once.card.class_names == NAMES
    np.testing.assert_allclose(
        classify_embeddings(later, queries).probabilities, classify_embeddings(once, queries).probabilities, atol=1e-6
    )
    assert later.card == once.card


def test_single_examples_are_not_calibrated_and_several_are() -> None:
    examples, label = clusters(1, 1)
    queries, _ = clusters(10, 2)
    assert enroll_classes(base(), NAMES, examples, label, queries).card.temperature == CosineHead.default_temperature
    examples, label = clusters(4, 1)
    confidence = (
        classify_embeddings(enroll_classes(base(), NAMES, examples, label, queries), queries)
        .probabilities.max(1)
        .mean()
    )
    assert confidence == pytest.approx(13 / 14, abs=0.01)  # all 12 are right, by Laplace's rule
    blurred, label = clusters(4, 1, width=6.0)
    low_confidence = (
        classify_embeddings(enroll_classes(base(), NAMES, blurred, label, queries), queries).probabilities.max(1).mean()
    )
    assert low_confidence < confidence


def test_impossible_enrolments_are_refused() -> None:
    examples, label = clusters(1, 1)
    with pytest.raises(ValueError, match="class groel has no example"):
        enroll_classes(base(), NAMES, examples[:2], label[:2], examples)
    model = enroll_classes(base(), NAMES, examples, label, examples)
    with pytest.raises(ValueError, match="class ribosome exists already"):
        enroll_classes(model, ("ribosome",), examples[:1], label[:1], examples)
    trained = Classifier(model.embedder, replace(model.card, head="linear"))
    with pytest.raises(ValueError, match="trained head, which accepts no new class"):
        enroll_classes(trained, ("thermosome",), examples[:1], label[:1], examples)


def test_an_example_is_compared_with_the_other_examples_of_its_class() -> None:
    examples, label = clusters(3, 1)
    examples, label = examples[:7], label[:7]  # the last class has one example
    model = enroll_classes(base(), NAMES, examples, label, examples)
    assert isinstance(model.head, PrototypeHead)
    logits, rows = compare_leave_one_out(model.head, torch.from_numpy(examples), torch.from_numpy(label))
    assert rows.tolist() == [0, 1, 2, 3, 4, 5]
    without = np.arange(1, 7)
    fewer = enroll_classes(base(), NAMES, examples[without], label[without], examples)
    assert isinstance(fewer.head, PrototypeHead)
    np.testing.assert_allclose(logits[0], fewer.head(torch.from_numpy(examples[:1]))[0].detach(), atol=1e-5)
    none, alone = compare_leave_one_out(model.head, torch.from_numpy(examples[[0, 6]]), torch.tensor([0, 2]))
    assert none.shape == (0, 3)
    assert len(alone) == 0
