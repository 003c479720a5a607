"""Classify a set by a trained model: one prediction, written as a particle table with the embeddings beside it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tomosift.compute.embedding import concatenate_results, embed_task, split_into_tasks
from tomosift.compute.engine import Engine, for_each
from tomosift.conventions import check_same_spacing
from tomosift.data.predictions import INPUT_NUMBER, NUMBER, with_predictions
from tomosift.data.subtomogram_set import Subtomograms, open_subtomograms
from tomosift.files import written_then_renamed
from tomosift.inference.classifier import Classifier
from tomosift.inference.model_files import load_classifier
from tomosift.inference.prediction import (
    Prediction,
    apply_class_averages,
    classify_embeddings,
    predict,
)
from tomosift.io.particles import format_to_write, write_particles
from tomosift.particles import Particles
from tomosift.progress import Monitor


@dataclass(frozen=True, eq=False)
class Classification:
    """The outcome of classifying a set."""

    particles: Particles
    """With columns for class, confidence, similarity and probabilities."""
    prediction: Prediction
    """For all particles of the set."""
    table: Path
    """File of the particles."""


def check_model(classifier: Classifier, model: Path, subtomograms: Subtomograms) -> None:
    """Refuse a set that a model cannot classify.

    Parameters
    ----------
    classifier, model
        The model, and where it comes from, for the message.
    subtomograms
        The set.

    Raises
    ------
    ValueError
        The model has no classes, the set is empty, or voxel spacing or box size do not match.
    """
    if not classifier.card.class_names:
        raise ValueError(
            f"{model} was trained without classes; fine-tune it first: tomosift train supervised --model {model}"
        )
    check_same_spacing(
        subtomograms.voxel_spacing_angstrom,
        classifier.card.voxel_spacing_angstrom,
        str(subtomograms.path),
        f"{model} was trained at",
    )
    if not len(subtomograms):
        raise ValueError(f"{subtomograms.path} is empty; extract particles first")
    if classifier.class_averages is not None:
        classifier.class_averages.check_box_size(subtomograms.box_size)


def predict_with_progress(
    classifier: Classifier,
    subtomograms: Subtomograms,
    monitor: Monitor,
    model: Path | None = None,
    engine: Engine | None = None,
    parts: Path | None = None,
) -> Prediction:
    """Predict the classes of a set as `predict` does, with its stages shown.

    Parameters
    ----------
    classifier
        Model with classes.
    subtomograms
        The set.
    monitor
        Shows the stages.
    model, engine, parts
        With an engine that shares work: where the workers load the model from, and the folder for their results.
    """
    with monitor.stage("embed", "subtomograms") as progress:
        if model is None or engine is None or parts is None or not engine.is_shared:
            if classifier.class_averages is None:
                return predict(classifier, subtomograms, progress)
            embedded = predict(classifier.replace(class_averages=None), subtomograms, progress)
        else:
            tasks = split_into_tasks(model, subtomograms.path, len(subtomograms), parts)

            def report(done: int, total: int, note: str = "") -> None:
                progress(tasks[done - 1].last, len(subtomograms), note)

            for_each(embed_task, tasks, engine, report)
            embedded = classify_embeddings(classifier, concatenate_results(tasks))
    if classifier.class_averages is None:
        return embedded
    with monitor.stage("align to class averages", "subtomograms") as progress:
        return apply_class_averages(classifier, embedded, subtomograms, progress)


def tabulate(
    prediction: Prediction,
    classifier: Classifier,
    subtomograms: Subtomograms,
    min_confidence: float | None = None,
    min_similarity: float | None = None,
) -> Particles:
    """Particles of a set with a prediction as columns.

    Parameters
    ----------
    prediction, classifier, subtomograms
        What was predicted, by which model, for which set.
    min_confidence, min_similarity
        Thresholds of "unknown"; None uses those of the model.
    """
    card = classifier.card
    return with_predictions(
        subtomograms.particles,
        prediction.probabilities,
        prediction.similarity,
        card.class_names,
        card.min_confidence if min_confidence is None else min_confidence,
        card.min_similarity if min_similarity is None else min_similarity,
    )


def write_classification(
    out: Path,
    particles: Particles,
    prediction: Prediction,
    subtomograms: Subtomograms,
    drop_unknown: bool = False,
    monitor: Monitor | None = None,
) -> Particles:
    """Write a table of classified particles, and their embeddings as ``NAME_embeddings.npy`` beside it.

    Parameters
    ----------
    out
        Table; its suffix names the format. A copick project gets no embeddings.
    particles, prediction, subtomograms
        Of the same n particles.
    drop_unknown
        Leave out particles classified as "unknown".

    Returns
    -------
    Particles
        Those that were written.

    Raises
    ------
    ValueError
        No particle is left to write.
    """
    if INPUT_NUMBER in particles.columns and monitor is not None:
        monitor.message(f"note: {NUMBER} that the picks came with is kept as {INPUT_NUMBER}")
    embeddings = prediction.embeddings
    if drop_unknown:
        rows = np.flatnonzero(particles.columns[NUMBER].to_numpy() > 0)
        particles, embeddings = particles.select(rows), embeddings[rows]
    if not len(particles):
        raise ValueError(
            "every particle is unknown and --drop-unknown leaves none; lower --min-confidence or --min-similarity"
        )
    write_particles(
        out, particles, voxel_spacing_angstrom=subtomograms.table_spacing_angstrom, grids=subtomograms.grids
    )
    if out.is_dir() or out.suffix == ".json":
        if monitor is not None:
            monitor.message(f"{out}: picks written; embeddings are not part of a copick project")
        return particles
    beside = out.with_name(f"{out.name.split('.')[0]}_embeddings.npy")
    with written_then_renamed(beside) as temporary, temporary.open("wb") as stream:
        np.save(stream, embeddings)
    return particles


def classify(
    subtomograms: Path | str | Subtomograms,
    model: Path | str,
    out: Path | str,
    *,
    min_confidence: float | None = None,
    min_similarity: float | None = None,
    drop_unknown: bool = False,
    engine: Engine | None = None,
    monitor: Monitor | None = None,
) -> Classification:
    """Classify a set by a trained model and write the table.

    Parameters
    ----------
    subtomograms
        The set, or its folder.
    model
        Run or folder of a model that has classes.
    out
        Particle table to write. One that goes back into the format it came from keeps all its columns.
    min_confidence, min_similarity
        Thresholds of "unknown"; None uses those of the model.
    drop_unknown
        Leave out particles classified as "unknown".
    engine
        Where subtomograms are embedded; None embeds them in this process.
    monitor
        Shows stages and messages.

    Returns
    -------
    Classification
        Classified particles, the prediction and the file.

    Raises
    ------
    ValueError
        The model cannot classify this set, see `check_model`.
    """
    out, model, monitor = Path(out), Path(model), monitor or Monitor()
    format_to_write(out, has_classes=True)  # an unknown suffix is refused before the work
    classifier = load_classifier(model)
    if not isinstance(subtomograms, Subtomograms):
        subtomograms = open_subtomograms(Path(subtomograms))
    check_model(classifier, model, subtomograms)
    parts = out.with_name(f"{out.name.split('.')[0]}_parts")
    prediction = predict_with_progress(classifier, subtomograms, monitor, model, engine, parts)
    particles = tabulate(prediction, classifier, subtomograms, min_confidence, min_similarity)
    written = write_classification(out, particles, prediction, subtomograms, drop_unknown, monitor)
    return Classification(written, prediction, out)
