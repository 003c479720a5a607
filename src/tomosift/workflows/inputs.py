"""Opening picks and tomograms: the one door through which every command takes what users bring.

Names, labels, units, contrast and tilt angles are decided behind it, each by one function, so that the same input gets
the same answer, or the same sentence, from every command.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tomosift.conventions import WORKING_VOXEL_SPACING_ANGSTROM
from tomosift.data.checks.findings import Finding
from tomosift.data.checks.preflight import run_preflight
from tomosift.data.extraction.tomogram_sources import collect_grids, open_tomograms
from tomosift.data.extraction.tomograms import Tomogram, find_tomograms
from tomosift.io.particles import read_particles
from tomosift.particles import Particles
from tomosift.progress import Monitor


@dataclass(frozen=True)
class InputSettings:
    """What picks and tomograms do not state themselves."""

    inverted: bool = False
    """The tomograms have dark protein; the sign of their density is turned. It is also turned where the density at the
    picks is clearly dark."""
    tilt_range: tuple[float, float] | None = None
    """Lowest and highest tilt angle in degrees, where no file states them."""
    picks_spacing: float | None = None
    """Pixel size of the picks in Angstrom, where a table in pixels does not state it."""
    tomogram_spacing: float | None = None
    """Voxel spacing of the tomograms in Angstrom, where their headers are wrong or silent."""
    tomogram_type: str | None = None
    """Reconstruction to take from a copick project that holds several."""
    force: bool = False
    """Go on although the check finds errors, or most picks give no subtomogram."""


@dataclass(frozen=True, eq=False)
class Inputs:
    """Picks with their tomograms, opened and checked."""

    particles: Particles
    tomograms: dict[str, Tomogram]
    """By name, with the sign of their density decided."""
    findings: tuple[Finding, ...]

    def stop_at_errors(self, settings: InputSettings, monitor: Monitor) -> None:
        """Show warnings, errors and what was decided about the contrast; refuse to go on with errors.

        Raises
        ------
        ValueError
            A finding is an error, and ``settings.force`` is off.
        """
        for finding in self.findings:
            if finding.level in ("warning", "error") or (finding.level == "note" and finding.about == "contrast"):
                monitor.message(f"{finding.level}: {finding.sentence}")
        errors = [finding.sentence for finding in self.findings if finding.level == "error"]
        if errors and not settings.force:
            raise ValueError(
                f"the check found {len(errors)} {'error' if len(errors) == 1 else 'errors'}, the first is: {errors[0]} "
                "(--force goes on nevertheless)"
            )


def open_sources(
    tomograms: Path | str | Sequence[Path | str], settings: InputSettings, monitor: Monitor
) -> dict[str, Tomogram]:
    """Open tomograms by name, and show what was concluded about them; see `open_tomograms`."""
    return open_tomograms(
        tomograms,
        settings.tomogram_spacing,
        settings.inverted,
        tomogram_type=settings.tomogram_type,
        tilt_range_deg=settings.tilt_range,
        report=monitor.message,
    )


def open_inputs(
    picks: Path | str,
    tomograms: Path | str | Sequence[Path | str],
    settings: InputSettings,
    monitor: Monitor,
    *,
    box_size: int,
    voxel_spacing_angstrom: float | None,
    particle_diameter_angstrom: float | None = None,
) -> Inputs:
    """Open picks and tomograms, say what is taken for granted, and check that they fit each other.

    Parameters
    ----------
    picks
        Particle table of any known format.
    tomograms
        Tomogram files, or a folder, a RELION tomograms.star or a copick configuration.
    settings
        What the files do not state.
    monitor
        Shows notes.
    box_size, voxel_spacing_angstrom
        Of the subtomograms to be extracted; the voxel spacing is by default 10 A, or that of coarser tomograms.
    particle_diameter_angstrom
        Longest extent of the particles, where it is known.

    Raises
    ------
    FormatError
        A file breaks its format, or lacks what cannot be guessed.
    """
    opened = open_sources(tomograms, settings, monitor)
    particles = read_particles(picks, voxel_spacing_angstrom=settings.picks_spacing, grids=collect_grids(opened))
    show_notes(picks, particles, monitor)
    return check_inputs(
        particles,
        opened,
        settings,
        monitor,
        box_size=box_size,
        voxel_spacing_angstrom=voxel_spacing_angstrom,
        particle_diameter_angstrom=particle_diameter_angstrom,
    )


def check_inputs(
    particles: Particles,
    tomograms: dict[str, Tomogram],
    settings: InputSettings,
    monitor: Monitor,
    *,
    box_size: int,
    voxel_spacing_angstrom: float | None,
    particle_diameter_angstrom: float | None = None,
) -> Inputs:
    """Check that picks and opened tomograms fit each other, and decide the sign of their density; as `open_inputs`."""
    match = find_tomograms(map(str, particles.tomogram), tomograms)
    if sentence := match.describe_folders():
        monitor.message(sentence)
    coarsest = max(tomogram.grid.voxel_spacing_angstrom for tomogram in tomograms.values())
    preflight = run_preflight(
        particles,
        tomograms,
        box_size=box_size,
        voxel_spacing_angstrom=voxel_spacing_angstrom or max(coarsest, WORKING_VOXEL_SPACING_ANGSTROM),
        particle_diameter_angstrom=particle_diameter_angstrom,
        is_stated_inverted=settings.inverted,
    )
    return Inputs(particles, dict(preflight.tomograms), preflight.findings)


def show_notes(path: Path | str, particles: Particles, monitor: Monitor) -> None:
    """Show what the reader of a table took for granted."""
    for note in particles.notes:
        monitor.message(f"note: {path}: {note}")
