"""From picks, tomograms and a few labels to a class for every particle: the whole job in one go."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from tomosift import methods
from tomosift.cli.classify import predictions_of, write_classified
from tomosift.cli.evaluate import report_of
from tomosift.cli.extract import summary
from tomosift.cli.inputs import labeled_set, read_labels, tomograms_of
from tomosift.cli.terminal import print_message, progress_bar, step_note
from tomosift.conventions import WORKING_VOXEL_SPACING_ANGSTROM
from tomosift.data.checks.preflight import preflight
from tomosift.data.extraction.extract import extract
from tomosift.data.extraction.tomogram_sources import grids_by_name
from tomosift.data.extraction.tomograms import Tomogram
from tomosift.data.labels import transfer_labels
from tomosift.data.predictions import with_predictions
from tomosift.data.set_reader import Subtomograms
from tomosift.data.training_sets import TrainingSets
from tomosift.evaluation.report import write_report
from tomosift.inference.classifier import GENERAL, SPACING_TOLERANCE, load_classifier
from tomosift.io.particles import read_particles
from tomosift.methods.contrastive import Config as Contrastive
from tomosift.methods.supervised import Config as Supervised
from tomosift.particles import Particles

Pretraining = Literal["auto", "always", "never"]


@dataclass(frozen=True)
class Boxes:
    """How boxes are cut."""

    voxel_spacing: float = WORKING_VOXEL_SPACING_ANGSTROM
    """Voxel edge of the boxes in Angstrom; tomograms are rescaled to it."""
    box_size: int = 32
    """Box edge in voxels; 1.5 to 2.5 particle diameters are good."""
    inverted: bool = False
    """Protein is dark in these tomograms."""
    tilt_range: tuple[float, float] | None = None
    """Lowest and highest tilt angle in degrees, where no file says."""
    picks_spacing: float | None = None
    """Pixel edge of the picks in Angstrom, where a table in pixels does not say."""
    tomogram_spacing: float | None = None
    """Voxel edge of the tomograms in Angstrom, where their headers are wrong or silent."""


@dataclass(frozen=True)
class Labels:
    """Where the classes come from."""

    column: str | None = None
    """Column of the label table to take the class from."""
    tolerance: float = 30.0
    """Farthest distance in Angstrom between a label and its particle."""
    truth: Path | None = None
    """Particle table with the true classes, if they are known: the report then says how good the answers are."""


def command(
    picks: Annotated[Path, tyro.conf.Positional],
    /,
    tomograms: tuple[Path, ...],
    labels: Path,
    out: Path,
    boxes: Annotated[Boxes, tyro.conf.arg(name="")] = Boxes(),
    label: Labels = Labels(),
    min_confidence: float = 0.0,
    min_similarity: float = -1.0,
    pretraining: Pretraining = "auto",
    pretrain: Contrastive = Contrastive(),
    finetune: Supervised = Supervised(),
    compare_scratch: bool = False,
    seed: int = 0,
) -> None:
    """Check, extract, pretrain where that helps, fine-tune, classify and report. Every stage is kept and an interrupted
    job goes on.

    OUT then holds ``subtomograms/`` (the set), ``classifier/`` and, after pretraining, ``pretrained/`` (runs),
    ``classified.star`` (or the format of PICKS; all its columns survive) and ``report.html``.

    Args:
        picks: Particle table of any known format.
        tomograms: Tomogram files, or a folder, a RELION tomograms.star or a copick configuration.
        labels: Particle table with a class for a few of the picks; about five of every class are enough to start.
        out: Folder for everything that is made.
        boxes: How boxes are cut.
        label: Where classes come from.
        min_confidence: Answer "unknown" where the best probability is lower.
        min_similarity: Answer "unknown" where a particle looks less like any labeled one than this, -1 to 1.
        pretraining: Pretrain on all particles before labels are looked at; auto: where boxes have another voxel spacing
            than the shipped model general knows, without averages of classes, or with settings of pretraining.
        pretrain: Settings of contrastive pretraining.
        finetune: Settings of fine-tuning.
        compare_scratch: Also train the same network from scratch on the same labels, and show both in the report.
        seed: Seed of everything random.
    """
    found = tomograms_of(tomograms, boxes.tomogram_spacing, boxes.inverted, boxes.tilt_range)
    particles = read_particles(picks, voxel_spacing_angstrom=boxes.picks_spacing, grids=grids_by_name(found))
    _check(particles, found, boxes)
    given = read_labels(labels, label.column, boxes.picks_spacing, grids_by_name(found))
    # A wrong label file is better said before the work.
    classes = {str(name) for name in transfer_labels(particles, given, label.tolerance) if name}
    if len(classes) < 2:
        raise ValueError(
            f"{labels} names only {', '.join(classes)}, expected at least 2 classes; label some of another"
        )
    subtomograms = _extracted(particles, found, boxes, out)
    labeled = labeled_set(subtomograms, labels, label.column, boxes.picks_spacing, label.tolerance)
    print_message(_count_labels(labeled))
    start = finetune.init or GENERAL
    if _pretrains(pretraining, pretrain, finetune, boxes.voxel_spacing):
        start = out / "pretrained"
        _fit("pretrain", "contrastive", pretrain, _sets(labeled, subtomograms), start, seed)
    finetune = replace(finetune, min_confidence=min_confidence, min_similarity=min_similarity)
    tuned = replace(finetune, init=start)
    _fit("fine-tune", "supervised", tuned, _sets(labeled, subtomograms), out / "classifier", seed)
    compare: tuple[Path, ...] = ()
    if compare_scratch:
        scratch = replace(finetune, init=None, tuning="finetune", encoder=pretrain.encoder)
        _fit("from scratch", "supervised", scratch, _sets(labeled, subtomograms), out / "from scratch", seed)
        compare = (out / "from scratch",)
    table = _write_table(picks, subtomograms, out)
    judged = labeled
    if label.truth is not None:
        judged = labeled_set(subtomograms, label.truth, label.column, boxes.picks_spacing, label.tolerance)
    report = report_of(out / "classifier", judged, compare, title=f"{picks.name}: {len(subtomograms)} particles sorted")
    write_report(out / "report.html", report)
    print_message(f"{table}: a class for every particle\n{out / 'report.html'}: the report; open it in a browser")


def _pretrains(asked: Pretraining, pretrain: Contrastive, finetune: Supervised, voxel_spacing: float) -> bool:
    if asked != "auto":
        return asked == "always"
    # By embeddings alone it adds up to four points, but averages of classes came out four to eight points worse after
    # it; see experiments/LOG.md.
    knows = load_classifier(finetune.init or GENERAL).card.voxel_spacing_angstrom
    is_known = abs(voxel_spacing - knows) <= SPACING_TOLERANCE * knows
    return not is_known or finetune.averages == "never" or pretrain != Contrastive()


def _check(particles: Particles, found: dict[str, Tomogram], boxes: Boxes) -> None:
    findings = preflight(particles, found, box_size=boxes.box_size, voxel_spacing_angstrom=boxes.voxel_spacing)
    for finding in findings:
        if finding.level != "ok":
            print_message(f"{finding.level}: {finding.sentence}")
    errors = [finding.sentence for finding in findings if finding.level == "error"]
    if errors:
        raise ValueError(f"the check found {len(errors)} errors; the first: {errors[0]}")


def _extracted(particles: Particles, found: dict[str, Tomogram], boxes: Boxes, out: Path) -> Subtomograms:
    with progress_bar("extract", "boxes") as update:
        made = extract(
            particles,
            found,
            out / "subtomograms",
            voxel_spacing_angstrom=boxes.voxel_spacing,
            box_size=boxes.box_size,
            workers=os.cpu_count() or 1,
            progress=update,
        )
    print_message(summary(made))
    return made


def _sets(labeled: Subtomograms, everything: Subtomograms) -> TrainingSets:
    import numpy as np

    return TrainingSets(labeled.select(labeled.labeled_rows), everything, labeled.select(np.zeros(0, dtype=np.int64)))


def _count_labels(labeled: Subtomograms) -> str:
    counts = [f"{name} {int((labeled.label == k).sum())}" for k, name in enumerate(labeled.class_names)]
    return f"labels: {len(labeled.labeled_rows)} of {len(labeled)} particles ({', '.join(counts)})"


def _fit(what: str, method: str, config: Any, data: TrainingSets, folder: Path, seed: int) -> None:
    with progress_bar(what, "steps") as update:
        methods.train(
            method,
            config,
            data,
            folder,
            seed,
            lambda step, steps, losses: update(step, steps, step_note(losses)),
        )


def _write_table(picks: Path, subtomograms: Subtomograms, out: Path) -> Path:
    classifier = load_classifier(out / "classifier")
    predictions = predictions_of(classifier, subtomograms, out / "classifier")
    card = classifier.card
    classified = with_predictions(
        subtomograms.particles,
        predictions.probabilities,
        predictions.similarity,
        card.class_names,
        card.min_confidence,
        card.min_similarity,
    )
    suffix = ".star" if picks.is_dir() or picks.suffix == ".json" else picks.name[len(picks.name.split(".")[0]) :]
    table = out / f"classified{suffix.removesuffix('.gz')}"
    write_classified(table, classified, predictions, subtomograms)
    return table
