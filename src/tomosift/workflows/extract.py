"""Extract subtomograms around picks, at random positions away from them, or from the files of another program."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from tomosift.acquisition import check_tilt_range
from tomosift.compute.engine import Engine, for_each
from tomosift.conventions import DEFAULT_TILT_RANGE_DEG, WORKING_VOXEL_SPACING_ANGSTROM
from tomosift.data.checks.contrast import decide_contrast_of_boxes
from tomosift.data.extraction.empty_positions import sample_empty_positions
from tomosift.data.extraction.extract import extract
from tomosift.data.extraction.extraction_plan import check_settings
from tomosift.data.extraction.import_subtomograms import import_subtomograms
from tomosift.data.extraction.parallel_extraction import crop_tomogram, extract_in_parallel
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.io.subtomogram_files import open_subtomogram_files
from tomosift.progress import Monitor
from tomosift.workflows.inputs import Inputs, InputSettings, open_inputs

Borders = Literal["pad", "drop"]

_BOX_SIZE = 32
_MANY_DROPPED = 0.05
_MEASURED_BOXES = 200  # of another program, for their contrast


@dataclass(frozen=True)
class ExtractionSettings(InputSettings):
    """How subtomograms are extracted, and what picks and tomograms do not state themselves."""

    voxel_spacing: float = WORKING_VOXEL_SPACING_ANGSTROM
    """Voxel spacing of the subtomograms in Angstrom; tomograms are rescaled to it."""
    box_size: int = _BOX_SIZE
    """Box size in voxels; 1.5 to 2.5 particle diameters work well."""
    remake: bool = False
    """Make the set again where the folder holds one of other picks, tomograms or settings."""


def extract_subtomograms(
    picks: Path | str,
    out: Path | str,
    *,
    tomograms: Path | str | Sequence[Path | str] = (),
    voxel_spacing_angstrom: float | None = None,
    box_size: int | None = None,
    borders: Borders = "pad",
    inputs: InputSettings = InputSettings(),
    remake: bool = False,
    empty: int = 0,
    empty_distance_angstrom: float = 160.0,
    engine: Engine | None = None,
    monitor: Monitor | None = None,
) -> Subtomograms:
    """Extract a subtomogram around every pick of a table, or import subtomograms that another program extracted.

    Picks and tomograms are checked first, as by `check`; an error of the check stops the extraction.

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
    inputs
        What the files do not state.
    remake
        Make the set again where the folder holds one of other picks, tomograms or settings; else that is an error.
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
        The check finds an error, empty positions are requested without tomograms, most picks give no subtomogram, or
        the folder holds another set.
    """
    out, engine, monitor = Path(out), engine or Engine(), monitor or Monitor()
    engine.check()  # nothing else refuses its settings where it is not used
    if not tomograms:
        if empty:
            raise ValueError("empty positions are sampled from tomograms; give them with --tomograms")
        return _import(Path(picks), out, voxel_spacing_angstrom, box_size, inputs, remake, monitor)
    settings = ExtractionSettings(
        **asdict(inputs),
        voxel_spacing=WORKING_VOXEL_SPACING_ANGSTROM if voxel_spacing_angstrom is None else voxel_spacing_angstrom,
        box_size=_BOX_SIZE if box_size is None else box_size,
        remake=remake,
    )
    check_settings(settings.box_size, settings.voxel_spacing)
    opened = open_inputs(
        picks,
        tomograms,
        settings,
        monitor,
        box_size=settings.box_size,
        voxel_spacing_angstrom=settings.voxel_spacing,
    )
    opened.stop_at_errors(settings, monitor)
    if empty:
        margin = 0.5 * settings.box_size * settings.voxel_spacing
        particles = sample_empty_positions(
            opened.particles, opened.tomograms, empty, empty_distance_angstrom, margin, seed=0
        )
        opened = replace(opened, particles=particles)
    if engine.is_shared:
        return _extract_in_tasks(opened, out, settings, borders, engine, monitor)
    return extract_in_threads(opened, out, settings, borders, monitor)


def extract_in_threads(
    inputs: Inputs, out: Path, settings: ExtractionSettings, borders: Borders, monitor: Monitor
) -> Subtomograms:
    """Extract in this process, by one thread for each processor; parameters as of `extract`."""
    with monitor.stage("extract", "subtomograms") as progress:
        return extract(
            inputs.particles,
            inputs.tomograms,
            out,
            voxel_spacing_angstrom=settings.voxel_spacing,
            box_size=settings.box_size,
            borders=borders,
            workers=os.cpu_count() or 1,
            remake=settings.remake,
            force=settings.force,
            progress=progress,
        )


def _extract_in_tasks(
    inputs: Inputs, out: Path, settings: ExtractionSettings, borders: Borders, engine: Engine, monitor: Monitor
) -> Subtomograms:
    """Extract one tomogram to a task."""
    with monitor.stage("extract", "tomograms") as progress:
        return extract_in_parallel(
            inputs.particles,
            inputs.tomograms,
            out,
            lambda tasks: for_each(crop_tomogram, tasks, engine, progress),
            voxel_spacing_angstrom=settings.voxel_spacing,
            box_size=settings.box_size,
            borders=borders,
            threads=engine.slurm_cores if engine.slurm else 1,
            remake=settings.remake,
            force=settings.force,
        )


def _import(
    files: Path,
    out: Path,
    voxel_spacing_angstrom: float | None,
    box_size: int | None,
    inputs: InputSettings,
    remake: bool,
    monitor: Monitor,
) -> Subtomograms:
    """Import subtomograms that another program extracted."""
    if inputs.tilt_range is not None:
        check_tilt_range(inputs.tilt_range)
    opened = open_subtomogram_files(files, voxel_spacing_angstrom=inputs.picks_spacing)
    rows = np.unique(np.linspace(0, len(opened) - 1, min(len(opened), _MEASURED_BOXES)).astype(int))
    is_inverted, contrast = decide_contrast_of_boxes(opened.volumes(rows), inputs.inverted)
    Inputs(opened.particles, {}, (contrast,)).stop_at_errors(inputs, monitor)
    with monitor.stage("import", "subtomograms") as progress:
        return import_subtomograms(
            opened,
            out,
            voxel_spacing_angstrom=voxel_spacing_angstrom,
            box_size=box_size,
            tilt_range_deg=inputs.tilt_range or DEFAULT_TILT_RANGE_DEG,
            is_inverted=is_inverted,
            remake=remake,
            progress=progress,
        )


def describe_set(subtomograms: Subtomograms) -> str:
    """Return one sentence on a set: number, size, spacing, and what was left out."""
    dropped = subtomograms.provenance.get("dropped") or {}
    lost = "".join(f"; {count} left out ({reason})" for reason, count in dropped.items())
    count = sum(dropped.values())
    if count > _MANY_DROPPED * (len(subtomograms) + count):
        lost += (
            f"\nwarning: {count} of {len(subtomograms) + count} particles gave no subtomogram and will have no class"
        )
    halves = ", with half subtomograms" if subtomograms.has_halves else ""
    return (
        f"{subtomograms.path}: {len(subtomograms)} subtomograms of {subtomograms.box_size}^3 voxels at "
        f"{subtomograms.voxel_spacing_angstrom:g} A from {len(subtomograms.tomogram_names)} tomograms{halves}{lost}"
    )
