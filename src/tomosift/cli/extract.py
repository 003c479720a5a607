"""Cut subtomograms from tomograms, or bring ready-made boxes, into a set."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from tomosift.cli.terminal import print_message, progress_bar
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


def command(
    picks: Annotated[Path, tyro.conf.Positional],
    /,
    out: Path,
    tomograms: tuple[Path, ...] = (),
    voxel_spacing: float | None = None,
    box_size: int | None = None,
    borders: Literal["pad", "drop"] = "pad",
    inverted: bool = False,
    tilt_range: tuple[float, float] | None = None,
    picks_spacing: float | None = None,
    tomogram_spacing: float | None = None,
    empty: int = 0,
    empty_distance: float = 160.0,
    engine: Annotated[Engine, tyro.conf.arg(name="")] = Engine(),
) -> None:
    """Cut a box around every pick, rescaled to one voxel spacing, into a set that can be trained on.

    Without --tomograms PICKS are ready-made boxes: a folder of them, or a stack.

    Args:
        picks: Particle table of any known format, or ready-made boxes.
        out: Folder of the set; an interrupted one is continued.
        tomograms: Tomogram files, or a folder, a RELION tomograms.star or a copick configuration.
        voxel_spacing: Voxel edge of the boxes in Angstrom; 10 for tomograms, that of the boxes for ready-made ones.
        box_size: Box edge in voxels; 32 for tomograms, what there is for ready-made boxes.
        borders: Fill boxes that reach beyond the tomogram with the local mean, or drop them.
        inverted: Protein is dark in these files.
        tilt_range: Lowest and highest tilt angle in degrees, where no file says.
        picks_spacing: Pixel edge of the picks in Angstrom, where a table in pixels does not say.
        tomogram_spacing: Voxel edge of the tomograms in Angstrom, where their headers are wrong or silent.
        empty: Instead of the picks, so many boxes from random places away from all of them: noise and surroundings.
        empty_distance: Least distance of such a place from every pick in Angstrom.
        engine: Where boxes are cut: without workers in this process, by one thread per processor; with them one
            tomogram at a time each. For ready-made boxes there is nothing to share out.
    """
    engine.check()  # without workers nothing else would ask
    if empty and not tomograms:
        raise ValueError("empty places are looked for in tomograms; give them with --tomograms")
    if not tomograms:
        with progress_bar("import", "boxes") as update:
            made = import_subtomograms(
                open_subtomogram_files(picks, voxel_spacing_angstrom=picks_spacing),
                out,
                voxel_spacing_angstrom=voxel_spacing,
                box_size=box_size,
                tilt_range_deg=tilt_range or DEFAULT_TILT_RANGE_DEG,
                is_inverted=inverted,
                progress=update,
            )
    else:
        found = open_tomograms(tomograms, tomogram_spacing, inverted, tilt_range_deg=tilt_range, report=print_message)
        particles = read_particles(picks, voxel_spacing_angstrom=picks_spacing, grids=collect_grids(found))
        spacing = WORKING_VOXEL_SPACING_ANGSTROM if voxel_spacing is None else voxel_spacing
        edge = 32 if box_size is None else box_size
        if empty:
            particles = sample_empty_positions(particles, found, empty, empty_distance, 0.5 * edge * spacing, seed=0)
        grid = {"voxel_spacing_angstrom": spacing, "box_size": edge, "borders": borders}
        made = (
            _shared_out(particles, found, out, grid, engine) if engine.is_shared else _cut(particles, found, out, grid)
        )
    print_message(summary(made))


def _cut(particles: Particles, tomograms: dict[str, Tomogram], out: Path, grid: dict[str, Any]) -> Subtomograms:
    with progress_bar("extract", "boxes") as update:
        return extract(
            particles,
            tomograms,
            out,
            workers=os.cpu_count() or 1,
            progress=update,
            **grid,
        )


def _shared_out(
    particles: Particles, tomograms: dict[str, Tomogram], out: Path, grid: dict[str, Any], engine: Engine
) -> Subtomograms:
    with progress_bar("extract", "tomograms") as update:
        return extract_in_parallel(
            particles,
            tomograms,
            out,
            lambda tasks: for_each(crop_tomogram, tasks, engine, update),
            threads=engine.slurm_cores if engine.slurm else 1,
            **grid,
        )


def summary(made: Subtomograms) -> str:
    """One line on a set."""
    dropped = made.provenance.get("dropped") or {}
    lost = "".join(f"; {count} dropped ({reason})" for reason, count in dropped.items())
    halves = ", with half boxes" if made.has_halves else ""
    return (
        f"{made.path}: {len(made)} boxes of {made.box_size}^3 at {made.voxel_spacing_angstrom:g} A from "
        f"{len(made.tomogram_names)} tomograms{halves}{lost}"
    )
