"""More picks from few: what a first detector surely finds in the tomograms it learned from teaches the next one.

Source: self-training as Lee 2013, "Pseudo-label: the simple and efficient semi-supervised learning method for deep
neural networks"; that picks are moved to where the detector sees them as well, and all numbers, are ours.
"""

from collections.abc import Collection, Sequence

import numpy as np
from scipy.spatial import cKDTree

from tomosift.particles import Particles


def grow_picks(
    picks: Particles,
    found: Particles,
    classes: Collection[str],
    most: int,
    snap_angstrom: float,
    apart_angstrom: float,
) -> Particles:
    """The picks of one tomogram and, of these classes, what was found besides: the surest, ``most`` for every pick.

    A pick goes to the nearest particle that was found of its class within ``snap_angstrom``: picks are a voxel or two
    off, and of a few everyone counts. What was found closer than ``apart_angstrom`` to a pick is no other particle.
    """
    if not len(found):
        return picks
    position = picks.position_zyx_angstrom.copy()
    for name in set(picks.class_name):
        rows = np.flatnonzero(picks.class_name == name)
        candidates = found.position_zyx_angstrom[found.class_name == name]
        if not len(candidates):
            continue
        distance, nearest = (np.asarray(part) for part in cKDTree(candidates).query(position[rows]))
        close = distance <= snap_angstrom
        position[rows[close]] = candidates[nearest[close]]
    away = np.asarray(cKDTree(picks.position_zyx_angstrom).query(found.position_zyx_angstrom)[0]) > apart_angstrom
    chosen = [np.zeros(0, dtype=np.int64)]
    for name in sorted(classes):
        candidates = np.flatnonzero(away & (found.class_name == name))
        surest = candidates[np.argsort(-found.score[candidates], kind="stable")]
        # A class of which little is known soon sees itself everywhere.
        chosen.append(surest[: most * int((picks.class_name == name).sum())])
    return concatenate_picks([picks.with_geometry(position), found.select(np.concatenate(chosen))])


def concatenate_picks(parts: Sequence[Particles]) -> Particles:
    """Particles of several tables in one: names, positions, classes and scores, nothing else."""
    return Particles.create(
        tomogram=np.concatenate([part.tomogram for part in parts]),
        position_zyx_angstrom=np.concatenate([part.position_zyx_angstrom for part in parts]),
        class_name=np.concatenate([part.class_name for part in parts]),
        score=np.concatenate([part.score for part in parts]),
    )
