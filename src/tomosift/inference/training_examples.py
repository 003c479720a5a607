"""What a classifier learns from: labeled particles, pseudo-labels of others, and class averages of both."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, Int64
from scipy.special import log_softmax

from tomosift.averaging.alignment_input import prepare_alignment
from tomosift.averaging.multireference_alignment import (
    MAX_CALIBRATION_PARTICLES,
    AlignmentResult,
    lowers_accuracy,
    refine_labels,
)
from tomosift.data.labels import apply_pseudo_labels, choose_unlabeled_rows, find_rows, is_member
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.inference.class_average_classifier import AttachedAverages, attach_class_averages
from tomosift.inference.classifier import Classifier
from tomosift.inference.model_files import shipped_decoder
from tomosift.inference.prediction import embed_volumes, predict_by_embeddings
from tomosift.learning.linear_probe import fit_linear_probe, leave_one_out_logits
from tomosift.learning.plda import PLDA
from tomosift.learning.pseudo_labels import assign_pseudo_labels, out_of_fold_logits
from tomosift.models.embedder import Embedder
from tomosift.progress import Progress, ignore_progress

MAX_PSEUDO_LABELED = 5000
"""Unlabeled particles among which pseudo-labels are assigned; a larger graph costs minutes and adds little."""


class EmbeddedSet:
    """Embeddings of a set by one embedder, each computed when it is first needed.

    Parameters
    ----------
    embedder
        Whose weights do not change meanwhile.
    subtomograms
        The set.
    """

    def __init__(self, embedder: Embedder, subtomograms: Subtomograms) -> None:
        self.embedder, self.subtomograms = embedder, subtomograms
        self._embedding = np.zeros((len(subtomograms), embedder.encoder.embedding_size), dtype=np.float32)
        self._is_embedded = np.zeros(len(subtomograms), dtype=bool)

    def embed(self, rows: Int[np.ndarray, " b"]) -> Float[np.ndarray, "b e"]:
        """Embeddings of these rows."""
        missing = rows[~self._is_embedded[rows]]
        if len(missing):
            self._embedding[missing] = embed_volumes(
                self.embedder, lambda part: self.subtomograms.volumes(missing[part]), len(missing)
            )
            self._is_embedded[missing] = True
        return np.asarray(self._embedding[rows])


@dataclass(frozen=True, eq=False)
class TrainingExamples:
    """The particles that a classifier learns from."""

    subtomograms: Subtomograms
    """Labeled particles, by a person or by a pseudo-label."""
    embeddings: Float[np.ndarray, "n e"]
    """Of these, by the encoder before training."""
    labeled: Subtomograms
    """Those labeled by a person."""
    out_of_fold: Float[np.ndarray, "p k"]
    """Logits of these by probes that did not learn from their labels; p is their number, or 0."""
    aligned: Subtomograms | None = None
    """The set whose members were aligned."""
    alignment: AlignmentResult | None = None
    """Class averages; None where there are none, or where they lower the accuracy."""
    pool_size: int = 0
    """Particles among which pseudo-labels were assigned."""
    pseudo_labeled: int = 0
    """Those that got one by their embeddings."""

    @property
    def has_pseudo_labels(self) -> bool:
        """Whether particles take part that no person labeled."""
        return self.subtomograms is not self.labeled


def use_labels(
    labeled: Subtomograms,
    embeddings: Float[np.ndarray, "p e"],
    embedder: Embedder | None,
    needs_out_of_fold: bool,
    progress: Progress = ignore_progress,
) -> TrainingExamples:
    """Learn from the labeled particles alone.

    Parameters
    ----------
    labeled, embeddings
        The p labeled particles and their embeddings.
    embedder
        Prepares the particles for class averages; None computes none.
    needs_out_of_fold
        Also compute out-of-fold logits, to calibrate on.
    progress
        Called with the number of class averages computed.
    """
    classes, count = len(labeled.class_names), len(labeled)
    out_of_fold = np.zeros((0, classes))
    if needs_out_of_fold:
        out_of_fold = leave_one_out_logits(embeddings, labeled.label, classes)
    if embedder is None:
        return TrainingExamples(labeled, embeddings, labeled, out_of_fold)
    prior = np.zeros((count, classes))
    alignment = _align(embedder, labeled, labeled, labeled.label, prior, np.zeros((0, classes)), progress)
    return TrainingExamples(labeled, embeddings, labeled, out_of_fold, labeled, alignment)


def add_pseudo_labels(
    labeled: Subtomograms,
    embedded: EmbeddedSet,
    held_out: Subtomograms,
    plda: PLDA | None,
    is_averaging: bool,
    needs_out_of_fold: bool,
    progress: Progress = ignore_progress,
) -> TrainingExamples:
    """Assign pseudo-labels to unlabeled particles of the same set, and refine them by class averages.

    Parameters
    ----------
    labeled
        Labeled particles, members of the set.
    embedded
        Embeddings of the set.
    held_out
        Particles that take no part.
    plda
        By which particles are compared, if the model to start from has one.
    is_averaging
        Also compute class averages and refine the pseudo-labels by them. Averages that lower the accuracy are dropped,
        and pseudo-labels stay as they were.
    needs_out_of_fold, progress
        As for `use_labels`.
    """
    classes = len(labeled.class_names)
    rows = choose_unlabeled_rows(labeled, embedded.subtomograms, held_out, MAX_PSEUDO_LABELED)
    pool, embeddings = embedded.subtomograms.select(rows), embedded.embed(rows)
    own = embedded.embed(find_rows(labeled, embedded.subtomograms))
    label = assign_pseudo_labels(own, labeled.label, embeddings, classes, plda)
    pseudo_labeled = int((label >= 0).sum())
    out_of_fold = np.zeros((0, classes))
    if needs_out_of_fold:
        out_of_fold = out_of_fold_logits(own, labeled.label, embeddings, classes, plda)
    alignment = None
    if is_averaging:
        probe = fit_linear_probe(embeddings[label >= 0], label[label >= 0], classes)
        prior = log_softmax(probe.logits(embeddings), axis=1)
        alignment = _align(embedded.embedder, pool, labeled, label, prior, out_of_fold, progress)
        label = label if alignment is None else alignment.label
    examples, members = apply_pseudo_labels(pool, label, labeled)
    return TrainingExamples(
        examples, embeddings[members], labeled, out_of_fold, pool, alignment, len(pool), pseudo_labeled
    )


def _align(
    embedder: Embedder,
    subtomograms: Subtomograms,
    labeled: Subtomograms,
    label: Int64[np.ndarray, " n"],
    log_probability: Float[np.ndarray, "n k"],
    out_of_fold: Float[np.ndarray, "p k"],
    progress: Progress,
) -> AlignmentResult | None:
    """Refine labels by multireference alignment; None where averages classify fewer labeled particles right."""
    alignment = prepare_alignment(embedder, subtomograms)
    is_labeled = is_member(subtomograms, labeled)
    result = refine_labels(subtomograms, alignment, label, is_labeled, log_probability, shipped_decoder(), progress)
    row = find_rows(labeled, subtomograms)[: len(out_of_fold)]
    is_held_out = result.is_held_out[row]
    spectra = alignment.spectra.select(torch.from_numpy(row[is_held_out]))
    scores = log_softmax(out_of_fold[is_held_out], axis=1)
    true_label = labeled.label[: len(out_of_fold)][is_held_out]
    return None if lowers_accuracy(result.averages, spectra, true_label, scores) else result


def attach_averages_of(
    examples: TrainingExamples, classifier: Classifier, unlabeled: Subtomograms, held_out: Subtomograms
) -> AttachedAverages:
    """Attach the class averages of the training examples to the classifier trained on them.

    They are calibrated on the held-out particles or, without any, on labeled particles that were not members.

    Parameters
    ----------
    examples
        With an alignment.
    classifier
        Trained on these examples.
    unlabeled
        Particles of any class; the labeled ones stand in where there are none.
    held_out
        Labeled particles that took no part in the training.
    """
    assert examples.alignment is not None
    assert examples.aligned is not None
    labeled = examples.labeled
    background = unlabeled if len(unlabeled) else labeled
    if len(held_out):
        calibration, logits = held_out, predict_by_embeddings(classifier, held_out).logits
    else:
        kept = is_member(labeled, examples.aligned.select(np.flatnonzero(examples.alignment.is_held_out)))
        calibration = labeled.select(np.flatnonzero(kept))
        logits = examples.out_of_fold[kept[: len(examples.out_of_fold)]]
    scores = log_softmax(logits, axis=1) if len(logits) else None
    some = background.select(background.spaced_rows(MAX_CALIBRATION_PARTICLES))
    return attach_class_averages(classifier, examples.alignment.averages, some, calibration, calibration.label, scores)
