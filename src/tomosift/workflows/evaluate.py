"""Evaluate a trained run on particles of known class that it did not learn from, and report on it."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tomosift.conventions import UNLABELED
from tomosift.data.labels import label_subtomograms
from tomosift.data.subtomogram_set import Subtomograms, open_subtomograms
from tomosift.errors import FormatError
from tomosift.evaluation.metrics.classification import score
from tomosift.evaluation.report import Comparison, ReportInput, write_report
from tomosift.files import parse_json, read_json
from tomosift.inference.model_files import load_classifier
from tomosift.inference.prediction import Prediction
from tomosift.io.file_content import read_text
from tomosift.methods import LABELED_PARTICLES
from tomosift.particles import Particles
from tomosift.progress import Monitor
from tomosift.train.run import environment
from tomosift.workflows.classify import check_model, predict_with_progress


def evaluate(
    subtomograms: Path | str | Subtomograms,
    model: Path | str,
    out: Path | str,
    *,
    labels: Particles | Path | str | None = None,
    label_column: str | None = None,
    label_tolerance_angstrom: float = 30.0,
    picks_spacing_angstrom: float | None = None,
    compare: Sequence[Path | str] = (),
    title: str = "",
    monitor: Monitor | None = None,
) -> ReportInput:
    """Write an HTML report on a run: accuracy on labeled particles that it did not learn from, or its predictions only.

    Parameters
    ----------
    subtomograms
        The set, or its folder.
    model
        Folder of a run with classes.
    out
        HTML file to write; it is complete in itself.
    labels
        Particles with their true classes, or a table of them; None uses the classes that the set came with.
    label_column, label_tolerance_angstrom
        As in `tomosift.data.labels.label_subtomograms`.
    picks_spacing_angstrom
        Pixel size of the labels, where a table in pixels does not state it.
    compare
        Further runs, evaluated on the same particles.
    title
        Heading of the report.
    monitor
        Shows stages and messages.
    """
    monitor = monitor or Monitor()
    if not isinstance(subtomograms, Subtomograms):
        subtomograms = open_subtomograms(Path(subtomograms))
    if labels is not None:
        subtomograms = label_subtomograms(
            subtomograms, labels, label_column, label_tolerance_angstrom, picks_spacing_angstrom, monitor.message
        )
    report = report_on_run(Path(model), subtomograms, None, [Path(run) for run in compare], title, monitor)
    write_report(Path(out), report)
    return report


def report_on_run(
    run: Path,
    subtomograms: Subtomograms,
    prediction: Prediction | None = None,
    compare: Sequence[Path] = (),
    title: str = "",
    monitor: Monitor | None = None,
    **fields: Any,
) -> ReportInput:
    """The input of a report on a run.

    Parameters
    ----------
    run
        Folder of a run with classes.
    subtomograms
        The set; its labels count as true classes.
    prediction
        For all particles of the set, if it exists; None predicts those that are reported.
    compare
        Further runs, evaluated on the same particles.
    title
        Heading.
    monitor
        Shows the stages.
    fields
        Further fields of `ReportInput`.

    Returns
    -------
    ReportInput
        On all labeled particles that no run learned from. Where there are none, on all particles, without an accuracy.
    """
    monitor = monitor or Monitor()
    classifier = load_classifier(run)
    check_model(classifier, run, subtomograms)
    subtomograms, notes = _hide_unknown_classes(subtomograms, classifier.card.class_names)
    rows, is_evaluated, more_notes = _select_evaluated(subtomograms, (run, *compare))
    part = subtomograms.select(rows)
    if not is_evaluated:
        part = part.with_labels(np.full(len(part), "", dtype=object), classifier.card.class_names)
    predicted = predict_with_progress(classifier, part, monitor) if prediction is None else prediction.select(rows)
    averages = classifier.class_averages
    description = read_json(run / "config.json")
    return ReportInput.from_prediction(
        predicted,
        part,
        classifier.card.class_names,
        title=title or f"{run.name} on {part.path.name}",
        true_label=part.label if is_evaluated else None,
        class_averages=None if averages is None else averages.display_densities(part.box_size),
        comparisons=tuple(_compare(other, part, monitor) for other in compare) if is_evaluated else (),
        labels_per_class=_labels_per_class(run),
        min_confidence=classifier.card.min_confidence,
        min_similarity=classifier.card.min_similarity,
        notes=tuple(notes + more_notes),
        provenance={
            "command": " ".join(["tomosift", *sys.argv[1:]]),
            "run": description,
            "environment": environment(),
            "set": {"path": str(part.path), **{k: v for k, v in part.provenance.items() if k != "tomograms"}},
        },
        seed=int(description.get("seed", 0)),
        **fields,
    )


def _hide_unknown_classes(subtomograms: Subtomograms, class_names: tuple[str, ...]) -> tuple[Subtomograms, list[str]]:
    """The set with labels of the classes of a model alone, and a note on the others."""
    names = subtomograms.particles.class_name.astype(str)
    others = sorted({name for name in names if name} - set(class_names))
    is_other = np.isin(names, others)
    kept = np.where(is_other, "", subtomograms.particles.class_name)
    notes = [f"{is_other.sum()} particles are of classes that the model does not know ({', '.join(others)})."]
    return subtomograms.with_labels(kept, class_names), notes if others else []


def _select_evaluated(subtomograms: Subtomograms, runs: Sequence[Path]) -> tuple[np.ndarray, bool, list[str]]:
    """Rows to report on, whether their true classes are known, and notes on what is left out."""
    learned = {name for run in runs for name in _read_labeled_particles(run)}
    is_new = ~np.isin(subtomograms.particles.particle_id.astype(str), sorted(learned))
    is_known = is_new & (subtomograms.label != UNLABELED)
    if not is_known.any():
        note = "No labeled particle is left to evaluate on, so the report states no accuracy."
        return np.arange(len(subtomograms)), False, [note]
    notes = []
    if (~is_new).any():
        notes.append(f"{(~is_new).sum()} particles whose labels were used for training are left out.")
    return np.flatnonzero(is_known), True, notes


def _read_labeled_particles(run: Path) -> list[str]:
    path = run / LABELED_PARTICLES
    if not path.exists():
        return []
    try:
        return [str(name) for name in read_json(path)]
    except TypeError:
        # Never read as empty: particles of training would then count as held out.
        raise FormatError(path, "content", "damaged", "a JSON list of particles", "train the run again") from None


def _labels_per_class(run: Path) -> int | None:
    """Labels of the rarest class in the training of a run, from its log."""
    log = run / "log.jsonl"
    for line in read_text(log).splitlines() if log.exists() else []:
        entry = parse_json(log, line)
        if isinstance(entry, dict) and entry.get("event") == "labels":
            return int(entry["rarest_class"])
    return None


def _compare(run: Path, subtomograms: Subtomograms, monitor: Monitor) -> Comparison:
    classifier = load_classifier(run)
    check_model(classifier, run, subtomograms)
    prediction = predict_with_progress(classifier, subtomograms, monitor)
    # A run that does not know a class is wrong about its particles; it may know others.
    names = tuple(dict.fromkeys((*subtomograms.class_names, *classifier.card.class_names)))
    index = np.array([names.index(name) for name in classifier.card.class_names])
    tomogram: Any = subtomograms.particles.tomogram
    predicted = index[prediction.probabilities.argmax(axis=1)]
    accuracy = score(subtomograms.label, predicted, names, tomogram).accuracy
    return Comparison(run.name, accuracy.value, accuracy.low, accuracy.high)
