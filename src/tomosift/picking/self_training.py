"""Self-training of a detector: confident detections in the training tomograms become picks of the next round.

Source: self-training as in Lee 2013, "Pseudo-label: the simple and efficient semi-supervised learning method for deep
neural networks". Deviations, with all numbers ours: picks are moved to the detections nearest to them, and only classes
with few picks gain further ones.
"""

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from tomosift.particles import Particles


def grow_picks(
    picks: Particles,
    detections: Particles,
    classes: Collection[str],
    max_per_pick: int,
    snap_distance_angstrom: float,
    min_distance_angstrom: float,
) -> Particles:
    """Move the picks of one tomogram to nearby detections, and add the most confident other detections.

    Parameters
    ----------
    picks
        Picks of one tomogram with classes.
    detections
        Particles that a detector found in it, with confidence as ``score``.
    classes
        Classes that gain further picks.
    max_per_pick
        Detections of a class that are added at most, for each of its picks.
    snap_distance_angstrom
        A pick moves to the nearest detection of its class within this distance. The picking error is a voxel or two,
        and with few picks each of them counts.
    min_distance_angstrom
        Detections within this distance of a pick are no further particles.

    Examples
    --------
    >>> import numpy as np
    >>> picks = Particles.create(["t"], np.array([[0.0, 0.0, 100.0]]), class_name=["a"])
    >>> position = np.array([[0.0, 0.0, 110.0], [0.0, 0.0, 400.0]])
    >>> detections = Particles.create(["t"] * 2, position, class_name=["a"] * 2, score=np.array([0.9, 0.95]))
    >>> grow_picks(picks, detections, ["a"], 3, 30.0, 60.0).position_zyx_angstrom[:, 2].tolist()
    [110.0, 400.0]
    """
    if not len(detections):
        return picks
    distance = np.asarray(cKDTree(picks.position_zyx_angstrom).query(detections.position_zyx_angstrom)[0])
    is_away = distance > min_distance_angstrom
    rows = [np.zeros(0, dtype=np.int64)]
    for name in sorted(classes):
        candidates = np.flatnonzero(is_away & (detections.class_name == name))
        candidates = candidates[np.argsort(-detections.score[candidates], kind="stable")]
        # The number is limited: a detector trained on few picks of a class soon detects that class everywhere.
        rows.append(candidates[: max_per_pick * int((picks.class_name == name).sum())])
    position = _snap_positions(picks, detections, snap_distance_angstrom)
    return concatenate_picks([picks.with_geometry(position), detections.select(np.concatenate(rows))])


def _snap_positions(picks: Particles, detections: Particles, snap_distance_angstrom: float) -> NDArray[np.float64]:
    """Return the position of the nearest detection of its class within the distance for each pick, else its own."""
    position = picks.position_zyx_angstrom.copy()
    for name in set(picks.class_name):
        rows = np.flatnonzero(picks.class_name == name)
        candidates = detections.position_zyx_angstrom[detections.class_name == name]
        if not len(candidates):
            continue
        distance, nearest = (np.asarray(part) for part in cKDTree(candidates).query(position[rows]))
        is_close = distance <= snap_distance_angstrom
        position[rows[is_close]] = candidates[nearest[is_close]]
    return position


def concatenate_picks(tables: Sequence[Particles]) -> Particles:
    """Concatenate particle tables; names, positions, classes and scores are kept, nothing else."""
    return Particles.create(
        tomogram=np.concatenate([table.tomogram for table in tables]),
        position_zyx_angstrom=np.concatenate([table.position_zyx_angstrom for table in tables]),
        class_name=np.concatenate([table.class_name for table in tables]),
        score=np.concatenate([table.score for table in tables]),
    )
