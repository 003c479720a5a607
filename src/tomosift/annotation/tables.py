"""Labels out of a store into a particle table, and into it from one."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tomosift.annotation.consensus import ConsensusTracker, majority_rows
from tomosift.annotation.store import JUNK, Store
from tomosift.data.labels import transfer_labels
from tomosift.data.subtomograms import Subtomograms
from tomosift.io.particles import write_particles
from tomosift.particles import Grid, Particles


@dataclass(frozen=True)
class Exported:
    """What a table of labels holds."""

    counts: dict[str, int]
    """Class -> particles."""
    left_out: int
    """Particles that people named differently, with no majority."""


def write_labels(path: Path, votes: ConsensusTracker, boxes: Subtomograms, grids: Mapping[str, Grid]) -> Exported:
    """Write the particles that have a majority with their class, in the format that the suffix asks for.

    Ties are left out and counted. Particles that nobody named, or that all were unsure of, are not in the table.

    Raises
    ------
    ValueError
        No particle has a label, or the suffix belongs to no format.
    """
    answers = votes.answers()
    rows, names = majority_rows(answers)
    if not len(rows):
        raise ValueError("no particle has a label yet; label some first")
    labeled = replace(boxes.particles.select(rows), class_name=names)
    write_particles(path, labeled, voxel_spacing_angstrom=boxes.voxel_spacing_angstrom, grids=grids)
    kinds, counts = np.unique(names.astype(str), return_counts=True)
    counted = {str(kind): int(count) for kind, count in zip(kinds, counts, strict=True)}
    return Exported(counted, len(answers.names) - len(rows))


def take_labels(store: Store, boxes: Subtomograms, labels: Particles, annotator: str, tolerance: float = 30.0) -> int:
    """Answer for every particle that the table names a class of, on behalf of ``annotator``; how many.

    What the annotator has said already is not said again, so that the same table may be given twice.

    Raises
    ------
    ValueError
        See `tomosift.data.labels.transfer_labels`; or a class has a name that none can have.
    """
    given = transfer_labels(boxes.particles, labels, tolerance)
    known = {row: votes.get(annotator, "") for row, votes in ConsensusTracker(store).answers().names.items()}
    taken = 0
    for name in dict.fromkeys(str(name) for name in given if name):
        if name != JUNK:
            store.add_class(name, annotator)
        rows = [int(row) for row in np.flatnonzero(given == name) if known.get(int(row)) != name]
        if rows:
            kind, class_name = ("junk", "") if name == JUNK else ("label", name)
            taken += store.answer(annotator, f"table-{secrets.token_hex(8)}", rows, kind, class_name)  # type: ignore[arg-type]
    return taken
