"""Extracting particles from tomograms into a set of subtomograms."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tomosift.data.extraction.dropped_particles import finish_set
from tomosift.data.extraction.extraction_plan import ExtractionPlan, check_settings, plan_extraction, prepare_folder
from tomosift.data.extraction.tomogram_cropper import CroppedBoxes, TomogramCropper
from tomosift.data.extraction.tomograms import Tomogram
from tomosift.data.set_writer import SubtomogramWriter
from tomosift.data.subtomogram_set import Subtomograms, open_finished_set
from tomosift.folder_lock import locked_folder
from tomosift.particles import Particles
from tomosift.progress import Progress, ignore_progress


def extract(
    particles: Particles,
    tomograms: Mapping[str, Tomogram],
    out: Path | str,
    *,
    voxel_spacing_angstrom: float,
    box_size: int,
    borders: Literal["pad", "drop"] = "pad",
    halves: bool | None = None,
    workers: int = 1,
    class_names: tuple[str, ...] | None = None,
    shard_size: int = 4096,
    remake: bool = False,
    force: bool = False,
    progress: Progress = ignore_progress,
) -> Subtomograms:
    """Extract a subtomogram around every particle into a set on disk, resampled to one voxel spacing.

    The center voxel ``box_size // 2`` lies at the particle's position to a fraction of a voxel; see
    `tomosift.data.extraction.crop` for the resampling. Each subtomogram has zero mean and unit variance and is not
    rotated: tilt range and pose travel with it. Rows of the set keep the order of ``particles``. The same call on an
    interrupted set resumes it, on a finished one opens it.

    Parameters
    ----------
    particles
        The picks; their tomogram names are matched as `match_tomograms` describes.
    tomograms
        By name, as of `open_tomograms`.
    out
        Folder of the set.
    voxel_spacing_angstrom
        Of the subtomograms. Tomograms may have any.
    box_size
        Edge of the subtomograms in voxels.
    borders
        What to do with a subtomogram that reaches beyond its tomogram: fill it with the mean of its surroundings
        (``"pad"``), or leave the particle out (``"drop"``). Particles with their center outside are always left out.
    halves
        Also crop the half tomograms. None does so when every tomogram has them.
    workers
        Threads that crop. The set does not depend on it.
    class_names
        Names of all classes in the order of their labels; None takes those present, sorted.
    shard_size
        Subtomograms per file.
    remake
        Make the set again where the folder holds one of other particles, tomograms or settings.
    force
        Go on where more than half of the particles give no subtomogram.
    progress
        Called with the number of particles done and their total.

    Returns
    -------
    Subtomograms
        ``provenance["dropped"]`` counts the particles left out by reason; ``dropped.csv`` in the folder names them.

    Raises
    ------
    ValueError
        No particle or less than half of them gave a subtomogram (the message lists the reasons), a tomogram is missing,
        half tomograms are requested and missing, or the folder holds another set.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from tomosift.data.extraction.extract import extract
    >>> from tomosift.data.extraction.tomogram_sources import open_tomograms
    >>> from tomosift.io.volumes import write_volume
    >>> from tomosift.particles import Particles
    >>> folder, noise = Path(tempfile.mkdtemp()), np.random.default_rng(0).normal(size=(32, 64, 64))
    >>> write_volume(folder / "TS_01.mrc", noise.astype(np.float32), voxel_spacing_angstrom=10.0)
    >>> picks = Particles.create(["TS_01"] * 2, np.array([[160.0, 300.0, 310.0], [150.0, 200.0, 455.0]]))
    >>> tomograms = open_tomograms(folder / "TS_01.mrc")
    >>> subtomograms = extract(picks, tomograms, folder / "set", voxel_spacing_angstrom=10.0, box_size=16)
    >>> subtomograms.volumes([0, 1]).shape
    (2, 16, 16, 16)
    """
    if workers < 1:
        raise ValueError(f"workers is {workers}, expected at least 1")
    check_settings(box_size, voxel_spacing_angstrom)
    plan = plan_extraction(particles, tomograms, borders, halves, class_names)
    grid = {"box_size": box_size, "voxel_spacing_angstrom": voxel_spacing_angstrom}
    with locked_folder(Path(out)):
        prepare_folder(Path(out), {**plan.provenance, **grid}, remake)
        if (finished := open_finished_set(out, {**plan.provenance, **grid})) is not None:
            return finished
        writer = SubtomogramWriter(
            out, box_size, voxel_spacing_angstrom, shard_size, plan.has_halves, class_names, plan.provenance
        )
        remaining = np.setdiff1d(np.arange(len(particles)), writer.written_order)
        done, dropped = len(particles) - len(remaining), dict[int, str]()
        try:
            with ThreadPoolExecutor(workers, thread_name_prefix="extract") as pool:
                for tomogram, cropped in _crop_all(pool, workers, plan, particles, remaining, writer, borders):
                    tilt = np.asarray(tomogram.acquisition.tilt_range_deg)
                    writer.append(cropped.volumes, particles.select(cropped.rows), tilt, cropped.halves, cropped.rows)
                    dropped |= cropped.dropped
                    done += len(cropped.rows) + len(cropped.dropped)
                    progress(done, len(particles))
            return finish_set(writer, particles, dropped, force)
        finally:
            writer.abandon()


def _crop_all(
    pool: ThreadPoolExecutor,
    workers: int,
    plan: ExtractionPlan,
    particles: Particles,
    remaining: NDArray[np.int64],
    writer: SubtomogramWriter,
    borders: str,
) -> Iterator[tuple[Tomogram, CroppedBoxes]]:
    """Crop the remaining rows, one tomogram after the other."""
    for key, tomogram in plan.tomograms.items():
        rows = remaining[plan.tomogram_key[remaining] == key]
        # Down the tomogram, so that neighboring reads share pages; the order of rows is restored at the end.
        rows = rows[np.argsort(particles.position_zyx_angstrom[rows, 0], kind="stable")]
        cropper = TomogramCropper(
            tomogram, particles, writer.voxel_spacing_angstrom, writer.box_size, borders, plan.has_halves
        )
        for cropped in cropper.crop_in_order(pool, rows, workers):
            yield tomogram, cropped
