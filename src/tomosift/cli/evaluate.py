"""Write an HTML report on a trained run: accuracy, confusion, calibration, embedding map, averages, examples."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from tomosift.cli.classify import predictions_of
from tomosift.cli.inputs import labeled_set
from tomosift.cli.terminal import print_message
from tomosift.conventions import UNLABELED
from tomosift.data.set_reader import Subtomograms
from tomosift.data.subtomograms import open_subtomograms
from tomosift.errors import FormatError
from tomosift.evaluation.metrics.classification import score
from tomosift.evaluation.report import write_report
from tomosift.evaluation.report.report_input import Comparison, ReportInput
from tomosift.inference.classifier import load_classifier
from tomosift.inference.prediction import Predictions
from tomosift.methods import SEEN
from tomosift.train.run import environment, read_json


def command(
    run: Annotated[Path, tyro.conf.Positional],
    subtomograms: Annotated[Path, tyro.conf.Positional],
    /,
    out: Path,
    labels: Path | None = None,
    label_column: str | None = None,
    label_tolerance: float = 30.0,
    compare: tuple[Path, ...] = (),
    title: str = "",
) -> None:
    """Judge a run on the particles whose class is known and that it was not trained on; without any, show its answers.

    Args:
        run: Folder of a supervised run.
        subtomograms: Folder of a set.
        out: HTML file to write; it needs nothing else to be opened.
        labels: Particle table with the true classes; without it the classes that the set came with.
        label_column: Column of that table to take the class from.
        label_tolerance: Farthest distance in Angstrom between a label and its particle.
        compare: Further runs to judge on the same particles.
        title: Heading of the report.
    """
    boxes = open_subtomograms(subtomograms)
    if labels is not None:
        boxes = labeled_set(boxes, labels, label_column, None, label_tolerance)
    report = report_of(run, boxes, compare, title)
    write_report(out, report)
    print_message(f"{out}: report on {len(report.particles)} particles written")


def report_of(run: Path, boxes: Subtomograms, compare: Sequence[Path] = (), title: str = "") -> ReportInput:
    """The report's input: predictions for all unseen particles of known class, or for all where none is known."""
    classifier = load_classifier(run)
    names = classifier.card.class_names
    others = sorted({name for name in boxes.particles.class_name.astype(str) if name} - set(names))
    notes = []
    if others:
        hidden = np.isin(boxes.particles.class_name.astype(str), others)
        boxes = boxes.with_labels(np.where(hidden, "", boxes.particles.class_name))
        notes.append(f"{hidden.sum()} particles are of classes that the model does not know ({', '.join(others)}).")
    boxes = boxes.with_labels(boxes.particles.class_name, names)
    seen = {name for folder in (run, *compare) for name in _seen(folder)}
    fresh = ~np.isin(boxes.particles.particle_id.astype(str), sorted(seen))
    known = fresh & (boxes.label != UNLABELED)
    if known.any():
        if (~fresh).any():
            notes.append(f"{(~fresh).sum()} particles that were labeled for training are left out.")
        boxes = boxes.select(known)
    else:
        notes.append("No particle of known class is left to judge by, so nothing is said about accuracy.")
        boxes = boxes.with_labels(np.full(len(boxes), "", dtype=object), names)
    predictions = predictions_of(classifier, boxes, run)
    described = read_json(run / "config.json")
    return ReportInput(
        title=title or f"{run.name} on {boxes.path.name}",
        particles=boxes.particles,
        probabilities=predictions.probabilities,
        class_names=names,
        true_label=boxes.label if known.any() else None,
        embeddings=predictions.embeddings,
        volumes=boxes.volumes,
        averages=None if classifier.averages is None else classifier.averages.pictures(boxes.box_size),
        comparisons=tuple(_comparison(other, boxes) for other in compare) if known.any() else (),
        labels_per_class=_labels_per_class(run),
        min_confidence=classifier.card.min_confidence or None,
        similarity=predictions.similarity,
        min_similarity=classifier.card.min_similarity if classifier.card.min_similarity > -1 else None,
        voxel_spacing_angstrom=boxes.voxel_spacing_angstrom,
        notes=tuple(notes),
        provenance={
            "command": " ".join(["tomosift", *sys.argv[1:]]),
            "run": described,
            "environment": environment(),
            "set": {"path": str(boxes.path), **{k: v for k, v in boxes.provenance.items() if k != "tomograms"}},
        },
        seed=int(described.get("seed", 0)),
    )


def _seen(run: Path) -> list[str]:
    import json

    path = run / SEEN
    if not path.exists():
        return []
    try:
        return [str(name) for name in json.loads(path.read_text())]
    except (ValueError, TypeError):
        # Never taken for empty: particles of training would then count as held out.
        raise FormatError(path, "content", "damaged", "a JSON list of particles", "train the run again") from None


def _labels_per_class(run: Path) -> int | None:
    for line in (run / "log.jsonl").read_text().splitlines() if (run / "log.jsonl").exists() else []:
        if '"event": "labels"' in line:
            import json

            return int(json.loads(line)["rarest_class"])
    return None


def _comparison(run: Path, boxes: Subtomograms) -> Comparison:
    classifier = load_classifier(run)
    predictions: Predictions = predictions_of(classifier, boxes, run)
    # A run that does not know a class is wrong about its particles; it may know others.
    names = tuple(dict.fromkeys((*boxes.class_names, *classifier.card.class_names)))
    place = np.array([names.index(name) for name in classifier.card.class_names])
    tomogram: Any = boxes.particles.tomogram
    predicted = place[predictions.probabilities.argmax(axis=1)]
    accuracy = score(boxes.label, predicted, names, tomogram).accuracy
    return Comparison(run.name, accuracy.value, accuracy.low, accuracy.high)
