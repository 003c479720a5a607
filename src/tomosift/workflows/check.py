"""Check picks and tomograms before the work starts."""

from collections.abc import Sequence
from pathlib import Path

from tomosift.conventions import WORKING_VOXEL_SPACING_ANGSTROM
from tomosift.data.checks.findings import Finding
from tomosift.data.checks.preflight import run_preflight
from tomosift.data.extraction.tomogram_sources import collect_grids, open_tomograms
from tomosift.io.particles import read_particles
from tomosift.progress import Monitor


def check(
    picks: Path | str,
    tomograms: Path | str | Sequence[Path | str],
    *,
    voxel_spacing_angstrom: float | None = None,
    box_size: int = 32,
    particle_diameter_angstrom: float | None = None,
    is_inverted: bool = False,
    tilt_range_deg: tuple[float, float] | None = None,
    picks_spacing_angstrom: float | None = None,
    tomogram_spacing_angstrom: float | None = None,
    monitor: Monitor | None = None,
) -> tuple[Finding, ...]:
    """Check picks and tomograms; return one finding for each question.

    Parameters
    ----------
    picks
        Particle table of any known format.
    tomograms
        Tomogram files, or a folder, a RELION tomograms.star or a copick configuration.
    voxel_spacing_angstrom
        Of the subtomograms to be extracted; None takes 10, or that of the coarsest tomogram.
    box_size
        Of the subtomograms, in voxels.
    particle_diameter_angstrom
        Longest extent of the particles; None measures it in the mean of the subtomograms.
    is_inverted
        The tomograms have dark protein.
    tilt_range_deg
        Lowest and highest tilt angle, where no file states them.
    picks_spacing_angstrom, tomogram_spacing_angstrom
        Pixel size of the picks and voxel spacing of the tomograms, where the files do not state them.
    monitor
        Shows messages.

    Raises
    ------
    ValueError
        A length is not positive, or a file cannot be read. What is wrong with the data is a finding instead.
    """
    _check_lengths(voxel_spacing_angstrom, box_size, particle_diameter_angstrom)
    monitor = monitor or Monitor()
    opened = open_tomograms(
        tomograms, tomogram_spacing_angstrom, is_inverted, tilt_range_deg=tilt_range_deg, report=monitor.message
    )
    particles = read_particles(
        Path(picks),
        voxel_spacing_angstrom=picks_spacing_angstrom or tomogram_spacing_angstrom,
        grids=collect_grids(opened),
    )
    coarsest = max(tomogram.grid.voxel_spacing_angstrom for tomogram in opened.values())
    return run_preflight(
        particles,
        opened,
        box_size=box_size,
        voxel_spacing_angstrom=voxel_spacing_angstrom or max(coarsest, WORKING_VOXEL_SPACING_ANGSTROM),
        particle_diameter_angstrom=particle_diameter_angstrom,
    )


def _check_lengths(
    voxel_spacing_angstrom: float | None, box_size: int, particle_diameter_angstrom: float | None
) -> None:
    lengths = {
        "voxel spacing": voxel_spacing_angstrom,
        "box size": box_size,
        "particle diameter": particle_diameter_angstrom,
    }
    for name, value in lengths.items():
        if value is not None and not value > 0:
            raise ValueError(f"{name} is {value:g}, expected more than 0")
