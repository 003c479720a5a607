"""Extraction tomogram by tomogram, by whoever is there to do it; the set is the one that `extract` makes."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tomosift.data.extraction.extract import DROPPED_FILE, NoBoxesError, extract, finish, plan_extraction
from tomosift.data.extraction.tomograms import Tomogram
from tomosift.data.set_writer import SubtomogramWriter
from tomosift.data.subtomogram_set import Subtomograms, open_finished_set, open_subtomograms
from tomosift.particles import Particles

PARTS = "parts"
"""Folder below the set where tomograms leave theirs until all are there."""


@dataclass(frozen=True, eq=False)
class CropTask:
    """The particles of one tomogram."""

    key: str
    tomogram: Tomogram
    particles: Particles
    folder: Path
    """Of their set."""
    voxel_spacing_angstrom: float
    box_size: int
    borders: Literal["pad", "drop"]
    halves: bool
    threads: int


def crop_tomogram(task: CropTask) -> dict[int, str]:
    """Cut the boxes of one tomogram, unless that has been done; returns which of its particles gave none, and why."""
    try:
        made = extract(
            task.particles,
            {task.key: task.tomogram},
            task.folder,
            voxel_spacing_angstrom=task.voxel_spacing_angstrom,
            box_size=task.box_size,
            borders=task.borders,
            halves=task.halves,
            workers=task.threads,
        )
    except NoBoxesError as error:
        return error.dropped
    if not made.provenance["dropped"]:
        return {}
    listed = pd.read_csv(task.folder / DROPPED_FILE, usecols=["row", "reason"])
    return dict(zip(listed["row"].tolist(), listed["reason"].tolist(), strict=True))


def extract_in_parallel(
    particles: Particles,
    tomograms: Mapping[str, Tomogram],
    out: Path,
    run: Callable[[Sequence[CropTask]], Sequence[dict[int, str]]],
    *,
    voxel_spacing_angstrom: float,
    box_size: int,
    borders: Literal["pad", "drop"] = "pad",
    threads: int = 1,
) -> Subtomograms:
    """What `extract` makes, but for the order in files: one task for each tomogram, and the parts put together.

    Boxes are not copied where the file system knows hard links.

    Parameters
    ----------
    run
        Calls `cut_tomogram` with each of the tasks, in any order and anywhere, and returns the results in order.
    threads
        That cut within a task.

    Raises
    ------
    ValueError
        As of `extract`.
    """
    asked = plan_extraction(particles, tomograms, borders, None, None)
    request = {**asked.request, "box_size": box_size, "voxel_spacing_angstrom": voxel_spacing_angstrom}
    if (finished := open_finished_set(out, request)) is not None:
        return finished
    writer = SubtomogramWriter(out, box_size, voxel_spacing_angstrom, has_halves=asked.halves, provenance=asked.request)
    rows_of: dict[str, NDArray[np.int64]] = {key: np.flatnonzero(asked.key == key) for key in asked.tomograms}
    tasks = [
        CropTask(
            key,
            tomogram,
            particles.select(rows_of[key]),
            out / PARTS / f"{number:05d}",
            voxel_spacing_angstrom,
            box_size,
            borders,
            asked.halves,
            threads,
        )
        for number, (key, tomogram) in enumerate(asked.tomograms.items())
    ]
    dropped: dict[int, str] = {}
    for task, rows, lost in zip(tasks, rows_of.values(), run(tasks), strict=True):
        dropped |= {int(rows[row]): reason for row, reason in lost.items()}
        kept = np.setdiff1d(np.arange(len(rows)), list(lost))
        if len(kept):
            writer.adopt(open_subtomograms(task.folder), rows[kept])
    made = finish(writer, particles, dropped)
    shutil.rmtree(out / PARTS)
    return made
