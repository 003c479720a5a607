"""Simulate crowded tomograms of known structures, with picks, as real files."""

from pathlib import Path
from typing import Annotated

import tyro

from tomosift.cli.terminal import print_message, progress_bar
from tomosift.compute.engine import Engine, for_each
from tomosift.simulate.dataset import (
    TomogramDatasetConfig,
    simulate_dataset,
    simulate_tomogram,
    tomogram_tasks,
    write_label_table,
)


def command(
    config: Annotated[TomogramDatasetConfig, tyro.conf.arg(name="")],
    out: Path,
    labels_per_class: int = 0,
    engine: Annotated[Engine, tyro.conf.arg(name="")] = Engine(),
) -> None:
    """Simulate tomograms into a folder: volumes, tables and truth as a user would bring them.

    The same command on a folder that is there goes on where it stopped; more --tomograms add to it.

    Args:
        config: What the data set is like.
        out: Folder to write to.
        labels_per_class: Also write labels.star with this many labeled picks of each class.
        engine: Where tomograms are simulated.
    """
    if labels_per_class < 0:
        raise ValueError(f"labels-per-class is {labels_per_class}, expected 0 or more")
    with progress_bar("simulating", "tomograms") as update:
        tasks = tomogram_tasks(config, out)
        for_each(simulate_tomogram, tasks, engine, update)
    paths = simulate_dataset(config, out)  # of which nothing is left to do but the tables
    print_message(
        f"{config.tomograms} tomograms with {len(config.class_names)} classes: {', '.join(config.class_names)}"
    )
    print_message(f"  tomograms  {paths.tomograms}")
    print_message(f"  picks      {paths.particles}")
    print_message(f"  truth      {paths.particles_truth}")
    if labels_per_class:
        labels = write_label_table(out, out / "labels.star", labels_per_class)
        print_message(f"  labels     {labels} ({labels_per_class} picks of each class)")
    inverted = " --inverted" if config.dark_on_disk else ""
    print_message(f"next: tomosift check {paths.particles} --tomograms {paths.tomograms}{inverted}")
