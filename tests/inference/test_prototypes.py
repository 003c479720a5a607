"""Classes by the means of a few examples: what is enrolled is recognized, in one go or one after the other."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tomosift.inference.classifier import Classifier, ModelCard
from tomosift.inference.heads import CosineHead, PrototypeHead
from tomosift.inference.model_files import load_classifier, save_classifier
from tomosift.inference.prediction import classify_embeddings
from tomosift.inference.prototypes import enroll_classes, leave_one_out_comparison
from tomosift.models.encoders import build_encoder

SIZE = 256
NAMES = ("apoferritin", "ribosome", "groel")


def base() -> Classifier:
    torch.manual_seed(0)
    return Classifier(build_encoder("radial"), ModelCard("radial", 10.0, 16)).eval()


def clusters(per_class: int, seed: int, width: float = 0.7) -> tuple[np.ndarray, np.ndarray]:
    centers = np.random.default_rng(0).normal(size=(len(NAMES), SIZE))
    rng = np.random.default_rng(seed)
    label = np.repeat(np.arange(len(NAMES)), per_class)
    return (centers[label] + width * rng.normal(size=(len(label), SIZE))).astype(np.float32), label


def test_examples_make_a_classifier_that_recognizes_others_of_their_classes() -> None:
    examples, label = clusters(2, 1)
    asked, truth = clusters(40, 2)
    said = classify_embeddings(enroll_classes(base(), NAMES, examples, label, asked), asked)
    assert (said.probabilities.argmax(1) == truth).mean() > 0.95
    assert np.allclose(said.probabilities.sum(1), 1)
    strangers = np.random.default_rng(3).normal(size=(200, SIZE)).astype(np.float32)
    assert (
        np.median(said.similarity)
        > 0.5
        > np.median(classify_embeddings(enroll_classes(base(), NAMES, examples, label, asked), strangers).similarity)
        + 0.3
    )


def test_classes_enrolled_one_after_the_other_are_as_if_enrolled_at_once(tmp_path: Path) -> None:
    examples, label = clusters(1, 1)
    asked, _ = clusters(10, 2)
    once = enroll_classes(base(), NAMES, examples, label, asked)
    first = enroll_classes(base(), NAMES[:2], examples[:2], label[:2], asked)
    save_classifier(tmp_path / "kept", first)
    later = enroll_classes(load_classifier(tmp_path / "kept"), NAMES[2:], examples[2:], label[2:] - 2, asked)
    assert later.card.class_names == once.card.class_names == NAMES
    np.testing.assert_allclose(
        classify_embeddings(later, asked).probabilities, classify_embeddings(once, asked).probabilities, atol=1e-6
    )
    assert later.card == once.card


def test_single_examples_are_not_calibrated_and_several_are() -> None:
    examples, label = clusters(1, 1)
    asked, _ = clusters(10, 2)
    assert enroll_classes(base(), NAMES, examples, label, asked).card.temperature == CosineHead.uncalibrated
    examples, label = clusters(4, 1)
    certain = (
        classify_embeddings(enroll_classes(base(), NAMES, examples, label, asked), asked).probabilities.max(1).mean()
    )
    assert certain == pytest.approx(13 / 14, abs=0.01)  # all 12 recognized, Laplace's rule
    blurred, label = clusters(4, 1, width=6.0)
    unsure = (
        classify_embeddings(enroll_classes(base(), NAMES, blurred, label, asked), asked).probabilities.max(1).mean()
    )
    assert unsure < certain


def test_what_cannot_be_enrolled_is_refused() -> None:
    examples, label = clusters(1, 1)
    with pytest.raises(ValueError, match="class groel has no example"):
        enroll_classes(base(), NAMES, examples[:2], label[:2], examples)
    model = enroll_classes(base(), NAMES, examples, label, examples)
    with pytest.raises(ValueError, match="class ribosome is enrolled already"):
        enroll_classes(model, ("ribosome",), examples[:1], label[:1], examples)
    trained = Classifier(model.encoder, replace(model.card, head="linear"))
    with pytest.raises(ValueError, match="trained head, which takes up no new class"):
        enroll_classes(trained, ("thermosome",), examples[:1], label[:1], examples)


def test_an_example_is_compared_with_the_others_of_its_class_alone() -> None:
    examples, label = clusters(3, 1)
    examples, label = examples[:7], label[:7]  # the last class has one example
    model = enroll_classes(base(), NAMES, examples, label, examples)
    assert isinstance(model.head, PrototypeHead)
    logits, rows = leave_one_out_comparison(model.head, torch.from_numpy(examples), torch.from_numpy(label))
    assert rows.tolist() == [0, 1, 2, 3, 4, 5]
    without = np.arange(1, 7)
    fewer = enroll_classes(base(), NAMES, examples[without], label[without], examples)
    assert isinstance(fewer.head, PrototypeHead)
    np.testing.assert_allclose(logits[0], fewer.head(torch.from_numpy(examples[:1]))[0].detach(), atol=1e-5)
    none, alone = leave_one_out_comparison(model.head, torch.from_numpy(examples[[0, 6]]), torch.tensor([0, 2]))
    assert none.shape == (0, 3)
    assert len(alone) == 0
