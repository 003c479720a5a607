"""Labels for particles: which class each one has, when labels and picks come in two files or sets."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomosift.data.subtomogram_set import Subtomograms
from tomosift.io.particles import read_particles
from tomosift.io.tomogram_names import match_names
from tomosift.particles import Grid, Particles

_NAME_COLUMNS = ("rlnTomoParticleName", "rlnImageName", "tomosiftParticleId")


def read_labels(
    path: Path, column: str | None, voxel_spacing_angstrom: float | None, grids: Mapping[str, Grid]
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

    Raises
    ------
    ValueError
        The table has no such column.
    """
    labels = read_particles(path, voxel_spacing_angstrom=voxel_spacing_angstrom, grids=grids)
    return labels if column is None else _take_classes(labels, column, str(path))


def _take_classes(labels: Particles, column: str, source: str) -> Particles:
    """Take the class names from another column."""
    if column not in labels.columns:
        raise ValueError(f"{source} has no column {column}; it has {', '.join(map(str, labels.columns.columns))}")
    return replace(labels, class_name=np.array([str(value) for value in labels.columns[column]], dtype=object))


def label_subtomograms(
    subtomograms: Subtomograms,
    labels: Particles | Path | str,
    column: str | None = None,
    tolerance_angstrom: float = 30.0,
    voxel_spacing_angstrom: float | None = None,
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

    Raises
    ------
    ValueError
        The table has no such column, or see `transfer_labels`.
    """
    if not isinstance(labels, Particles):
        labels = read_labels(Path(labels), column, voxel_spacing_angstrom, subtomograms.grids)
    elif column is not None:
        labels = _take_classes(labels, column, labels.source or "the label table")
    return subtomograms.with_labels(transfer_labels(subtomograms.particles, labels, tolerance_angstrom))


def transfer_labels(particles: Particles, labels: Particles, tolerance_angstrom: float = 30.0) -> NDArray[Any]:
    """Return the class name of each particle, empty where no label belongs to it.

    A label belongs to the particle of the same name where both tables name their particles (``rlnTomoParticleName`` or
    ``rlnImageName``), otherwise to the nearest particle of the same tomogram within the tolerance.

    Parameters
    ----------
    particles
        The n particles to label.
    labels
        Particles with classes; those without one are ignored.
    tolerance_angstrom
        Largest distance between a label and its particle.

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
    labeled = np.flatnonzero(labels.class_name.astype(str) != "")
    if not len(labeled):
        raise ValueError("the label file names no class; add a column tomosiftClass (STAR) or class (CSV)")
    rows = _match_by_name(particles, labels, labeled)
    if rows is None:
        rows = _match_by_position(particles, labels, labeled, tolerance_angstrom)
    class_name = np.full(len(particles), "", dtype=object)
    for label, row in zip(labeled, rows, strict=True):
        name = str(labels.class_name[label])
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


def _match_by_name(particles: Particles, labels: Particles, labeled: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Row of the particle of each label, or None where the two tables do not name their particles alike."""
    for column in _NAME_COLUMNS:
        if column in particles.columns and column in labels.columns:
            row_of = {str(name): row for row, name in enumerate(particles.columns[column])}
            names = [str(name) for name in labels.columns[column].iloc[labeled]]
            if len(row_of) == len(particles) and all(name in row_of for name in names):
                return np.array([row_of[name] for name in names], dtype=np.int64)
    return None


def _match_by_position(
    particles: Particles, labels: Particles, labeled: NDArray[np.int64], tolerance_angstrom: float
) -> NDArray[np.int64]:
    """Row of the nearest particle to each label, in the same tomogram and within the tolerance."""
    from scipy.spatial import cKDTree

    def is_finite(position: NDArray[np.float64]) -> NDArray[np.bool_]:
        return np.asarray(np.isfinite(position).all(axis=1))

    names = [str(name) for name in labels.tomogram[labeled]]
    match = match_names(names, {str(name): [] for name in particles.tomogram})
    particle_tomogram = particles.tomogram.astype(str)
    label_tomogram = np.array([match.key_of.get(name, name) for name in names], dtype=object)
    rows = np.full(len(labeled), -1)
    distances = np.full(len(labeled), np.inf)
    for tomogram in np.unique(label_tomogram.astype(str)):
        mine = np.flatnonzero((particle_tomogram == tomogram) & is_finite(particles.position_zyx_angstrom))
        theirs = np.flatnonzero((label_tomogram == tomogram) & is_finite(labels.position_zyx_angstrom[labeled]))
        if len(mine) and len(theirs):
            tree = cKDTree(particles.position_zyx_angstrom[mine])
            distances[theirs], nearest = tree.query(labels.position_zyx_angstrom[labeled[theirs]])
            rows[theirs] = mine[nearest]
    far = np.flatnonzero(~(distances <= tolerance_angstrom))
    if len(far):
        first = far[0]
        has_nearest = np.isfinite(distances[first])
        distance = f"{distances[first]:.0f} A away" if has_nearest else "in another tomogram or at an unknown position"
        raise ValueError(
            f"{len(far)} of {len(labeled)} labels belong to no particle within {tolerance_angstrom:g} A; the first is "
            f"{labels.particle_id[labeled[first]]}, whose nearest particle is {distance}; check that labels and picks "
            "use the same tomogram names, units and center, or raise --label-tolerance"
        )
    return rows
