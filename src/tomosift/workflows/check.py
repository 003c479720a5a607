"""Check picks and tomograms before the work starts."""

from collections.abc import Sequence
from pathlib import Path

from tomosift.conventions import WORKING_VOXEL_SPACING_ANGSTROM
from tomosift.data.checks.findings import Finding
from tomosift.data.checks.label_counts import check_box_sizes, check_labels
from tomosift.data.extraction.extraction_plan import check_settings
from tomosift.data.extraction.tomogram_sources import collect_grids
from tomosift.data.labels import read_labels
from tomosift.progress import Monitor
from tomosift.workflows.inputs import InputSettings, open_inputs


def check(
    picks: Path | str,
    tomograms: Path | str | Sequence[Path | str],
    *,
    labels: Path | str | None = None,
    label_column: str | None = None,
    label_tolerance_angstrom: float = 30.0,
    voxel_spacing_angstrom: float | None = None,
    box_size: int = 32,
    particle_diameter_angstrom: float | None = None,
    inputs: InputSettings = InputSettings(),
    monitor: Monitor | None = None,
) -> tuple[Finding, ...]:
    """Check picks, tomograms and labels; return one finding for each question.

    Parameters
    ----------
    picks
        Particle table of any known format.
    tomograms
        Tomogram files, or a folder, a RELION tomograms.star or a copick configuration.
    labels, label_column, label_tolerance_angstrom
        Particle table with a class for a few of the picks, to be checked as well; its column of classes, and the
        largest distance between a label and its particle.
    voxel_spacing_angstrom
        Of the subtomograms to be extracted; None takes 10, or that of the coarsest tomogram.
    box_size
        Of the subtomograms, in voxels.
    particle_diameter_angstrom
        Longest extent of the particles; None measures it in the mean of the subtomograms.
    inputs
        What the files do not state.
    monitor
        Shows messages.

    Raises
    ------
    ValueError
        A length is not positive, or a file cannot be read. What is wrong with the data is a finding instead.
    """
    spacing = WORKING_VOXEL_SPACING_ANGSTROM if voxel_spacing_angstrom is None else voxel_spacing_angstrom
    check_settings(box_size, spacing)
    if particle_diameter_angstrom is not None and not particle_diameter_angstrom > 0:
        raise ValueError(f"particle diameter is {particle_diameter_angstrom:g}, expected more than 0")
    monitor = monitor or Monitor()
    opened = open_inputs(
        picks,
        tomograms,
        inputs,
        monitor,
        box_size=box_size,
        voxel_spacing_angstrom=voxel_spacing_angstrom,
        particle_diameter_angstrom=particle_diameter_angstrom,
    )
    if labels is None:
        return opened.findings
    grids = collect_grids(opened.tomograms)
    given = read_labels(Path(labels), label_column, inputs.picks_spacing, grids, monitor.message)
    return (
        *(finding for finding in opened.findings if finding.about != "classes"),  # those of the labels count
        *check_labels(opened.particles, given, label_tolerance_angstrom),
        *check_box_sizes(given, opened.tomograms, box_size, spacing),
    )
