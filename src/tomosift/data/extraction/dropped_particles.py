"""Particles that gave no subtomogram, with the reason for each."""

from collections import Counter

import numpy as np
import pandas as pd

from tomosift.data.set_writer import SubtomogramWriter
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.files import written_then_renamed
from tomosift.particles import Particles

DROPPED_FILE = "dropped.csv"


class NoSubtomogramsError(ValueError):
    """No particle gave a subtomogram; ``dropped`` holds the reason for each row."""

    def __init__(self, message: str, dropped: dict[int, str]) -> None:
        super().__init__(message)
        self.dropped = dropped


def finish_set(writer: SubtomogramWriter, particles: Particles, dropped: dict[int, str]) -> Subtomograms:
    """Close a set and list the particles that were left out of it in ``dropped.csv``.

    Parameters
    ----------
    writer
        Writer of the set.
    particles
        All particles of the request.
    dropped
        Row -> reason for each particle that was left out.

    Raises
    ------
    NoSubtomogramsError
        All particles were left out.
    """
    reasons = Counter(dropped.values())
    if len(dropped) == len(particles):
        listed = "; ".join(f"{reason} ({count})" for reason, count in reasons.most_common())
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
