"""Which particle each label means: by name where names and positions agree, else by position."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tomosift.io.tomogram_names import NameMatch, match_names
from tomosift.particles import Particles

_NAME_COLUMNS = ("rlnTomoParticleName", "rlnImageName", "tomosiftParticleId")


def find_labeled_rows(
    particles: Particles, labels: Particles, tolerance_angstrom: float, report: Callable[[str], None]
) -> NDArray[np.int64]:
    """Return the row of the particle of each label, (m,).

    Parameters
    ----------
    particles, labels
        The n particles and the m labels.
    tolerance_angstrom
        Largest distance between a label and its particle.
    report
        Called with a sentence where labels are matched by position although they have names.

    Raises
    ------
    ValueError
        A label belongs to no particle; the message says whether names, tomograms or distances disagree.
    """
    labels = _place_in_only_tomogram(particles, labels)
    by_name = _match_by_name(particles, labels)
    if by_name is None:
        return _match_by_position(particles, labels, tolerance_angstrom)
    elsewhere = _count_elsewhere(particles, labels, by_name, tolerance_angstrom)
    if not elsewhere:
        return by_name
    try:
        rows = _match_by_position(particles, labels, tolerance_angstrom)
    except ValueError as error:
        raise ValueError(
            f"{elsewhere} of {len(labels)} labels have the name of a particle at another place, and {error}"
        ) from error
    report(
        f"note: {elsewhere} of {len(labels)} labels have the name of a particle at another place (programs count names "
        "anew); all labels were matched by position"
    )
    return rows


def _place_in_only_tomogram(particles: Particles, labels: Particles) -> Particles:
    """Labels of a table that names no tomogram lie in the only one there is."""
    names = np.unique(particles.tomogram.astype(str))
    if not labels.is_named_by_file or match_names(map(str, labels.tomogram), {name: [] for name in names}).key_of:
        return labels
    if len(names) > 1:
        raise ValueError(
            f"the label table names no tomogram, and the particles lie in {len(names)} ({', '.join(names[:4])} ...); "
            "add a column with the tomogram of each label"
        )
    return labels.with_tomograms(np.full(len(labels), names[0], dtype=object))


def _match_by_name(particles: Particles, labels: Particles) -> NDArray[np.int64] | None:
    """Row of the particle of each label, or None where the two tables do not name their particles alike."""
    for column in _NAME_COLUMNS:
        if column in particles.columns and column in labels.columns:
            row_of = {str(name): row for row, name in enumerate(particles.columns[column])}
            names = [str(name) for name in labels.columns[column]]
            if len(row_of) == len(particles) and all(name in row_of for name in names):
                return np.array([row_of[name] for name in names], dtype=np.int64)
    return None


def _count_elsewhere(
    particles: Particles, labels: Particles, rows: NDArray[np.int64], tolerance_angstrom: float
) -> int:
    """Number of labels that are not at the place of these particles; an unknown place is none.

    A label beyond the tolerance whose particle is the nearest all the same is a pick beside its particle.
    """
    match = match_names(map(str, labels.tomogram), {str(name): [] for name in particles.tomogram})
    distance = np.linalg.norm(labels.position_zyx_angstrom - particles.position_zyx_angstrom[rows], axis=1)
    other = np.array(
        [
            match.key_of.get(str(name), str(particles.tomogram[row])) != str(particles.tomogram[row])
            for name, row in zip(labels.tomogram, rows, strict=True)
        ]
    )
    far = np.isfinite(distance) & ~other & (distance > tolerance_angstrom)
    for label in np.flatnonzero(far):
        mine = particles.tomogram.astype(str) == str(particles.tomogram[rows[label]])
        to_all = np.linalg.norm(particles.position_zyx_angstrom[mine] - labels.position_zyx_angstrom[label], axis=1)
        far[label] = np.nanmin(to_all) < distance[label]
    return int((np.isfinite(distance) & (other | far)).sum())


def _match_by_position(particles: Particles, labels: Particles, tolerance_angstrom: float) -> NDArray[np.int64]:
    """Row of the nearest particle to each label, in the same tomogram and within the tolerance."""
    from scipy.spatial import cKDTree

    match = match_names(map(str, labels.tomogram), {str(name): [] for name in particles.tomogram})
    _check_tomograms(match, particles, labels)
    tomograms = particles.tomogram.astype(str)
    label_tomogram = np.array([match.key_of[str(name)] for name in labels.tomogram])
    rows = np.full(len(labels), -1)
    distances = np.full(len(labels), np.inf)
    for tomogram in np.unique(label_tomogram):
        mine = np.flatnonzero((tomograms == tomogram) & np.isfinite(particles.position_zyx_angstrom).all(axis=1))
        theirs = np.flatnonzero((label_tomogram == tomogram) & np.isfinite(labels.position_zyx_angstrom).all(axis=1))
        if len(mine) and len(theirs):
            tree = cKDTree(particles.position_zyx_angstrom[mine])
            distances[theirs], nearest = tree.query(labels.position_zyx_angstrom[theirs])
            rows[theirs] = mine[nearest]
    far = np.flatnonzero(~(distances <= tolerance_angstrom))
    if len(far):
        first = far[0]
        distance = f"{distances[first]:.0f} A away" if np.isfinite(distances[first]) else "at an unknown position"
        raise ValueError(
            f"{len(far)} of {len(labels)} labels belong to no particle within {tolerance_angstrom:g} A; the first is "
            f"{labels.particle_id[first]}, whose nearest particle is {distance}; check that labels and picks have the "
            "same units and center, or raise --label-tolerance"
        )
    return rows


def _check_tomograms(match: NameMatch, particles: Particles, labels: Particles) -> None:
    """Refuse labels whose tomogram holds no particle, or that may lie in several."""
    if match.missing:
        names = list(dict.fromkeys(map(str, particles.tomogram)))
        more = f" and {len(names) - 4} more" if len(names) > 4 else ""
        count = int(np.isin(labels.tomogram.astype(str), match.missing).sum())
        raise ValueError(
            f"{count} of {len(labels)} labels lie in {', '.join(match.missing[:4])}, of which there is no particle; "
            f"the particles lie in {', '.join(names[:4])}{more}; remove these labels, or extract particles of that "
            "tomogram"
        )
    if fault := match.describe_fault([], "the labels"):
        raise ValueError(fault)
