"""Classes from a few examples each, without training: what averages of the particles named by them add."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy.special import log_softmax

from tomosift.averaging.class_averages import ClassAverages, prepare_alignment
from tomosift.averaging.multireference_alignment import (
    LOWER_ACCURACY,
    MAX_CALIBRATION_PARTICLES,
    MIN_CLASSES,
    MIN_MEMBERS,
    SubtomogramSource,
    lower_accuracy,
    refine_labels,
)
from tomosift.inference.classifier import Classifier, shipped_decoder
from tomosift.inference.heads import PLDAHead, PrototypeHead
from tomosift.inference.prediction import classify_embeddings, predict
from tomosift.inference.prototypes import leave_one_out_comparison
from tomosift.models.encoder import ReportDone

MOST_TO_AVERAGE = 5000
"""Particles of a set among which the surest of each class are looked for; those of more would show little more."""


Phase = Callable[[str, str], AbstractContextManager[ReportDone | None]]
"""What shows how far a part of the work is: from its name and the unit that it is counted in."""


@runtime_checkable
class SelectableSource(SubtomogramSource, Protocol):
    """A set of particles from which some can be chosen."""

    @property
    def box_size(self) -> int:
        """Edge in voxels."""

    def select(self, rows: NDArray[np.int64]) -> SubtomogramSource:
        """The particles of these rows."""

    def spaced_rows(self, count: int) -> NDArray[np.int64]:
        """At most this many rows, evenly spaced."""


@dataclass(frozen=True, eq=False)
class SupportSet:
    """Examples of classes that a classifier was made of."""

    boxes: SelectableSource
    embedding: Float[np.ndarray, "m e"]
    label: Int[np.ndarray, " m"]
    """Number of the class in the classifier."""
    row: Int[np.ndarray, " m"]
    """Of the set in which particles are to be named, -1 where the example is not of it."""


def add_class_averages(
    classifier: Classifier,
    boxes: SelectableSource,
    embedding: Float[np.ndarray, "n e"],
    examples: SupportSet,
    phase: Phase = lambda name, unit: nullcontext(),
) -> str:
    """Let a classifier keep averages of what it names the n particles of a set; why it does not, or an empty text.

    Examples stay what they are. See `tomosift.averaging.multireference_alignment.attach_class_averages`.
    """
    assert isinstance(classifier.head, PrototypeHead)
    of_set = examples.row >= 0
    rows = np.union1d(boxes.spaced_rows(MOST_TO_AVERAGE), examples.row[of_set])
    some, is_given = boxes.select(rows), np.isin(rows, examples.row)
    probability = classify_embeddings(classifier, embedding[rows]).probabilities
    label = probability.argmax(axis=1)
    label[np.searchsorted(rows, examples.row[of_set])] = examples.label[of_set]
    with phase("look at boxes", "boxes") as looked:
        seen = prepare_alignment(some.volumes, some.tilt_range_deg, classifier.encoder, done=looked)
    known = (label, is_given, np.log(np.maximum(probability, 1e-12)), shipped_decoder())
    with phase("averages", "classes") as averaged:
        said = refine_labels(some.volumes, some.tilt_range_deg, seen, *known, averaged)
    logits, compared = leave_one_out_comparison(
        classifier.head, torch.from_numpy(examples.embedding), torch.from_numpy(examples.label)
    )
    is_spared = ~np.isin(examples.row, rows[is_given & ~said.is_spared])
    is_spared &= examples.boxes.box_size == boxes.box_size  # averages do not fit boxes of another size
    asked, crossed = np.flatnonzero(is_spared), None
    if len(compared):  # with one example of each class there is nothing to compare it with
        is_asked = is_spared[compared.numpy()]
        asked = compared.numpy()[is_asked]
        crossed = log_softmax(logits.numpy()[is_asked] / classifier.card.temperature, axis=1)
    around = boxes.select(boxes.spaced_rows(MAX_CALIBRATION_PARTICLES))
    spared = examples.boxes.select(asked)
    return attach_class_averages(classifier, said.averages, around, spared, examples.label[asked], crossed)


def attach_class_averages(
    classifier: Classifier,
    averages: ClassAverages,
    around: SubtomogramSource,
    spared: SubtomogramSource,
    label: Int[np.ndarray, " m"],
    crossed: Float[np.ndarray, "m k"] | None,
) -> str:
    """Let a classifier compare particles with averages from now on, and be as sure of that as it should be.

    See `ClassAverages.calibrate`; ``around`` are particles of any kind. Returns why nothing is kept, or an empty text:
    fewer than `LEAST_CLASSES` averages say nothing, and some `name_fewer` right. Where no particle is spared averages
    are taken at their word.
    """
    if averages.known.sum() < MIN_CLASSES:
        return f"fewer than {MIN_CLASSES} classes have {MIN_MEMBERS} particles to make one of"
    if len(label):
        said = predict(classifier, around.volumes, len(around.tilt_range_deg)).probabilities
        spectra, mine = (
            prepare_alignment(boxes.volumes, boxes.tilt_range_deg, classifier.encoder, averages.weight).spectra
            for boxes in (around, spared)
        )
        if crossed is not None and lower_accuracy(averages, mine, label, crossed):
            return LOWER_ACCURACY
        # Of all heads only this one knows how often it is right, about, without a label to spare.
        sure = float(said.max(axis=1).mean()) if isinstance(classifier.head, PLDAHead) else None
        averages.calibrate(np.log(np.maximum(said, 1e-12)), spectra, label, mine, crossed, sure)
    classifier.keep(averages)
    return ""
