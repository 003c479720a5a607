"""Look at picks and tomograms before the work starts and say in plain words what is wrong."""

from pathlib import Path
from typing import Annotated

import tyro

from tomosift.cli.terminal import print_message, print_table
from tomosift.conventions import WORKING_VOXEL_SPACING_ANGSTROM
from tomosift.data.checks.findings import LEVELS, Finding
from tomosift.data.checks.preflight import run_preflight
from tomosift.data.extraction.tomogram_sources import collect_grids, open_tomograms
from tomosift.files import write_json
from tomosift.io.particles import read_particles


def command(
    picks: Annotated[Path, tyro.conf.Positional],
    /,
    tomograms: tuple[Path, ...],
    voxel_spacing: float | None = None,
    box_size: int = 32,
    particle_diameter: float | None = None,
    inverted: bool = False,
    tilt_range: tuple[float, float] | None = None,
    picks_spacing: float | None = None,
    tomogram_spacing: float | None = None,
    json: Path | None = None,
) -> None:
    """Look at picks and tomograms before the work starts and say in plain words what is wrong.

    Ends with exit code 2 where something is so wrong that the work cannot succeed.

    Args:
        picks: Particle table in any format that is known.
        tomograms: Tomograms, a folder of them, or RELION's tomograms.star.
        voxel_spacing: Voxel edge of the boxes in Angstrom; by default 10, or that of coarser tomograms.
        box_size: Box edge in voxels.
        particle_diameter: Longest extent of the particles in Angstrom; else read off the mean of the boxes.
        inverted: Particles are dark in the tomograms.
        tilt_range: Lowest and highest tilt angle in degrees, where no file says.
        picks_spacing: Pixel edge of the picks in Angstrom, where a table in pixels does not say.
        tomogram_spacing: Voxel edge of the tomograms in Angstrom, where their headers are wrong or silent.
        json: Also write the findings to this file.
    """
    for name, value in (
        ("box-size", box_size),
        ("voxel-spacing", voxel_spacing),
        ("particle-diameter", particle_diameter),
    ):
        if value is not None and not value > 0:
            raise ValueError(f"{name} is {value}, expected more than 0")
    opened = open_tomograms(tomograms, tomogram_spacing, inverted, tilt_range_deg=tilt_range, report=print_message)
    particles = read_particles(
        picks, voxel_spacing_angstrom=picks_spacing or tomogram_spacing, grids=collect_grids(opened)
    )
    coarsest = max(tomogram.grid.voxel_spacing_angstrom for tomogram in opened.values())
    findings = run_preflight(
        particles,
        opened,
        box_size=box_size,
        voxel_spacing_angstrom=voxel_spacing or max(coarsest, WORKING_VOXEL_SPACING_ANGSTROM),
        particle_diameter_angstrom=particle_diameter,
    )
    show_findings(str(picks), findings)
    if json is not None:
        write_json(json, {"picks": str(picks), "findings": [finding.as_json() for finding in findings]})
    errors = [finding.about for finding in findings if finding.level == "error"]
    if errors:
        raise ValueError(f"{len(errors)} of {len(findings)} findings are errors ({', '.join(errors)}); mend them first")


def show_findings(title: str, findings: tuple[Finding, ...]) -> None:
    """Findings as a table, the worst last, where the eye is when the command has ended."""
    ordered = sorted(findings, key=lambda finding: LEVELS.index(finding.level))
    print_table(title, ["", "about", "finding"], [[one.level, one.about, one.sentence] for one in ordered])
