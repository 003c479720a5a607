"""Extract subtomograms from tomograms, or import those of another program, into a set."""

from pathlib import Path
from typing import Annotated

import tyro

from tomosift.cli.options import Tomograms
from tomosift.cli.terminal import TerminalMonitor, print_message
from tomosift.cli.usual import usual_options
from tomosift.compute.engine import Engine
from tomosift.workflows.extract import Borders, describe_set, extract_subtomograms
from tomosift.workflows.inputs import InputSettings


@usual_options("tomograms", "voxel_spacing", "box_size", "borders", "inputs.inverted", "inputs.tilt_range", "empty")
def command(
    picks: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="PICKS")],
    /,
    out: Path,
    tomograms: Tomograms = (),
    voxel_spacing: float | None = None,
    box_size: int | None = None,
    borders: Borders = "pad",
    inputs: Annotated[InputSettings, tyro.conf.arg(name="")] = InputSettings(),
    remake: bool = False,
    empty: int = 0,
    empty_distance: float = 160.0,
    engine: Annotated[Engine, tyro.conf.arg(name="")] = Engine(),
) -> None:
    """Extract a subtomogram around every pick, rescaled to one voxel spacing, into a set.

    Without --tomograms, subtomograms that another program extracted are imported.

    Args:
        picks: Particle table of any known format; without --tomograms, a folder or a stack of subtomograms.
        out: Folder of the set; an interrupted one resumes.
        voxel_spacing: Voxel spacing of the subtomograms in Angstrom; by default 10, or that of imported ones.
        box_size: Box size in voxels; by default 32, or that of imported subtomograms.
        borders: Fill subtomograms that reach beyond the tomogram with the local mean, or leave them out.
        remake: Make the set again where OUT holds one of other picks, tomograms or settings; else that is an error.
        empty: Extract this many subtomograms at random positions away from all picks instead.
        empty_distance: Smallest distance in Angstrom between such a position and any pick.
        engine: Where tomograms are cropped: without workers in this process, by one thread for each processor; with
            workers one tomogram to a task. Imports always run in this process.
    """
    subtomograms = extract_subtomograms(
        picks,
        out,
        tomograms=tomograms,
        voxel_spacing_angstrom=voxel_spacing,
        box_size=box_size,
        borders=borders,
        inputs=inputs,
        remake=remake,
        empty=empty,
        empty_distance_angstrom=empty_distance,
        engine=engine,
        monitor=TerminalMonitor(),
    )
    print_message(describe_set(subtomograms))
