"""Describe files of the field: volumes, structures, particle tables, tilt series, sets and runs."""

from pathlib import Path
from typing import Annotated

import tyro

from tomosift.cli.options import PicksSpacing
from tomosift.cli.terminal import print_table
from tomosift.workflows.inspect import describe_file

Files = Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FILES")]


def command(files: Files, /, picks_spacing: PicksSpacing = None) -> None:
    """Describe what each file holds.

    Args:
        files: Volumes, structures, particle tables, tables of tomograms, tilt series, sets or runs.
    """
    if not files:
        raise ValueError("no file is given; name at least one")
    for path in files:
        lines = describe_file(path, picks_spacing_angstrom=picks_spacing)
        print_table(str(path), ["what", "value"], [list(line) for line in lines])
