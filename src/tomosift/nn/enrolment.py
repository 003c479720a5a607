"""Classes from a few examples each, without training: the means of their embeddings are the classifier.

Source: Snell et al. 2017, "Prototypical networks for few-shot learning", for the class means; cosine after
standardization over unlabeled particles instead of squared distance, and the calibration, are ours.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch.nn import functional

from tomosift.nn.calibration import temperature_for_accuracy
from tomosift.nn.classifier import Classifier

UNCALIBRATED = 0.1
"""Temperature of cosines where no class has two examples to calibrate by."""


def enrolled(
    model: Classifier,
    class_names: Sequence[str],
    examples: Float[np.ndarray, "n e"],
    label: Int[np.ndarray, " n"],
    background: Float[np.ndarray, "m e"],
) -> Classifier:
    """A classifier for these classes, and for those that ``model`` already has by their examples.

    Embeddings are those of ``model``'s encoder. The first enrolment takes the standardization from ``background``,
    particles of any kind; later ones keep it, so that classes enrolled one after the other are as if enrolled at once.
    With two examples or more of any class the mean confidence on ``background`` is brought to the accuracy with which
    these examples are recognized by the others; with one of each, the temperature is `UNCALIBRATED`.

    Raises
    ------
    ValueError
        A class has no example or is there already, or the model has a trained head that cannot take up classes.
    """
    card = model.card
    if card.class_names and card.head != "prototypes":
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
    # The encoder is shared: it is not changed by enrolment.
    made = Classifier(model.encoder, replace(card, class_names=names, head="prototypes"))
    memory, earlier = made.familiarity, model.familiarity
    assert memory is not None
    given, known = torch.from_numpy(examples), torch.from_numpy(label)
    if earlier is None:
        memory.remember(torch.from_numpy(background), given, known)
    else:
        memory.center.copy_(earlier.center)
        memory.scale.copy_(earlier.scale)
        memory.direction[: len(card.class_names)] = earlier.direction
        standardized = (given - memory.center) / memory.scale
        for k in range(len(class_names)):
            memory.direction[len(card.class_names) + k] = functional.normalize(standardized[known == k].mean(0), dim=0)
    temperature = UNCALIBRATED if earlier is None else card.temperature
    if (counts > 1).any() and len(background):
        right, asked = _recognized(made, given, known, len(card.class_names))
        # Laplace's rule: a few examples all called right do not make a particle certain.
        accuracy = (right + 1) / (asked + 2)
        logits = made.logits(torch.from_numpy(background)).numpy().astype(np.float64)
        temperature = temperature_for_accuracy(logits, accuracy)
    made.card = replace(made.card, temperature=temperature)
    return made.eval()


def _recognized(made: Classifier, examples: torch.Tensor, label: torch.Tensor, first: int) -> tuple[int, int]:
    """How many examples are nearest to the mean of the others of their class, and how many have such others."""
    memory = made.familiarity
    assert memory is not None
    standardized = (examples - memory.center) / memory.scale
    right = asked = 0
    for row in range(len(examples)):
        others = label == label[row]
        others[row] = False
        if others.any():
            cosines = functional.normalize(standardized[row], dim=0) @ memory.direction.T
            own = functional.normalize(standardized[others].mean(0), dim=0)
            cosines[first + int(label[row])] = functional.normalize(standardized[row], dim=0) @ own
            right, asked = right + int(int(cosines.argmax()) == first + int(label[row])), asked + 1
    return right, asked
