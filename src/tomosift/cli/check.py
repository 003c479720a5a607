"""Check picks and tomograms before the work starts."""

from pathlib import Path
from typing import Annotated

import tyro

from tomosift.cli.options import LabelColumn, LabelTolerance, Picks, Tomograms
from tomosift.cli.terminal import TerminalMonitor, print_table
from tomosift.cli.usual import usual_options
from tomosift.data.checks.findings import LEVELS, Finding
from tomosift.files import write_json
from tomosift.workflows.check import check
from tomosift.workflows.inputs import InputSettings


@usual_options(
    "labels", "voxel_spacing", "box_size", "particle_diameter", "inputs.inverted", "inputs.tilt_range", "json"
)
def command(
    picks: Picks,
    /,
    tomograms: Tomograms,
    labels: Path | None = None,
    label_column: LabelColumn = None,
    label_tolerance: LabelTolerance = 30.0,
    voxel_spacing: float | None = None,
    box_size: int = 32,
    particle_diameter: float | None = None,
    inputs: Annotated[InputSettings, tyro.conf.arg(name="")] = InputSettings(),
    json: Path | None = None,
) -> None:
    """Check positions, box size, contrast, voxel spacing and missing wedge, and print one finding for each question.

    The exit code is 2 if a finding is an error, with which the work cannot succeed.

    Args:
        labels: Particle table with a class for a few of the picks, to be checked as well.
        voxel_spacing: Voxel spacing of the subtomograms in Angstrom; by default 10, or that of coarser tomograms.
        box_size: Box size in voxels.
        particle_diameter: Longest extent of the particles in Angstrom; by default as measured in the mean subtomogram.
        json: Also write the findings to this file.
    """
    findings = check(
        picks,
        tomograms,
        labels=labels,
        label_column=label_column,
        label_tolerance_angstrom=label_tolerance,
        voxel_spacing_angstrom=voxel_spacing,
        box_size=box_size,
        particle_diameter_angstrom=particle_diameter,
        inputs=inputs,
        monitor=TerminalMonitor(),
    )
    _print_findings(str(picks), findings)
    if json is not None:
        write_json(json, {"picks": str(picks), "findings": [finding.as_json() for finding in findings]})
    errors = [finding.about for finding in findings if finding.level == "error"]
    if errors:
        raise ValueError(f"{len(errors)} of {len(findings)} findings are errors ({', '.join(errors)}); fix them first")


def _print_findings(title: str, findings: tuple[Finding, ...]) -> None:
    """Print findings as a table, the worst last, next to the prompt."""
    ordered = sorted(findings, key=lambda finding: LEVELS.index(finding.level))
    print_table(title, ["", "about", "finding"], [[one.level, one.about, one.sentence] for one in ordered])
