"""Classes from a few examples each, without training: the means of their embeddings are the classifier.

Source: Snell et al. 2017, "Prototypical networks for few-shot learning", for the class means; how a particle is
compared with them is a matter of the head (`tomosift.inference.heads`), and the calibration is ours.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor

from tomosift.inference.classifier import Classifier
from tomosift.inference.heads import HeadName, PrototypeHead
from tomosift.inference.novelty import SimilarityScore
from tomosift.inference.prediction import classify_embeddings
from tomosift.learning.calibration import match_temperature_to_accuracy


def enroll_classes(
    model: Classifier,
    class_names: Sequence[str],
    examples: Float[np.ndarray, "n e"],
    label: Int[np.ndarray, " n"],
    background: Float[np.ndarray, "m e"],
) -> Classifier:
    """A classifier for these classes, and for those that ``model`` already has by their examples.

    Embeddings are those of ``model``'s encoder; its head, if it has one that compares, is kept, and another model gets
    the cosine. The first enrolment takes the standardization from ``background``, particles of any kind; later ones
    keep it, so that classes enrolled one after the other are as if enrolled at once. With two examples or more of any
    class the mean confidence on ``background`` is brought to the accuracy with which these examples are recognized by
    the others; with one of each, the temperature is that of the head.

    Raises
    ------
    ValueError
        A class has no example or is there already, or the model has a trained head that cannot take up classes.
    """
    card = model.card
    if card.class_names and card.head == "linear":
        raise ValueError(
            "the model has a trained head, which takes up no new class; enrol into a model without classes"
        )
    counts = np.bincount(label, minlength=len(class_names))
    for name, count in zip(class_names, counts, strict=True):
        if not count:
            raise ValueError(f"class {name} has no example; give at least one box of it")
        if name in card.class_names:
            raise ValueError(f"class {name} is enrolled already; use another name, or enrol all examples at once")
    names = (*card.class_names, *class_names)
    head: HeadName = "prototypes" if card.head == "linear" else card.head
    # The encoder is shared: it is not changed by enrolment. Averages are of the classes that there were.
    made = Classifier(model.encoder, replace(card, class_names=names, head=head, averages=False)).eval()
    made.decoder = model.decoder
    comparing, memory = _parts(made)
    given, known, around = torch.from_numpy(examples), torch.from_numpy(label), torch.from_numpy(background)
    if isinstance(model.head, PrototypeHead):
        comparing.take_over(model.head)
    first = len(card.class_names)
    if not first:
        comparing.standardize(around)
        memory.remember(around, given, known)
    else:
        assert model.similarity is not None
        memory.take_over(model.similarity)
        memory.add(given, known, first)
    for k in range(len(class_names)):
        comparing.prototype[first + k] = given[known == k].mean(0)
    temperature = card.temperature if first else comparing.uncalibrated
    if (counts > 1).any() and len(background):
        crossed, asked = leave_one_out_comparison(comparing, given, first + known)
        right = int((crossed.argmax(1) == first + known[asked]).sum())
        # Laplace's rule: a few examples all called right do not make a particle certain.
        accuracy = (right + 1) / (len(asked) + 2)
        temperature = match_temperature_to_accuracy(classify_embeddings(made, background).logits, accuracy)
    made.card = replace(made.card, temperature=temperature)
    return made


def _parts(made: Classifier) -> tuple[PrototypeHead, SimilarityScore]:
    assert isinstance(made.head, PrototypeHead)
    assert made.similarity is not None
    return made.head, made.similarity


@torch.inference_mode()
def leave_one_out_comparison(
    head: PrototypeHead, examples: Float[Tensor, "n e"], label: Int64[Tensor, " n"]
) -> tuple[Float[Tensor, "m k"], Int64[Tensor, " m"]]:
    """Logits of examples by the means of the others of their class, and rows of the examples that have such others."""
    rows = [row for row in range(len(examples)) if (label == label[row]).sum() > 1]
    logits = torch.zeros(len(rows), len(head.prototype))
    for place, row in enumerate(rows):
        others = label == label[row]
        others[row] = False
        prototypes = head.prototype.clone()
        prototypes[label[row]] = examples[others].mean(0)
        logits[place] = head.compare(examples[row : row + 1], prototypes)[0]
    return logits, torch.tensor(rows, dtype=torch.int64)
