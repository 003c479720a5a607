"""Bringing labels to particles: whose class is it, when labels and picks come in two files?"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomosift.conventions import UNKNOWN_CLASS
from tomosift.data.extraction.tomograms import canonical_name
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.particles import Particles

_NAMES = ("rlnTomoParticleName", "rlnImageName", "tomosiftParticleId")


def check_class_name(name: str) -> None:
    """Refuse a name that no table could hold, or that means something else there.

    Raises
    ------
    ValueError
        It is empty, holds a blank or a quote sign, or is the answer for particles of no class.
    """
    if not name or name == UNKNOWN_CLASS or any(character.isspace() or character in "'\"" for character in name):
        raise ValueError(f"{name!r} cannot name a class: no blanks, no quote signs, and not {UNKNOWN_CLASS}")


def transfer_labels(particles: Particles, labels: Particles, tolerance_angstrom: float = 30.0) -> NDArray[Any]:
    """Class name of each particle, empty where no label belongs to it.

    A label belongs to the particle of the same name where both files name their particles (``rlnTomoParticleName`` or
    ``rlnImageName``), otherwise to the nearest particle of the same tomogram within the tolerance.

    Raises
    ------
    ValueError
        The labels hold no class, or one of them belongs to no particle, or two of different class to the same one.
    """
    named = np.flatnonzero(labels.class_name.astype(str) != "")
    if not len(named):
        raise ValueError("the label file names no class; add a column tomosiftClass (STAR) or class (CSV)")
    rows = _by_name(particles, labels, named)
    if rows is None:
        rows = _by_place(particles, labels, named, tolerance_angstrom)
    class_name = np.full(len(particles), "", dtype=object)
    for label, row in zip(named, rows, strict=True):
        name = str(labels.class_name[label])
        if class_name[row] not in ("", name):
            raise ValueError(
                f"particle {particles.particle_id[row]} is labeled {class_name[row]} and {name}; keep one of the two"
            )
        class_name[row] = name
    return class_name


def is_member(boxes: Subtomograms, others: Subtomograms) -> NDArray[np.bool_]:
    """Which particles are also among the others; of two sets none are, as names mean something within one only."""
    known = others.particles.particle_id if others.path == boxes.path else np.zeros(0, dtype=object)
    # Strings sort; objects would be compared one by one.
    return np.isin(boxes.particles.particle_id.astype(str), known.astype(str))


def find_rows(boxes: Subtomograms, others: Subtomograms) -> NDArray[np.int64]:
    """The row of each particle among the others, -1 where it is none of them; see `are_among`."""
    row = np.full(len(boxes), -1)
    found = is_member(boxes, others)
    name_to_row = {name: row for row, name in enumerate(others.particles.particle_id)}
    row[found] = [name_to_row[name] for name in boxes.particles.particle_id[found]]
    return row


def spaced_rows_with(
    labeled: Subtomograms, unlabeled: Subtomograms, held_out: Subtomograms, at_most: int
) -> NDArray[np.int64]:
    """Rows of unlabeled particles to learn from beside the labeled ones: these, and others that are not held out."""
    told, spared = (np.flatnonzero(is_member(unlabeled, part)) for part in (labeled, held_out))
    return np.union1d(np.setdiff1d(unlabeled.spaced_rows(at_most), spared), told)


def with_pseudo_labels(
    boxes: Subtomograms, label: NDArray[np.int64], told: Subtomograms
) -> tuple[Subtomograms, NDArray[np.int64]]:
    """The particles whose label is not -1, labeled so, and their rows; those that were told their class keep it."""
    label, known = label.copy(), is_member(boxes, told)
    given = dict(zip(told.particles.particle_id, told.label, strict=True))
    label[known] = [given[name] for name in boxes.particles.particle_id[known]]
    rows = np.flatnonzero(label >= 0)
    names = np.array(told.class_names, dtype=object)[label[rows]]
    return boxes.select(rows).with_labels(names, told.class_names), rows


def _by_name(particles: Particles, labels: Particles, named: NDArray[np.int64]) -> NDArray[np.int64] | None:
    for column in _NAMES:
        if column in particles.columns and column in labels.columns:
            place = {str(name): row for row, name in enumerate(particles.columns[column])}
            wanted = [str(name) for name in labels.columns[column].iloc[named]]
            if len(place) == len(particles) and all(name in place for name in wanted):
                return np.array([place[name] for name in wanted], dtype=np.int64)
    return None


def _by_place(
    particles: Particles, labels: Particles, named: NDArray[np.int64], tolerance_angstrom: float
) -> NDArray[np.int64]:
    from scipy.spatial import cKDTree

    def placed(position: NDArray[np.float64]) -> NDArray[np.bool_]:
        return np.asarray(np.isfinite(position).all(axis=1))

    core = np.array([canonical_name(str(name)) for name in particles.tomogram], dtype=object)
    rows = np.full(len(named), -1)
    distances = np.full(len(named), np.inf)
    wanted = np.array([canonical_name(str(name)) for name in labels.tomogram[named]], dtype=object)
    for tomogram in np.unique(wanted.astype(str)):
        mine = np.flatnonzero((core == tomogram) & placed(particles.position_zyx_angstrom))
        theirs = np.flatnonzero((wanted == tomogram) & placed(labels.position_zyx_angstrom[named]))
        if len(mine) and len(theirs):
            tree = cKDTree(particles.position_zyx_angstrom[mine])
            distances[theirs], nearest = tree.query(labels.position_zyx_angstrom[named[theirs]])
            rows[theirs] = mine[nearest]
    far = np.flatnonzero(~(distances <= tolerance_angstrom))
    if len(far):
        first = far[0]
        found = (
            f"{distances[first]:.0f} A away"
            if np.isfinite(distances[first])
            else "in another tomogram or at an unknown place"
        )
        raise ValueError(
            f"{len(far)} of {len(named)} labels belong to no particle within {tolerance_angstrom:g} A; the first is "
            f"{labels.particle_id[named[first]]}, whose nearest particle is {found}; check that labels and picks use "
            "the same tomogram names, units and centre, or raise --label-tolerance"
        )
    return rows
