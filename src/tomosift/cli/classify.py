"""Write a class, its probability and an embedding for every particle of a set."""

from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from tomosift.cli.inputs import check_spacing, set_grids
from tomosift.cli.terminal import print_message, print_table, progress_bar
from tomosift.compute.embedding import concatenate_results, embed_task, split_into_tasks
from tomosift.compute.engine import Engine, for_each
from tomosift.data.predictions import CLASS, with_predictions
from tomosift.data.set_reader import Subtomograms
from tomosift.data.subtomograms import open_subtomograms
from tomosift.files import written_then_renamed
from tomosift.inference.classifier import Classifier, load_classifier
from tomosift.inference.prediction import Predictions, apply_class_averages, classify_embeddings, predict
from tomosift.io.particles import format_to_write, write_particles
from tomosift.particles import Particles


def command(
    run: Annotated[Path, tyro.conf.Positional],
    subtomograms: Annotated[Path, tyro.conf.Positional],
    /,
    out: Path,
    min_confidence: float | None = None,
    min_similarity: float | None = None,
    drop_unknown: bool = False,
    engine: Annotated[Engine, tyro.conf.arg(name="")] = Engine(),
) -> None:
    """Classify every particle of a set and write the table in the format that the suffix of --out asks for.

    A table that goes back into the format it came from keeps all its columns. Embeddings are written beside it, as
    NAME_embeddings.npy with one row per particle in the order of the table.

    Args:
        run: Folder of a run that names classes, supervised or domain_adversarial.
        subtomograms: Folder of a set.
        out: Particle table to write: .star, .csv, .tbl, a copick configuration (.json) ...
        min_confidence: Answer "unknown" where the best probability is lower; by default what the run was told.
        min_similarity: Answer "unknown" where a particle looks less like any labeled one than this, -1 to 1.
        drop_unknown: Leave particles out whose answer is "unknown".
        engine: Where boxes are looked at, 4,096 to a task.
    """
    format_to_write(out)  # an unknown suffix is better said before the work than after it
    classifier, boxes = load_classifier(run), open_subtomograms(subtomograms)
    predictions = predictions_of(classifier, boxes, run, engine, out.with_name(f"{out.name.split('.')[0]}_parts"))
    card = classifier.card
    classified = with_predictions(
        boxes.particles,
        predictions.probabilities,
        predictions.similarity,
        card.class_names,
        card.min_confidence if min_confidence is None else min_confidence,
        card.min_similarity if min_similarity is None else min_similarity,
    )
    written = write_classified(out, classified, predictions, boxes, drop_unknown)
    show_counts(out, written)


def show_counts(out: Path, written: Particles) -> None:
    """Say how many particles of each class were written."""
    names, counts = np.unique(written.columns[CLASS].astype(str), return_counts=True)
    rows = [[str(name), str(count)] for name, count in zip(names, counts, strict=True)]
    print_table(f"{out}: {len(written)} particles", ["class", "particles"], rows)


def predictions_of(
    classifier: Classifier, boxes: Subtomograms, run: Path, engine: Engine = Engine(), parts: Path | None = None
) -> Predictions:
    """What the model says of every box, with a progress bar; workers of an engine leave their ``parts`` in a folder.

    Raises
    ------
    ValueError
        When the model has no classes, or the set has another voxel spacing than the model was trained at.
    """
    card = classifier.card
    if not card.class_names:
        raise ValueError(
            f"{run} was trained without classes; fine-tune it first: tomosift train supervised --init {run}"
        )
    check_spacing(boxes, run, card.voxel_spacing_angstrom)
    if not len(boxes):
        raise ValueError(f"{boxes.path} is empty; extract particles first")
    if classifier.averages is not None:
        classifier.averages.check_size(boxes.box_size)
    with progress_bar("classify", "boxes") as update:
        if parts is not None and engine.is_shared:
            tasks = split_into_tasks(run, boxes.path, len(boxes), parts)
            for_each(embed_task, tasks, engine, lambda done, total: update(tasks[done - 1].last, len(boxes), ""))
            found = classify_embeddings(classifier, concatenate_results(tasks))
        else:
            found = predict(classifier, boxes.volumes, len(boxes), done=update)
    if classifier.averages is None:
        return found
    with progress_bar("compare with averages", "boxes") as update:
        return apply_class_averages(classifier, found, boxes.volumes, boxes.tilt_range_deg, update)


def write_classified(
    out: Path, classified: Particles, predictions: Predictions, boxes: Subtomograms, drop_unknown: bool = False
) -> Particles:
    """Write table and embeddings; returns the particles that were written."""
    kept = np.flatnonzero(classified.columns["rlnClassNumber"].to_numpy() > 0) if drop_unknown else None
    embeddings = predictions.embeddings if kept is None else predictions.embeddings[kept]
    particles = classified if kept is None else classified.select(kept)
    if not len(particles):
        raise ValueError(
            "every particle is unknown and --drop-unknown leaves none; lower --min-confidence or --min-similarity"
        )
    write_particles(out, particles, voxel_spacing_angstrom=boxes.voxel_spacing_angstrom, grids=set_grids(boxes))
    if out.is_dir() or out.suffix == ".json":
        print_message(f"{out}: picks written; embeddings are not part of a copick project")
        return particles
    beside = out.with_name(f"{out.name.split('.')[0]}_embeddings.npy")
    with written_then_renamed(beside) as temporary, temporary.open("wb") as stream:
        np.save(stream, embeddings)
    return particles
