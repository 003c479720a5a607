"""Extract subtomograms around picks, at random positions away from them, or from the files of another program."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tomosift.compute.engine import Engine, for_each
from tomosift.conventions import DEFAULT_TILT_RANGE_DEG, WORKING_VOXEL_SPACING_ANGSTROM
from tomosift.data.extraction.empty_positions import sample_empty_positions
from tomosift.data.extraction.extract import extract
from tomosift.data.extraction.import_subtomograms import import_subtomograms
from tomosift.data.extraction.parallel_extraction import crop_tomogram, extract_in_parallel
from tomosift.data.extraction.tomogram_sources import collect_grids, open_tomograms
from tomosift.data.extraction.tomograms import Tomogram
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.io.particles import read_particles
from tomosift.io.subtomogram_files import open_subtomogram_files
from tomosift.particles import Particles
from tomosift.progress import Monitor

Borders = Literal["pad", "drop"]

_BOX_SIZE = 32


@dataclass(frozen=True)
class ExtractionSettings:
    """How subtomograms are extracted."""

    voxel_spacing: float = WORKING_VOXEL_SPACING_ANGSTROM
    """Voxel spacing of the subtomograms in Angstrom; tomograms are rescaled to it."""
    box_size: int = _BOX_SIZE
    """Box size in voxels; 1.5 to 2.5 particle diameters work well."""
    inverted: bool = False
    """The tomograms have dark protein; the sign of their density is turned."""
    tilt_range: tuple[float, float] | None = None
    """Lowest and highest tilt angle in degrees, where no file states them."""
    picks_spacing: float | None = None
    """Pixel size of the picks in Angstrom, where a table in pixels does not state it."""
    tomogram_spacing: float | None = None
    """Voxel spacing of the tomograms in Angstrom, where their headers are wrong or silent."""


def extract_subtomograms(
    picks: Path | str,
    out: Path | str,
    *,
    tomograms: Path | str | Sequence[Path | str] = (),
    voxel_spacing_angstrom: float | None = None,
    box_size: int | None = None,
    borders: Borders = "pad",
    is_inverted: bool = False,
    tilt_range_deg: tuple[float, float] | None = None,
    picks_spacing_angstrom: float | None = None,
    tomogram_spacing_angstrom: float | None = None,
    empty: int = 0,
    empty_distance_angstrom: float = 160.0,
    engine: Engine | None = None,
    monitor: Monitor | None = None,
) -> Subtomograms:
    """Extract a subtomogram around every pick of a table, or import subtomograms that another program extracted.

    Parameters
    ----------
    picks
        Particle table of any known format; without ``tomograms``, a folder or a stack of subtomograms.
    out
        Folder of the set; an interrupted call resumes.
    tomograms
        Tomogram files, or a folder, a RELION tomograms.star or a copick configuration.
    voxel_spacing_angstrom, box_size
        Of the subtomograms; None takes 10 A and 32 voxels for tomograms, those of the files for imported subtomograms.
    borders
        Fill subtomograms that reach beyond their tomogram with the local mean, or leave the particles out.
    is_inverted
        The files have dark protein.
    tilt_range_deg
        Lowest and highest tilt angle, where no file states them.
    picks_spacing_angstrom, tomogram_spacing_angstrom
        Pixel size of the picks and voxel spacing of the tomograms, where the files do not state them.
    empty
        Number of random positions, away from all picks, that are extracted instead of the picks.
    empty_distance_angstrom
        Smallest distance between such a position and any pick.
    engine
        Where tomograms are cropped; None crops in this process, with one thread for each processor.
    monitor
        Shows stages and messages.

    Raises
    ------
    ValueError
        Empty positions are requested without tomograms, no subtomogram is extracted, or the folder holds another set.
    """
    out, engine, monitor = Path(out), engine or Engine(), monitor or Monitor()
    engine.check()  # nothing else refuses its settings where it is not used
    if not tomograms:
        if empty:
            raise ValueError("empty positions are sampled from tomograms; give them with --tomograms")
        return _import(
            Path(picks),
            out,
            voxel_spacing_angstrom,
            box_size,
            tilt_range_deg,
            is_inverted,
            picks_spacing_angstrom,
            monitor,
        )
    opened = open_tomograms(
        tomograms, tomogram_spacing_angstrom, is_inverted, tilt_range_deg=tilt_range_deg, report=monitor.message
    )
    grids = collect_grids(opened)
    particles = read_particles(Path(picks), voxel_spacing_angstrom=picks_spacing_angstrom, grids=grids)
    spacing = WORKING_VOXEL_SPACING_ANGSTROM if voxel_spacing_angstrom is None else voxel_spacing_angstrom
    edge = _BOX_SIZE if box_size is None else box_size
    if empty:
        margin = 0.5 * edge * spacing
        particles = sample_empty_positions(particles, opened, empty, empty_distance_angstrom, margin, seed=0)
    if engine.is_shared:
        return _extract_in_tasks(particles, opened, out, spacing, edge, borders, engine, monitor)
    return extract_in_threads(particles, opened, out, spacing, edge, borders, monitor)


def extract_in_threads(
    particles: Particles,
    tomograms: dict[str, Tomogram],
    out: Path,
    voxel_spacing_angstrom: float,
    box_size: int,
    borders: Borders,
    monitor: Monitor,
) -> Subtomograms:
    """Extract in this process, by one thread for each processor; parameters as of `extract`."""
    with monitor.stage("extract", "subtomograms") as progress:
        return extract(
            particles,
            tomograms,
            out,
            voxel_spacing_angstrom=voxel_spacing_angstrom,
            box_size=box_size,
            borders=borders,
            workers=os.cpu_count() or 1,
            progress=progress,
        )


def _extract_in_tasks(
    particles: Particles,
    tomograms: dict[str, Tomogram],
    out: Path,
    voxel_spacing_angstrom: float,
    box_size: int,
    borders: Borders,
    engine: Engine,
    monitor: Monitor,
) -> Subtomograms:
    """Extract one tomogram to a task."""
    with monitor.stage("extract", "tomograms") as progress:
        return extract_in_parallel(
            particles,
            tomograms,
            out,
            lambda tasks: for_each(crop_tomogram, tasks, engine, progress),
            voxel_spacing_angstrom=voxel_spacing_angstrom,
            box_size=box_size,
            borders=borders,
            threads=engine.slurm_cores if engine.slurm else 1,
        )


def _import(
    files: Path,
    out: Path,
    voxel_spacing_angstrom: float | None,
    box_size: int | None,
    tilt_range_deg: tuple[float, float] | None,
    is_inverted: bool,
    source_spacing_angstrom: float | None,
    monitor: Monitor,
) -> Subtomograms:
    """Import subtomograms that another program extracted."""
    opened = open_subtomogram_files(files, voxel_spacing_angstrom=source_spacing_angstrom)
    with monitor.stage("import", "subtomograms") as progress:
        return import_subtomograms(
            opened,
            out,
            voxel_spacing_angstrom=voxel_spacing_angstrom,
            box_size=box_size,
            tilt_range_deg=tilt_range_deg or DEFAULT_TILT_RANGE_DEG,
            is_inverted=is_inverted,
            progress=progress,
        )


def describe_set(subtomograms: Subtomograms) -> str:
    """Return one sentence on a set: number, size, spacing, and what was left out."""
    dropped = subtomograms.provenance.get("dropped") or {}
    lost = "".join(f"; {count} left out ({reason})" for reason, count in dropped.items())
    halves = ", with half subtomograms" if subtomograms.has_halves else ""
    return (
        f"{subtomograms.path}: {len(subtomograms)} subtomograms of {subtomograms.box_size}^3 voxels at "
        f"{subtomograms.voxel_spacing_angstrom:g} A from {len(subtomograms.tomogram_names)} tomograms{halves}{lost}"
    )
