"""The report on particles named by examples."""

import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tomosift.data.subtomograms import Subtomograms
from tomosift.evaluation.report import write_report
from tomosift.evaluation.report.report_input import ReportInput
from tomosift.evaluation.report.support_section import SupportExamples, nearest_examples
from tomosift.inference.classifier import Classifier
from tomosift.inference.heads import PrototypeHead
from tomosift.inference.prediction import MASK_THRESHOLD, ClassPosterior, Predictions, predict_masks
from tomosift.train.run import environment


def write_identify_report(
    out: Path,
    classifier: Classifier,
    asked: Subtomograms,
    predictions: Predictions,
    given: Subtomograms,
    shown: NDArray[np.float32],
    thresholds: tuple[float | None, float | None],
) -> None:
    """Write what the particles ``asked`` were named by the examples ``given``, whose embeddings are ``shown``.

    Classes that the set came with are taken for the truth where a class of that name was enrolled.
    """
    names = classifier.card.class_names
    came_with = asked.particles.class_name.astype(str)
    truth = asked.with_labels(np.where(np.isin(came_with, names), came_with, "").astype(object), names).label
    notes = [f"Classes were made from {len(given)} examples; nothing was trained."]
    if (truth >= 0).any():
        notes.append("True classes are those that the set came with.")
    earlier = len(names) - len(given.class_names)
    if earlier:
        notes.append(f"{earlier} classes were enrolled earlier; their examples are not at hand to be shown.")

    def masks(rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        part = asked.select(rows)
        named = ClassPosterior(predictions.probabilities[rows], part.tilt_range_deg)
        found: Iterable[NDArray[np.float32]] = predict_masks(classifier, part.volumes, len(part), named=named)
        return np.concatenate(list(found)) > MASK_THRESHOLD

    assert isinstance(classifier.head, PrototypeHead)
    min_confidence, min_similarity = thresholds
    report = ReportInput(
        title=f"{asked.path.name} by {len(given)} examples",
        particles=asked.particles,
        probabilities=predictions.probabilities,
        class_names=names,
        true_label=truth if (truth >= 0).any() else None,
        embeddings=predictions.embeddings,
        volumes=asked.volumes,
        averages=None if classifier.averages is None else classifier.averages.pictures(asked.box_size),
        labels_per_class=int(np.bincount(given.label).min()),
        min_confidence=min_confidence,
        similarity=predictions.similarity,
        min_similarity=min_similarity,
        voxel_spacing_angstrom=asked.voxel_spacing_angstrom,
        notes=tuple(notes),
        provenance={"command": " ".join(["tomosift", *sys.argv[1:]]), "environment": environment()},
    )
    support = SupportExamples(
        given.volumes(np.arange(len(given))),
        given.label + earlier,
        nearest_examples(classifier.head, predictions.embeddings, shown),
        masks if classifier.decoder is not None else None,
    )
    write_report(out, report, support)
