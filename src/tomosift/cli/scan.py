"""Pick and classify particles in whole tomograms, without picks: from labels, or by a detector trained before."""

from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from tomosift.cli.options import LabelColumn, Seed
from tomosift.cli.terminal import TerminalMonitor, print_table
from tomosift.cli.usual import usual_options
from tomosift.compute.engine import Engine
from tomosift.picking.config import Config
from tomosift.workflows.inputs import InputSettings
from tomosift.workflows.pick import pick


@usual_options(
    "labels", "label_tomograms", "model", "label_column", "min_confidence", "inputs.inverted", "radius", "seed"
)
def command(
    tomograms: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="TOMOGRAMS")],
    /,
    out: Path,
    labels: Path | None = None,
    label_tomograms: tuple[Path, ...] = (),
    model: Path | None = None,
    label_column: LabelColumn = None,
    masks: Path | None = None,
    radius: float | None = None,
    radii: dict[str, float] | None = None,
    min_confidence: float = 0.5,
    stride: int | None = None,
    maps: bool = False,
    table: str = "particles.star",
    inputs: Annotated[InputSettings, tyro.conf.arg(name="")] = InputSettings(),
    detector: Config = Config(),
    engine: Annotated[Engine, tyro.conf.arg(name="")] = Engine(),
    seed: Seed = 0,
) -> None:
    """Pick the particles of whole tomograms and classify them.

    With --labels a detector is trained first, in a minute, from picks of each class: a handful in one tomogram is a
    start, all picks of a few tomograms are better. OUT holds ``detector/`` (a run, for --model of another scan),
    ``particles.star``, ``found/`` (one file for each tomogram, which a repeated command keeps) and ``report.html``.

    Args:
        tomograms: Tomogram files, or a folder, a RELION tomograms.star or a copick configuration.
        out: Folder for everything that is made; an interrupted scan resumes.
        labels: Particle table with classes, in any known format.
        label_tomograms: Tomograms of the labels, where these are not in the tomograms to be scanned.
        model: Folder of the detector of an earlier scan, instead of labels.
        masks: Folder of volumes with the names of the tomograms, zero where nothing is to be picked.
        radius: Particle radius in Angstrom: of two picks closer than three quarters of their radii together, the less
            confident one is dropped. By default as measured on the labels of each class.
        radii: The same for single classes: --radii ribosome 130 ferritin 65.
        min_confidence: Leave out picks of lower confidence (0 to 1).
        stride: Voxels of the detector between grid points; by default as small as it allows.
        maps: Also write the probability at every grid point, as OME-Zarr in ``maps/``.
        table: Name of the particle table; its suffix names the format.
        detector: Settings of the training of a detector.
        engine: Where tomograms are scanned.
    """
    result = pick(
        tomograms,
        out,
        labels=labels,
        label_tomograms=label_tomograms,
        model=model,
        label_column=label_column,
        masks=masks,
        radius_angstrom=radius,
        radii_angstrom=radii,
        min_confidence=min_confidence,
        stride=stride,
        maps=maps,
        table=table,
        inputs=inputs,
        detector=detector,
        engine=engine,
        seed=seed,
        monitor=TerminalMonitor(),
    )
    names = result.class_names
    rows = [[name, str(int((result.particles.class_name == name).sum()))] for name in names]
    count = len(np.unique(result.particles.tomogram.astype(str)))
    print_table(f"{result.table}: {len(result.particles)} particles in {count} tomograms", ["class", "particles"], rows)
