"""Export of the labels in a store as a particle table, and import of labels from one."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tomosift.annotation.consensus import ConsensusTracker, list_majorities
from tomosift.annotation.store import JUNK, Store
from tomosift.data.labels import transfer_labels
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.io.particles import write_particles
from tomosift.particles import Grid, Particles


@dataclass(frozen=True)
class ExportSummary:
    """Contents of an exported table of labels."""

    counts: dict[str, int]
    """Class -> particles."""
    ties: int
    """Particles that were left out because annotators disagree without a majority."""


def write_labels(
    path: Path, tracker: ConsensusTracker, subtomograms: Subtomograms, grids: Mapping[str, Grid]
) -> ExportSummary:
    """Write the particles whose class has a majority, in the format that the suffix of the path selects.

    Ties are left out and counted. Particles without a class, or only marked as unsure, are not in the table.

    Parameters
    ----------
    path
        Table to write.
    tracker
        Follows the store of labels.
    subtomograms
        Set that is labeled.
    grids
        Voxel grid of each tomogram, for formats that need it.

    Raises
    ------
    ValueError
        No particle has a label, or no format has the suffix.
    """
    consensus = tracker.update()
    rows, names = list_majorities(consensus)
    if not len(rows):
        raise ValueError("no particle has a label yet; label some first")
    labeled = replace(subtomograms.particles.select(rows), class_name=names)
    write_particles(path, labeled, voxel_spacing_angstrom=subtomograms.table_spacing_angstrom, grids=grids)
    classes, counts = np.unique(names.astype(str), return_counts=True)
    by_class = {str(name): int(count) for name, count in zip(classes, counts, strict=True)}
    return ExportSummary(by_class, len(consensus.annotations) - len(rows))


def import_labels(
    store: Store, subtomograms: Subtomograms, labels: Particles, annotator: str, tolerance_angstrom: float = 30.0
) -> int:
    """Add an answer of an annotator for every particle that has a class in a table; return the number of answers.

    Answers that the annotator has given before are not added again, so importing a table twice changes nothing.

    Raises
    ------
    ValueError
        A class name is not allowed, or see `tomosift.data.labels.transfer_labels`.
    """
    class_name = transfer_labels(subtomograms.particles, labels, tolerance_angstrom)
    annotations = ConsensusTracker(store).update().annotations
    current = {row: classes.get(annotator, "") for row, classes in annotations.items()}
    added = 0
    for name in dict.fromkeys(str(name) for name in class_name if name):
        if name != JUNK:
            store.add_class(name, annotator)
        rows = [int(row) for row in np.flatnonzero(class_name == name) if current.get(int(row)) != name]
        if rows:
            kind, answer_class = ("junk", "") if name == JUNK else ("label", name)
            added += store.add_answer(annotator, f"table-{secrets.token_hex(8)}", rows, kind, answer_class)  # type: ignore[arg-type]
    return added
