"""Identify particles from one to five labels of each class; nothing is trained."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tomosift.conventions import check_same_spacing
from tomosift.data.labels import label_subtomograms
from tomosift.data.predictions import EXAMPLE
from tomosift.data.subtomogram_set import Subtomograms, open_subtomograms
from tomosift.evaluation.report import ReportInput, SupportExamples, nearest_examples, write_report
from tomosift.inference.classifier import Classifier
from tomosift.inference.heads import PrototypeHead
from tomosift.inference.masks import MASK_THRESHOLD, predict_masks
from tomosift.inference.model_files import load_classifier, save_classifier
from tomosift.inference.prediction import Prediction, apply_class_averages, classify_embeddings
from tomosift.io.particles import format_to_write
from tomosift.particles import Particles
from tomosift.progress import Monitor
from tomosift.train.run import environment
from tomosift.workflows.classify import Classification, tabulate, write_classification
from tomosift.workflows.enrollment import Enrollment, enroll
from tomosift.workflows.masks import check_masks, write_masks


@dataclass(frozen=True, eq=False)
class IdentifyResult:
    """The outcome of `identify`."""

    classification: Classification
    """Of all particles; labeled examples have their own class."""
    subtomograms: Subtomograms
    """Their subtomograms."""
    classifier: Classifier


def identify(
    subtomograms: Path | str | Subtomograms,
    labels: Particles | Path | str | Subtomograms,
    out: Path | str,
    *,
    model: Path | str = "general",
    label_column: str | None = None,
    label_tolerance_angstrom: float = 30.0,
    picks_spacing_angstrom: float | None = None,
    min_confidence: float = 0.0,
    min_similarity: float = -1.0,
    class_averages: Literal["auto", "never"] = "auto",
    masks: Path | str | None = None,
    crf: bool = False,
    report: Path | str | None = None,
    save: Path | str | None = None,
    monitor: Monitor | None = None,
) -> IdentifyResult:
    """Classify every particle of a set by one to five labeled examples of each class; nothing is trained.

    The model need not know any of the classes. Labeled particles of the set keep their class, with confidence 1 and
    with 1 in the column ``tomosiftIsExample``.

    Parameters
    ----------
    subtomograms
        The set, or its folder.
    labels
        Particles of the set with a class, a table of them, or another set that came with classes, or its folder.
    out
        Particle table to write; embeddings are written beside it.
    model
        Shipped model, pretraining run, or a folder that ``save`` wrote, whose classes are kept and added to.
    label_column, label_tolerance_angstrom
        As in `tomosift.data.labels.label_subtomograms`.
    picks_spacing_angstrom
        Pixel size of the labels, where a table in pixels does not state it.
    min_confidence, min_similarity
        Particles below either are classified as "unknown".
    class_averages
        Auto aligns the particles of each class and compares particles with the class averages as well, where at least
        two classes have ten particles and the averages do not lower the accuracy.
    masks
        Where to write the masks of the particles: ``.mrcs`` or a ``.zarr`` folder, see `write_masks`.
    crf
        Smooth the masks by a dense random field.
    report
        HTML file to write.
    save
        Folder for the model with its classes.
    monitor
        Shows stages and messages.

    Returns
    -------
    IdentifyResult
        Classified particles, their set and the model.

    Raises
    ------
    ValueError
        No particle is labeled, all are, or voxel spacings differ.

    Notes
    -----
    Source: Snell et al. 2017, "Prototypical networks for few-shot learning".
    """
    out, monitor = Path(out), monitor or Monitor()
    format_to_write(out, has_classes=True)  # an unknown suffix is refused before the work
    if not isinstance(subtomograms, Subtomograms):
        subtomograms = open_subtomograms(Path(subtomograms))
    base = load_classifier(Path(model))
    if masks is not None:
        check_masks(Path(masks), base, subtomograms)
    support = _open_support(
        labels, subtomograms, label_column, label_tolerance_angstrom, picks_spacing_angstrom, monitor
    )
    if base.card.class_names:
        check_same_spacing(
            subtomograms.voxel_spacing_angstrom,
            base.card.voxel_spacing_angstrom,
            str(subtomograms.path),
            f"the classes of {model} have",
        )
    enrollment = enroll(base, subtomograms, support, class_averages == "auto", monitor)
    if enrollment.reason:
        monitor.message(f"no class averages: {enrollment.reason}")
    classifier = enrollment.classifier.replace_card(min_confidence=min_confidence, min_similarity=min_similarity)
    part, prediction = _predict_unlabeled(classifier, subtomograms, enrollment, monitor)
    if save is not None:
        save_classifier(Path(save), classifier)
    everything, is_example = _with_examples(prediction, classifier, enrollment)
    particles = tabulate(everything, classifier, subtomograms).with_columns({EXAMPLE: is_example.astype(int)})
    written = write_classification(out, particles, everything, subtomograms, monitor=monitor)
    if report is not None:
        write_report(Path(report), _report(classifier, part, prediction, enrollment))
        monitor.message(f"{report}: report on {len(part)} particles; open it in a browser")
    if masks is not None:
        write_masks(Path(masks), classifier, subtomograms, everything, written, crf, monitor)
    return IdentifyResult(Classification(written, everything, out), subtomograms, classifier)


def _open_support(
    labels: Particles | Path | str | Subtomograms,
    subtomograms: Subtomograms,
    column: str | None,
    tolerance_angstrom: float,
    picks_spacing_angstrom: float | None,
    monitor: Monitor,
) -> Subtomograms:
    """Labeled particles of a table that matches the set, or of a set of their own."""
    if isinstance(labels, Path | str) and (Path(labels) / "set.json").exists():
        labels = open_subtomograms(Path(labels))
    if isinstance(labels, Subtomograms):
        support, source = labels, str(labels.path)
        check_same_spacing(
            support.voxel_spacing_angstrom,
            subtomograms.voxel_spacing_angstrom,
            f"the labeled set {source}",
            f"the set {subtomograms.path} has",
        )
    else:
        support = label_subtomograms(
            subtomograms, labels, column, tolerance_angstrom, picks_spacing_angstrom, monitor.message
        )
        source = "the label table" if isinstance(labels, Particles) else str(labels)
    support = support.select(support.labeled_rows)
    if not len(support):
        raise ValueError(f"{source} has no class for any particle; label one or more of each class")
    return support


def _predict_unlabeled(
    classifier: Classifier, subtomograms: Subtomograms, enrollment: Enrollment, monitor: Monitor
) -> tuple[Subtomograms, Prediction]:
    """The particles that are no labeled examples, and their prediction from the embeddings of the enrolment."""
    is_example = np.isin(np.arange(len(subtomograms)), enrollment.support.row)
    if is_example.any():
        monitor.message(f"{is_example.sum()} particles of the set are labeled examples and keep their class")
    part = subtomograms.select(~is_example)
    if not len(part):
        raise ValueError(f"every particle of {subtomograms.path} is a labeled example; extract more particles")
    prediction = classify_embeddings(classifier, enrollment.embeddings[~is_example])
    if classifier.class_averages is None:
        return part, prediction
    with monitor.stage("align to class averages", "subtomograms") as progress:
        return part, apply_class_averages(classifier, prediction, part, progress)


def _with_examples(
    prediction: Prediction, classifier: Classifier, enrollment: Enrollment
) -> tuple[Prediction, NDArray[np.bool_]]:
    """The prediction for the whole set, in which labeled examples have their own class, and which rows they are."""
    row, label = enrollment.support.row, enrollment.support.label
    is_example = np.isin(np.arange(len(enrollment.embeddings)), row)
    everything = classify_embeddings(classifier, enrollment.embeddings)
    logits, probabilities = everything.logits.copy(), everything.probabilities.copy()
    similarity = everything.similarity.copy()
    logits[~is_example], probabilities[~is_example] = prediction.logits, prediction.probabilities
    similarity[~is_example] = prediction.similarity
    probabilities[is_example], similarity[is_example] = 0, 1
    probabilities[row[row >= 0], label[row >= 0]] = 1
    return Prediction(everything.embeddings, logits, probabilities, similarity), is_example


def _report(classifier: Classifier, part: Subtomograms, prediction: Prediction, enrollment: Enrollment) -> ReportInput:
    """Classes that the set came with count as true where a class of that name was enrolled."""
    names, support = classifier.card.class_names, enrollment.support.subtomograms
    came_with = part.particles.class_name.astype(str)
    truth = part.with_labels(np.where(np.isin(came_with, names), came_with, "").astype(object), names).label
    is_known = bool((truth >= 0).any())
    notes = [f"Classes were enrolled from {len(support)} labeled examples; nothing was trained."]
    if is_known:
        notes.append("True classes are those that the set came with.")
    if earlier := len(names) - len(support.class_names):
        notes.append(f"{earlier} classes were enrolled earlier; their examples are not available to be shown.")

    def masks(rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        masks = predict_masks(classifier, part.select(rows), prediction.probabilities[rows])
        return np.concatenate(list(masks)) > MASK_THRESHOLD

    head, averages = classifier.head, classifier.class_averages
    assert isinstance(head, PrototypeHead)
    return ReportInput.from_prediction(
        prediction,
        part,
        names,
        title=f"{part.path.name} by {len(support)} labeled examples",
        true_label=truth if is_known else None,
        class_averages=None if averages is None else averages.display_densities(part.box_size),
        labels_per_class=int(np.bincount(support.label).min()),
        min_confidence=classifier.card.min_confidence,
        min_similarity=classifier.card.min_similarity,
        notes=tuple(notes),
        provenance={"command": " ".join(["tomosift", *sys.argv[1:]]), "environment": environment()},
        support=SupportExamples(
            support.volumes(np.arange(len(support))),
            enrollment.support.label,
            nearest_examples(head, prediction.embeddings, enrollment.support.embedding),
            masks if classifier.decoder is not None else None,
        ),
    )
