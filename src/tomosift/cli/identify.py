"""Name particles by a few examples of each class, without training."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import tyro
from numpy.typing import NDArray

from tomosift.cli.classify import show_counts, write_classified
from tomosift.cli.identify_report import write_identify_report
from tomosift.cli.inputs import labeled_set
from tomosift.cli.masks import check_masks, write_masks
from tomosift.cli.terminal import print_message, progress_bar
from tomosift.data.labels import find_rows
from tomosift.data.predictions import with_predictions
from tomosift.data.subtomograms import Subtomograms, open_subtomograms
from tomosift.data.training_sets import SPACING_TOLERANCE
from tomosift.inference.class_average_classifier import SupportSet, add_class_averages
from tomosift.inference.classifier import Classifier, load_classifier, save_classifier
from tomosift.inference.prediction import apply_class_averages, classify_embeddings, embed
from tomosift.inference.prototypes import enroll_classes
from tomosift.io.particles import format_to_write
from tomosift.models.encoder import BOXES_TO_PREPARE


def command(
    subtomograms: Annotated[Path, tyro.conf.Positional],
    /,
    examples: Path,
    out: Path,
    model: Path = Path("general"),
    label_column: str | None = None,
    label_tolerance: float = 30.0,
    min_confidence: float = 0.0,
    min_similarity: float = 0.0,
    averages: Literal["auto", "never"] = "auto",
    masks: Path | None = None,
    crf: bool = False,
    report: Path | None = None,
    save: Path | None = None,
) -> None:
    """Name every particle of a set by one to five examples of each class; nothing is trained.

    The model need not have seen any of the classes. The examples themselves are left out of the answer when they are
    particles of the set. Embeddings are written beside the table, one row per particle.

    Args:
        subtomograms: Folder of a set.
        examples: Particle table with a class for a few particles of that set, or another set that came with classes.
        out: Particle table to write: .star, .csv, .tbl, a copick configuration (.json) ...
        model: Shipped model, pretraining run, or a folder that --save wrote, whose classes are kept and added to.
        label_column: Column of the table to take the class from.
        label_tolerance: Farthest distance in Angstrom between an example and its particle.
        min_confidence: Answer "unknown" where the best probability is lower.
        min_similarity: Answer "unknown" where a particle looks less like any class than this; 0 is as far off as a
            particle of the set drawn at random.
        averages: Also turn the particles of each class onto each other, and name and outline particles by how well the
            averages fit: more are right, in minutes instead of seconds for 10,000 boxes; auto: with an encoder that
            looks for the middle of a particle, where at least two classes have ten particles.
        masks: Where to write which voxels are each particle's: .mrcs, a stack in the order of the table, or .zarr, a
            folder of OME-Zarr volumes in the frame of the tomograms, whose voxels hold the number of the class.
        crf: Let a dense random field smooth the masks along what the boxes show.
        report: HTML file to write: examples, particles beside the nearest of them with outlines, map, averages; and
            accuracy where the set came with classes of the same names.
        save: Folder to keep the classes in, for `classify` and for adding more.
    """
    format_to_write(out)  # an unknown suffix is better said before the work than after it
    boxes, base = open_subtomograms(subtomograms), load_classifier(model)
    if masks is not None:
        check_masks(masks, base, boxes)
    given = _examples(examples, boxes, label_column, label_tolerance)
    if not base.card.class_names:
        # Whoever pretrained on other boxes has other spacing and picks; what knows classes is not to be moved any more.
        base.encoder.prepare(torch.from_numpy(boxes.volumes(boxes.spaced_rows(BOXES_TO_PREPARE))))
        base.card = replace(base.card, voxel_spacing_angstrom=boxes.voxel_spacing_angstrom, box_size=boxes.box_size)
    _require_spacing(boxes, base.card.voxel_spacing_angstrom, f"{boxes.path}", f"the classes of {model}")
    with progress_bar("identify", "boxes") as update:
        everything = embed(base.encoder, boxes.volumes, len(boxes), done=update)
    shown = embed(base.encoder, given.volumes, len(given))
    classifier = enroll_classes(base, given.class_names, shown, given.label, everything)
    first = len(base.card.class_names)
    of_classes = SupportSet(given, shown, first + given.label, find_rows(given, boxes))
    is_example = np.isin(np.arange(len(boxes)), of_classes.row)
    if is_example.any():
        print_message(f"{is_example.sum()} particles of the set are examples and are left out of the answer")
    asked = boxes.select(~is_example)
    if not len(asked):
        raise ValueError(f"every particle of {boxes.path} is an example; extract more particles")
    predictions = classify_embeddings(classifier, everything[~is_example])
    if averages == "auto":
        _keep_averages(classifier, boxes, everything, of_classes)
    if classifier.averages is not None:
        with progress_bar("compare with averages", "boxes") as update:
            predictions = apply_class_averages(classifier, predictions, asked.volumes, asked.tilt_range_deg, update)
    if save is not None:
        save_classifier(save, classifier)
    card = classifier.card
    classified = with_predictions(
        asked.particles,
        predictions.probabilities,
        predictions.similarity,
        card.class_names,
        min_confidence,
        min_similarity,
    )
    written = write_classified(out, classified, predictions, asked)
    show_counts(out, written)
    if report is not None:
        thresholds = (min_confidence or None, min_similarity if min_similarity > -1 else None)
        write_identify_report(report, classifier, asked, predictions, given, shown, thresholds)
        print_message(f"{report}: report on {len(asked)} particles written")
    if masks is not None:
        write_masks(
            masks,
            classifier,
            asked,
            written.columns["rlnClassNumber"].to_numpy(np.int64),
            predictions.probabilities,
            crf,
        )


def _keep_averages(
    classifier: Classifier, boxes: Subtomograms, embeddings: NDArray[np.float32], examples: SupportSet
) -> None:
    """Let the model keep averages of what it names the particles of the set, or say why there are none."""
    why = f"the encoder {classifier.card.encoder} does not look for the middle of a particle"
    if classifier.encoder.centers:
        why = add_class_averages(classifier, boxes, embeddings, examples, progress_bar)
    if why:
        print_message(f"no averages: {why}")


def _examples(path: Path, boxes: Subtomograms, column: str | None, tolerance: float) -> Subtomograms:
    """Labeled particles of a table that matches the set, or of a set of their own."""
    if path.is_dir() and (path / "set.json").exists():
        given = open_subtomograms(path)
        _require_spacing(given, boxes.voxel_spacing_angstrom, f"the examples {path}", f"the particles {boxes.path}")
    else:
        given = labeled_set(boxes, path, column, None, tolerance)
    given = given.select(given.labeled_rows)
    if not len(given):
        raise ValueError(f"{path} names no class for any particle; label one or more of each")
    return given.with_labels(given.particles.class_name)


def _require_spacing(boxes: Subtomograms, spacing: float, of: str, other: str) -> None:
    if abs(boxes.voxel_spacing_angstrom - spacing) > SPACING_TOLERANCE * spacing:
        raise ValueError(
            f"voxel spacing of {of} is {boxes.voxel_spacing_angstrom:.2f} A, that of {other} {spacing:.2f} A; "
            f"extract with --voxel-spacing {spacing:g}"
        )
