"""Simulate a small world and run the whole job on it, to see that everything works."""

import sys
from pathlib import Path

from tomosift.cli import sort
from tomosift.cli.terminal import print_message, progress_bar
from tomosift.methods.contrastive import Config as Contrastive
from tomosift.methods.supervised import Config as Supervised
from tomosift.simulate.dataset import simulate_dataset, write_label_table
from tomosift.simulate.dataset_config import TomogramDatasetConfig
from tomosift.train.loop import Training

CLASSES = ("ribosome-70s", "proteasome-20s", "groel", "rubisco", "apoferritin", "clpb", "stnv-capsid", "cav1-1")
SPACING, BOX = 13.333, 24
"""Coarser than the usual 10 A at 32 voxels, the same 320 A: a quickstart is to be quick."""


def command(out: Path = Path("quickstart"), tomograms: int = 10, labels_per_class: int = 5, seed: int = 0) -> None:
    """Simulate tomograms of built-in structures, write them as real files, and sort their particles with few labels.

    Args:
        out: Folder for the world and the results; an interrupted quickstart goes on.
        tomograms: How many to simulate.
        labels_per_class: Labels that the classifier is given of each class.
        seed: Seed of everything random.
    """
    world = out / "world"
    config = TomogramDatasetConfig(
        classes=CLASSES,
        particles_per_class=12,
        tomograms=tomograms,
        shape_zyx=(30, 150, 150),
        voxel_spacing_angstrom=SPACING,
        snr_box_size=BOX,
        labels=False,
        halves=False,
        seed=seed,
    )
    with progress_bar("simulate", "tomograms") as update:
        paths = simulate_dataset(config, world, update)
    write_label_table(world, out / "labels.star", labels_per_class, seed=seed)
    print_message(
        f"{world}: {tomograms} tomograms and picks of {len(CLASSES)} structures at SNR 0.1, written as MRC and STAR\n"
        f"the same from your own shell:  tomosift sort {paths.particles} --tomograms {paths.tomograms} "
        f"--labels {out / 'labels.star'} --voxel-spacing {SPACING} --box-size {BOX} --out {out / 'sorted'}"
    )
    sort.command(
        paths.particles,
        (paths.tomograms,),
        out / "labels.star",
        out / "sorted",
        sort.Boxes(voxel_spacing=SPACING, box_size=BOX),
        sort.Labels(truth=paths.particles_truth),
        pretrain=Contrastive(training=Training(steps=150)),
        finetune=Supervised(training=Training(steps=100, batch_size=32)),
        compare_scratch=True,
        seed=seed,
    )
    sys.stdout.write(f"{out / 'sorted' / 'report.html'}\n")
