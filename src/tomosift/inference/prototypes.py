"""Enrolment of classes from a few examples each, without training: the means of their embeddings are the classifier.

Source: Snell et al. 2017, "Prototypical networks for few-shot learning", for the class means. How a particle is
compared with them is up to the head (`tomosift.inference.heads`); the calibration is ours.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor

from tomosift.inference.classifier import Classifier
from tomosift.inference.heads import HeadName, PrototypeHead
from tomosift.inference.prediction import classify_embeddings
from tomosift.learning.calibration import laplace_accuracy, match_temperature_to_accuracy


def enroll_classes(
    model: Classifier,
    class_names: Sequence[str],
    support: Float[np.ndarray, "n e"],
    label: Int[np.ndarray, " n"],
    background: Float[np.ndarray, "m e"],
) -> Classifier:
    """Enroll classes from a support set of labeled examples; classes that the model has are kept.

    Parameters
    ----------
    model
        Without classes, or with those of an earlier enrolment. A head that compares is kept; a linear one becomes the
        cosine.
    class_names
        Names of the new classes.
    support
        Embeddings of the examples by the model's embedder.
    label
        Class of each example, an index into ``class_names``.
    background
        Embeddings of particles of any class. The first enrolment takes the standardization from them. Later ones keep
        it, so that several enrolments equal one of all classes.

    Returns
    -------
    Classifier
        It shares the encoder with ``model``. With two examples or more of any class, the mean confidence on
        ``background`` equals the accuracy of the examples among each other (leave one out); with one of each, the
        temperature is the default of the head. Class averages of the model are dropped.

    Raises
    ------
    ValueError
        A class has no example or exists already, or the model has a trained head that accepts no new class.
    """
    card, first = model.card, len(model.card.class_names)
    _check_new_classes(model, class_names, label)
    names = (*card.class_names, *class_names)
    head_name: HeadName = "prototypes" if card.head == "linear" else card.head
    card = replace(card, class_names=names, head=head_name, class_averages=False)
    classifier = Classifier(model.embedder, card, decoder=model.decoder).eval()
    head, similarity = classifier.head, classifier.similarity
    assert isinstance(head, PrototypeHead)
    assert similarity is not None
    examples, known, others = torch.from_numpy(support), torch.from_numpy(label), torch.from_numpy(background)
    if isinstance(model.head, PrototypeHead):
        head.copy_from(model.head)
    if not first:
        head.standardize(others)
        similarity.fit(others, examples, known)
    else:
        assert model.similarity is not None
        similarity.copy_from(model.similarity)
        similarity.add_classes(examples, known, first)
    for k in range(len(class_names)):
        head.prototype[first + k] = examples[known == k].mean(0)
    temperature = card.temperature if first else head.default_temperature
    if (np.bincount(label) > 1).any() and len(background):
        temperature = _calibrate(classifier, examples, first + known, background)
    return classifier.replace_card(temperature=temperature)


def _calibrate(
    classifier: Classifier,
    support: Float[Tensor, "n e"],
    label: Int64[Tensor, " n"],
    background: Float[np.ndarray, "m e"],
) -> float:
    """Temperature at which the confidence on the background equals the leave-one-out accuracy of the examples."""
    assert isinstance(classifier.head, PrototypeHead)
    logits, rows = compare_leave_one_out(classifier.head, support, label)
    accuracy = laplace_accuracy(logits.numpy(), label[rows].numpy())
    return match_temperature_to_accuracy(classify_embeddings(classifier, background).logits, accuracy)


def _check_new_classes(model: Classifier, class_names: Sequence[str], label: Int[np.ndarray, " n"]) -> None:
    """Refuse classes without examples, classes that exist, and models that accept none."""
    card = model.card
    if card.class_names and card.head == "linear":
        raise ValueError(
            "the model has a trained head, which accepts no new class; enroll into a model without classes"
        )
    counts = np.bincount(label, minlength=len(class_names))
    for name, count in zip(class_names, counts, strict=True):
        if not count:
            raise ValueError(f"class {name} has no example; give at least one subtomogram of it")
        if name in card.class_names:
            raise ValueError(f"class {name} exists already; use another name, or enroll all examples at once")


@torch.inference_mode()
def compare_leave_one_out(
    head: PrototypeHead, support: Float[Tensor, "n e"], label: Int64[Tensor, " n"]
) -> tuple[Float[Tensor, "m k"], Int64[Tensor, " m"]]:
    """Compare each example with the prototypes from which it was left out.

    Returns
    -------
    logits
        Of the m examples whose class has others.
    rows
        Of these examples in the support set.
    """
    rows = [row for row in range(len(support)) if (label == label[row]).sum() > 1]
    logits = torch.zeros(len(rows), len(head.prototype))
    for k, row in enumerate(rows):
        others = label == label[row]
        others[row] = False
        prototypes = head.prototype.clone()
        prototypes[label[row]] = support[others].mean(0)
        logits[k] = head.compare(support[row : row + 1], prototypes)[0]
    return logits, torch.tensor(rows, dtype=torch.int64)
