"""Simulate small tomograms and sort their particles, to check the installation."""

import sys
from pathlib import Path

from tomosift.cli.options import Seed
from tomosift.cli.terminal import TerminalMonitor, print_message
from tomosift.methods.contrastive import Config as ContrastiveConfig
from tomosift.methods.supervised import Config as SupervisedConfig
from tomosift.train.loop import Training
from tomosift.workflows.extract import ExtractionSettings
from tomosift.workflows.simulate import simulate
from tomosift.workflows.sort import sort

STRUCTURES = (
    "ribosome-70s", "proteasome-20s", "groel", "rubisco", "apoferritin", "clpb", "stnv-capsid", "cav1-1",
)  # fmt: skip
VOXEL_SPACING_ANGSTROM, BOX_SIZE = 13.333, 24
"""Coarser than the usual 10 A at 32 voxels, the same 320 A, so that a quickstart is quick."""


def command(out: Path = Path("quickstart"), tomograms: int = 10, labels_per_class: int = 5, seed: Seed = 0) -> None:
    """Simulate tomograms of built-in structures, write them as real files, and sort their particles with few labels.

    Args:
        out: Folder for the simulated files and the results; an interrupted quickstart resumes.
        tomograms: Number of simulated tomograms.
        labels_per_class: Labeled picks of each class.
    """
    monitor = TerminalMonitor()
    world = simulate(
        STRUCTURES,
        out / "world",
        labels_per_class=labels_per_class,
        seed=seed,
        monitor=monitor,
        tomograms=tomograms,
        particles_per_class=12,
        shape_zyx=(30, 150, 150),
        voxel_spacing_angstrom=VOXEL_SPACING_ANGSTROM,
        snr_box_size=BOX_SIZE,
        labels=False,
        halves=False,
    )
    print_message(
        f"{out / 'world'}: {tomograms} tomograms and picks of {len(STRUCTURES)} structures at SNR 0.1, written as MRC "
        f"and STAR\nthe same from your own shell:  tomosift sort {world.picks} --tomograms {world.tomograms} "
        f"--labels {world.labels} --voxel-spacing {VOXEL_SPACING_ANGSTROM} --box-size {BOX_SIZE} --out {out / 'sorted'}"
    )
    sort(
        world.picks,
        world.tomograms,
        world.labels,
        out / "sorted",
        extraction=ExtractionSettings(voxel_spacing=VOXEL_SPACING_ANGSTROM, box_size=BOX_SIZE),
        truth=world.truth,
        pretrain=ContrastiveConfig(training=Training(steps=150)),
        finetune=SupervisedConfig(training=Training(steps=100, batch_size=32)),
        compare_scratch=True,
        seed=seed,
        monitor=monitor,
    )
    sys.stdout.write(f"{out / 'sorted' / 'report.html'}\n")
