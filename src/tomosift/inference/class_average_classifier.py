"""Class averages as part of a classifier: computed from its own predictions, calibrated, and kept if they help."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.special import log_softmax

from tomosift.averaging.alignment_input import prepare_alignment
from tomosift.averaging.class_averages import ClassAverages
from tomosift.averaging.multireference_alignment import (
    LOWER_ACCURACY,
    MAX_CALIBRATION_PARTICLES,
    MIN_CLASSES,
    MIN_MEMBERS,
    lowers_accuracy,
    refine_labels,
)
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.inference.classifier import Classifier
from tomosift.inference.heads import PLDAHead, PrototypeHead
from tomosift.inference.model_files import shipped_decoder
from tomosift.inference.prediction import classify_embeddings, predict_by_embeddings
from tomosift.inference.prototypes import compare_leave_one_out
from tomosift.progress import Monitor

MAX_TO_AVERAGE = 5000
"""Particles of a set among which the most confident members of each class are chosen; more would add little."""


@dataclass(frozen=True, eq=False)
class SupportSet:
    """The labeled examples of an enrolment of classes."""

    subtomograms: Subtomograms
    embedding: Float[np.ndarray, "m e"]
    label: Int[np.ndarray, " m"]
    """Index of the class in the classifier."""
    row: Int[np.ndarray, " m"]
    """Row in the set that is to be classified, -1 where the example is not part of it."""


@dataclass(frozen=True, eq=False)
class AttachedAverages:
    """A classifier with class averages, or the reason why it has none."""

    classifier: Classifier
    reason: str = ""
    """Why class averages were not attached; empty if they were."""


def add_class_averages(
    classifier: Classifier,
    subtomograms: Subtomograms,
    embedding: Float[np.ndarray, "n e"],
    support: SupportSet,
    monitor: Monitor | None = None,
) -> AttachedAverages:
    """Compute class averages from a set that a prototype classifier classified, and attach them.

    Parameters
    ----------
    classifier
        With classes of an enrolment.
    subtomograms, embedding
        Set of n subtomograms, and their embeddings.
    support
        Labeled examples; their labels stay.
    monitor
        Shows the stages.
    """
    monitor = monitor or Monitor()
    head = classifier.head
    assert isinstance(head, PrototypeHead)
    is_member = support.row >= 0
    rows = np.union1d(subtomograms.spaced_rows(MAX_TO_AVERAGE), support.row[is_member])
    part, is_labeled = subtomograms.select(rows), np.isin(rows, support.row)
    probability = classify_embeddings(classifier, embedding[rows]).probabilities
    label = probability.argmax(axis=1)
    label[np.searchsorted(rows, support.row[is_member])] = support.label[is_member]
    with monitor.stage("prepare alignment", "subtomograms") as progress:
        alignment = prepare_alignment(classifier.embedder, part, progress=progress)
    log_probability = np.log(np.maximum(probability, 1e-12))
    with monitor.stage("class averages", "classes") as progress:
        result = refine_labels(part, alignment, label, is_labeled, log_probability, shipped_decoder(), progress)
    logits, compared = compare_leave_one_out(head, torch.from_numpy(support.embedding), torch.from_numpy(support.label))
    is_held_out = ~np.isin(support.row, rows[is_labeled & ~result.is_held_out])
    is_held_out &= support.subtomograms.box_size == subtomograms.box_size  # averages have one box size
    held_out, out_of_fold = np.flatnonzero(is_held_out), None
    if len(compared):  # one example of each class leaves nothing to compare it with
        is_used = is_held_out[compared.numpy()]
        held_out = compared.numpy()[is_used]
        out_of_fold = log_softmax(logits.numpy()[is_used] / classifier.card.temperature, axis=1)
    background = subtomograms.select(subtomograms.spaced_rows(MAX_CALIBRATION_PARTICLES))
    return attach_class_averages(
        classifier,
        result.averages,
        background,
        support.subtomograms.select(held_out),
        support.label[held_out],
        out_of_fold,
    )


def attach_class_averages(
    classifier: Classifier,
    averages: ClassAverages,
    background: Subtomograms,
    held_out: Subtomograms,
    label: Int[np.ndarray, " m"],
    out_of_fold: Float[np.ndarray, "m k"] | None,
) -> AttachedAverages:
    """Attach class averages to a classifier after calibrating them; see `ClassAverages.calibrate`.

    Parameters
    ----------
    classifier
        That classified the members of the averages.
    averages
        Computed from them.
    background
        Particles of any class.
    held_out, label
        Labeled particles that are not members of the averages. Without any, averages are not calibrated.
    out_of_fold
        Log probabilities of these by a model that did not learn from their labels; None where there are none.

    Returns
    -------
    AttachedAverages
        Averages are not attached where fewer than `MIN_CLASSES` classes have one, or where they classify fewer of the
        labeled particles right than embeddings do.
    """
    if averages.has_average.sum() < MIN_CLASSES:
        return AttachedAverages(classifier, f"fewer than {MIN_CLASSES} classes have {MIN_MEMBERS} members")
    if len(label):
        probability = predict_by_embeddings(classifier, background).probabilities
        spectra, held_out_spectra = (
            prepare_alignment(classifier.embedder, part, averages.weight).spectra for part in (background, held_out)
        )
        if out_of_fold is not None and lowers_accuracy(averages, held_out_spectra, label, out_of_fold):
            return AttachedAverages(classifier, LOWER_ACCURACY)
        # Of all heads only PLDA estimates its own accuracy without labels that were held out.
        accuracy = float(probability.max(axis=1).mean()) if isinstance(classifier.head, PLDAHead) else None
        log_probability = np.log(np.maximum(probability, 1e-12))
        averages.calibrate(log_probability, spectra, label, held_out_spectra, out_of_fold, accuracy)
    return AttachedAverages(classifier.with_class_averages(averages))
