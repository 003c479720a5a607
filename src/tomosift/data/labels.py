"""Labels for particles: which class each one has, when labels and picks come in two files or sets."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomosift.data.checks.label_matching import find_labeled_rows
from tomosift.data.predictions import probability_column
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.io.particles import read_particles
from tomosift.io.particles.class_values import clean_class_names, name_numbered_classes
from tomosift.particles import Grid, Particles
from tomosift.progress import ignore_message

Report = Callable[[str], None]


def read_labels(
    path: Path,
    column: str | None,
    voxel_spacing_angstrom: float | None,
    grids: Mapping[str, Grid],
    report: Report = ignore_message,
) -> Particles:
    """Read particles with their classes from a label file.

    Parameters
    ----------
    path
        Particle table of any known format.
    column
        Column to take the class from; None takes the one of the format.
    voxel_spacing_angstrom
        Pixel edge of the coordinates, where a table in pixels does not state it.
    grids
        Voxel grids by tomogram name, for formats whose coordinates count from the center.
    report
        Called with each sentence on what was taken for granted.

    Raises
    ------
    ValueError
        The table has no such column, or names no class.
    """
    labels = read_particles(path, voxel_spacing_angstrom=voxel_spacing_angstrom, grids=grids)
    if column is not None:
        labels = _take_classes(labels, column, str(path))
    for note in labels.notes:
        report(f"note: {path}: {note}")
    counts = count_classes(labels)
    if not counts:
        raise ValueError(
            f"{path} names no class among {len(labels)} particles; add a column tomosiftClass (STAR) or class (CSV), "
            "or name the column with --label-column"
        )
    columns = [probability_column(name) for name in counts]
    if twice := sorted(name for name in counts if columns.count(probability_column(name)) > 1):
        raise ValueError(f"{path}: classes {' and '.join(map(repr, twice))} differ in blanks alone; rename one of them")
    if single := [name for name, count in counts.items() if count == 1]:
        report(f"note: {path}: {', '.join(single[:8])} {'has' if len(single) == 1 else 'have'} one label only")
    return labels


def count_classes(labels: Particles) -> dict[str, int]:
    """Return the number of labels of each class, in the order of their names."""
    names, counts = np.unique([str(name) for name in labels.class_name if name], return_counts=True)
    return dict(zip(names.tolist(), counts.tolist(), strict=True))


def _take_classes(labels: Particles, column: str, source: str) -> Particles:
    """Take the class names from another column."""
    if column not in labels.columns:
        raise ValueError(f"{source} has no column {column}; it has {', '.join(map(str, labels.columns.columns))}")
    class_name, notes = clean_class_names(name_numbered_classes(column, labels.columns[column]))
    # Notes on the classes of the other column say nothing about these.
    others = [note for note in labels.notes if note not in clean_class_names(labels.class_name)[1]]
    return replace(labels, class_name=class_name, notes=(*others, *notes))


def label_subtomograms(
    subtomograms: Subtomograms,
    labels: Particles | Path | str,
    column: str | None = None,
    tolerance_angstrom: float = 30.0,
    voxel_spacing_angstrom: float | None = None,
    report: Report = ignore_message,
) -> Subtomograms:
    """Return the set with the labels of a table, and no others.

    Parameters
    ----------
    labels
        Particles with classes, or the file that holds them.
    column
        Column to take the class from; None takes the one of the format.
    tolerance_angstrom
        Largest distance between a label and its particle; see `transfer_labels`.
    voxel_spacing_angstrom
        Pixel edge of the coordinates, where a table in pixels does not state it.
    report
        Called with each sentence on what was taken for granted.

    Raises
    ------
    ValueError
        The table has no such column, or see `transfer_labels`.
    """
    if not isinstance(labels, Particles):
        labels = read_labels(Path(labels), column, voxel_spacing_angstrom, subtomograms.grids, report)
    elif column is not None:
        labels = _take_classes(labels, column, labels.source or "the label table")
    return subtomograms.with_labels(transfer_labels(subtomograms.particles, labels, tolerance_angstrom, report))


def transfer_labels(
    particles: Particles, labels: Particles, tolerance_angstrom: float = 30.0, report: Report = ignore_message
) -> NDArray[Any]:
    """Return the class name of each particle, empty where no label belongs to it.

    A label belongs to the particle of the same name where both tables name their particles (``rlnTomoParticleName`` or
    ``rlnImageName``) and all these particles are at the positions of their labels. Otherwise it belongs to the nearest
    particle of the same tomogram within the tolerance; programs count names anew, so names alone do not decide.

    Parameters
    ----------
    particles
        The n particles to label.
    labels
        Particles with classes; those without one are ignored.
    tolerance_angstrom
        Largest distance between a label and its particle.
    report
        Called with a sentence where labels are matched by position although they have names.

    Returns
    -------
    NDArray
        (n,) class names.

    Raises
    ------
    ValueError
        The labels hold no class, or one of them belongs to no particle, or two of different class to the same one.

    Examples
    --------
    >>> import numpy as np
    >>> from tomosift.data.labels import transfer_labels
    >>> from tomosift.particles import Particles
    >>> picks = Particles.create(["TS_01", "TS_01"], np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 200.0]]))
    >>> labels = Particles.create(["TS_01"], np.array([[0.0, 10.0, 195.0]]), class_name=["ribosome"])
    >>> transfer_labels(picks, labels).tolist()
    ['', 'ribosome']
    """
    labels = labels.select(np.flatnonzero(labels.class_name.astype(str) != ""))
    if not len(labels):
        raise ValueError("the label file names no class; add a column tomosiftClass (STAR) or class (CSV)")
    rows = find_labeled_rows(particles, labels, tolerance_angstrom, report)
    class_name = np.full(len(particles), "", dtype=object)
    for name, row in zip(map(str, labels.class_name), rows, strict=True):
        if class_name[row] not in ("", name):
            raise ValueError(
                f"particle {particles.particle_id[row]} is labeled {class_name[row]} and {name}; keep one of the two"
            )
        class_name[row] = name
    return class_name


def is_member(subtomograms: Subtomograms, others: Subtomograms) -> NDArray[np.bool_]:
    """Return for each particle whether it is also among the others, (n,).

    Ids are unique within one set on disk only, so no particle of one set is a member of another.
    """
    ids = others.particles.particle_id if others.path == subtomograms.path else np.zeros(0, dtype=object)
    # Strings sort; objects would be compared one by one.
    return np.isin(subtomograms.particles.particle_id.astype(str), ids.astype(str))


def find_rows(subtomograms: Subtomograms, others: Subtomograms) -> NDArray[np.int64]:
    """Return the row of each particle among the others, (n,), -1 where it is none of them; see `is_member`."""
    row = np.full(len(subtomograms), -1)
    members = is_member(subtomograms, others)
    row_of = {name: row for row, name in enumerate(others.particles.particle_id)}
    row[members] = [row_of[name] for name in subtomograms.particles.particle_id[members]]
    return row


def choose_unlabeled_rows(
    labeled: Subtomograms, unlabeled: Subtomograms, held_out: Subtomograms, count: int
) -> NDArray[np.int64]:
    """Return rows of ``unlabeled`` for semi-supervised training, ascending.

    These are at most ``count`` evenly spaced rows that are not held out, and all rows of labeled particles.
    """
    labeled_rows, held_out_rows = (np.flatnonzero(is_member(unlabeled, part)) for part in (labeled, held_out))
    return np.union1d(np.setdiff1d(unlabeled.spaced_rows(count), held_out_rows), labeled_rows)


def apply_pseudo_labels(
    subtomograms: Subtomograms, label: NDArray[np.int64], labeled: Subtomograms
) -> tuple[Subtomograms, NDArray[np.int64]]:
    """Return the particles that have a pseudo-label, labeled so, and their rows.

    Parameters
    ----------
    label
        (n,) pseudo-label of each particle, -1 for none.
    labeled
        Particles with true labels, which they keep; its class names are those of the result.
    """
    label, members = label.copy(), is_member(subtomograms, labeled)
    label_of = dict(zip(labeled.particles.particle_id, labeled.label, strict=True))
    label[members] = [label_of[name] for name in subtomograms.particles.particle_id[members]]
    rows = np.flatnonzero(label >= 0)
    names = np.array(labeled.class_names, dtype=object)[label[rows]]
    return subtomograms.select(rows).with_labels(names, labeled.class_names), rows
