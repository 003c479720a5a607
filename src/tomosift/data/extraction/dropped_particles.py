"""Particles that gave no subtomogram, with the reason for each."""

from collections import Counter

import numpy as np
import pandas as pd

from tomosift.data.set_writer import SubtomogramWriter
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.files import written_then_renamed
from tomosift.particles import Particles

BEYOND = "the box reaches beyond the tomogram"
"""Reason of particles that are left out on request."""
DROPPED_FILE = "dropped.csv"


class NoSubtomogramsError(ValueError):
    """No particle gave a subtomogram; ``dropped`` holds the reason for each row."""

    def __init__(self, message: str, dropped: dict[int, str]) -> None:
        super().__init__(message)
        self.dropped = dropped


MOST_DROPPED = 0.5
"""Share of the particles that may be left out."""


def finish_set(
    writer: SubtomogramWriter, particles: Particles, dropped: dict[int, str], force: bool = True
) -> Subtomograms:
    """Close a set and list the particles that were left out of it in ``dropped.csv``.

    Parameters
    ----------
    writer
        Writer of the set.
    particles
        All particles of the request.
    dropped
        Row -> reason for each particle that was left out.
    force
        Finish the set however many particles were left out.

    Raises
    ------
    NoSubtomogramsError
        All particles were left out, or more than half of them without ``force``.
    """
    reasons = Counter(dropped.values())
    listed = "; ".join(f"{reason} ({count})" for reason, count in reasons.most_common())
    lost = len(dropped) - reasons[BEYOND]  # that is what the caller requested
    if not force and len(dropped) < len(particles) and lost > MOST_DROPPED * len(particles):
        raise NoSubtomogramsError(
            f"{len(dropped)} of {len(particles)} particles gave no box: {listed}; check voxel spacing, coordinates and "
            "tomograms (--force goes on with the others)",
            dropped,
        )
    if len(dropped) == len(particles):
        raise NoSubtomogramsError(
            f"none of {len(particles)} particles gave a box: {listed}; check voxel spacing, coordinates and box size",
            dropped,
        )
    if dropped:
        rows = np.asarray(sorted(dropped))
        names = {"particle_id": particles.particle_id[rows], "tomogram": particles.tomogram[rows]}
        table = pd.DataFrame({"row": rows, **names, "reason": [dropped[row] for row in rows.tolist()]})
        with written_then_renamed(writer.path / DROPPED_FILE) as temporary:
            table.to_csv(temporary, index=False)
    return writer.close({"dropped": dict(reasons)})
