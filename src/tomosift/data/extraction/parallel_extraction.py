"""Extraction by independent tasks, one per tomogram; the set equals that of `extract`."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tomosift.data.extraction.dropped_particles import DROPPED_FILE, NoSubtomogramsError, finish_set
from tomosift.data.extraction.extract import extract
from tomosift.data.extraction.extraction_plan import plan_extraction, prepare_folder
from tomosift.data.extraction.tomograms import Tomogram
from tomosift.data.set_files import PARTS
from tomosift.data.set_writer import SubtomogramWriter
from tomosift.data.subtomogram_set import Subtomograms, open_finished_set, open_subtomograms
from tomosift.folder_lock import locked_folder
from tomosift.particles import Particles


@dataclass(frozen=True, eq=False)
class CropTask:
    """The particles of one tomogram, to be extracted into a set of their own."""

    key: str
    tomogram: Tomogram
    particles: Particles
    folder: Path
    """Of that set."""
    voxel_spacing_angstrom: float
    box_size: int
    borders: Literal["pad", "drop"]
    halves: bool
    threads: int


def crop_tomogram(task: CropTask) -> dict[int, str]:
    """Extract the particles of one tomogram, unless that is done.

    Returns
    -------
    dict
        Row -> reason for each particle that was left out.
    """
    try:
        subtomograms = extract(
            task.particles,
            {task.key: task.tomogram},
            task.folder,
            voxel_spacing_angstrom=task.voxel_spacing_angstrom,
            box_size=task.box_size,
            borders=task.borders,
            halves=task.halves,
            workers=task.threads,
            force=True,
        )
    except NoSubtomogramsError as error:
        return error.dropped
    if not subtomograms.provenance["dropped"]:
        return {}
    table = pd.read_csv(task.folder / DROPPED_FILE, usecols=["row", "reason"])
    return dict(zip(table["row"].tolist(), table["reason"].tolist(), strict=True))


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
    remake: bool = False,
    force: bool = False,
) -> Subtomograms:
    """Extract one tomogram per task and join the parts; only the order in the files differs from `extract`.

    Files are not copied where the file system has hard links.

    Parameters
    ----------
    particles, tomograms, out, voxel_spacing_angstrom, box_size, borders, remake, force
        As of `extract`.
    run
        Calls `crop_tomogram` with each of the tasks, in any order and on any machine, and returns the results in order.
    threads
        Threads that crop within a task.

    Raises
    ------
    ValueError
        As of `extract`.
    """
    plan = plan_extraction(particles, tomograms, borders, None, None)
    grid = {"box_size": box_size, "voxel_spacing_angstrom": voxel_spacing_angstrom}
    with locked_folder(out):
        prepare_folder(out, {**plan.provenance, **grid}, remake)
        if (finished := open_finished_set(out, {**plan.provenance, **grid})) is not None:
            return finished
        writer = SubtomogramWriter(
            out, box_size, voxel_spacing_angstrom, has_halves=plan.has_halves, provenance=plan.provenance
        )
        rows_of: dict[str, NDArray[np.int64]] = {
            key: np.flatnonzero(plan.tomogram_key == key) for key in plan.tomograms
        }
        tasks = [
            CropTask(
                key=key,
                tomogram=tomogram,
                particles=particles.select(rows_of[key]),
                folder=out / PARTS / f"{number:05d}",
                voxel_spacing_angstrom=voxel_spacing_angstrom,
                box_size=box_size,
                borders=borders,
                halves=plan.has_halves,
                threads=threads,
            )
            for number, (key, tomogram) in enumerate(plan.tomograms.items())
        ]
        dropped = _join_parts(writer, tasks, list(rows_of.values()), run(tasks))
        subtomograms = finish_set(writer, particles, dropped, force)
        shutil.rmtree(out / PARTS)
        return subtomograms


def _join_parts(
    writer: SubtomogramWriter,
    tasks: Sequence[CropTask],
    rows_of_task: Sequence[NDArray[np.int64]],
    dropped_of_task: Sequence[dict[int, str]],
) -> dict[int, str]:
    """Append the set of every task; return the reason for each particle that was left out."""
    dropped: dict[int, str] = {}
    for task, rows, lost in zip(tasks, rows_of_task, dropped_of_task, strict=True):
        dropped |= {int(rows[row]): reason for row, reason in lost.items()}
        kept = np.setdiff1d(np.arange(len(rows)), list(lost))
        if len(kept):
            writer.append_set(open_subtomograms(task.folder), rows[kept])
    return dropped
