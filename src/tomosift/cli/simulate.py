"""Simulate tomograms, or single subtomograms, of known structures or of synthetic complexes."""

from pathlib import Path
from typing import Annotated

import tyro

from tomosift.cli.options import Seed, Structures
from tomosift.cli.terminal import TerminalMonitor, print_message
from tomosift.cli.usual import usual_options
from tomosift.compute.engine import Engine
from tomosift.simulation.dataset_config import TomogramDatasetConfig
from tomosift.workflows.extract import describe_set
from tomosift.workflows.simulate import simulate_tomograms
from tomosift.workflows.simulate_subtomograms import simulate_set

_USUAL_FIELDS = (
    "classes", "particles_per_class", "tomograms", "shape_zyx", "voxel_spacing_angstrom", "snr", "seed",
)  # fmt: skip


@usual_options(*(f"config.{name}" for name in _USUAL_FIELDS), "labels_per_class")
def tomograms(
    config: Annotated[TomogramDatasetConfig, tyro.conf.arg(name="")],
    out: Path,
    labels_per_class: int = 0,
    engine: Annotated[Engine, tyro.conf.arg(name="")] = Engine(),
) -> None:
    """Simulate crowded tomograms of known structures: volumes, particle tables and true classes, as real files.

    The same command on an existing folder resumes; more --tomograms add to it.

    Args:
        config: Specimens, microscope and files.
        out: Folder to write to.
        labels_per_class: Also write labels.star with this many labeled picks of each class.
        engine: Where tomograms are simulated.
    """
    world = simulate_tomograms(config, out, labels_per_class=labels_per_class, engine=engine, monitor=TerminalMonitor())
    print_message(
        f"{config.tomograms} tomograms with {len(config.class_names)} classes: {', '.join(config.class_names)}"
    )
    print_message(f"  tomograms  {world.tomograms}\n  picks      {world.picks}\n  truth      {world.truth}")
    if labels_per_class:
        print_message(f"  labels     {world.labels} ({labels_per_class} picks of each class)")
    inverted = " --inverted" if config.dark_on_disk else ""
    print_message(f"next: tomosift check {world.picks} --tomograms {world.tomograms}{inverted}")


@usual_options("structures", "synthetic", "per_class", "box_size", "voxel_spacing", "snr", "style", "like", "seed")
def subtomograms(
    out: Path,
    structures: Structures = (),
    synthetic: int = 0,
    per_class: int = 40,
    box_size: int = 32,
    voxel_spacing: float = 10.0,
    snr: tuple[float, float] = (0.1, 0.1),
    shift_voxels: float = 2.0,
    max_neighbors: int = 4,
    masks: bool = True,
    style: str | None = None,
    like: Path | None = None,
    empty: Path | None = None,
    seed: Seed = 0,
) -> None:
    """Simulate subtomograms into a set with classes and masks: what `train prototypical` and `train one_shot` need.

    With --style they resemble measured subtomograms, and a classifier trained on them may be better on those. A
    finished set of the same settings is kept.

    Args:
        out: Folder of the set; an interrupted one resumes.
        synthetic: Number of synthetic complexes instead of --structures.
        per_class: Subtomograms of each class.
        box_size: Box size in voxels.
        voxel_spacing: Voxel spacing in Angstrom.
        snr: Lowest and highest signal-to-noise ratio (variances); the same number twice for one.
        shift_voxels: Largest picking error along each axis, in voxels.
        max_neighbors: Largest number of other particles in a box.
        masks: Also store which voxels belong to each particle.
        style: Style of the subtomograms: plain, power, histogram, noise or texture, with --like; or the folder of a run
            of `translate`.
        like: Set that has the style; box size, voxel spacing and tilt ranges are taken from it as well.
        empty: Set without particles (see `extract --empty`), for --style noise.
    """
    subtomogram_set = simulate_set(
        out,
        structures=structures,
        synthetic=synthetic,
        per_class=per_class,
        box_size=box_size,
        voxel_spacing_angstrom=voxel_spacing,
        snr=snr,
        shift_voxels=shift_voxels,
        max_neighbors=max_neighbors,
        masks=masks,
        style=style,
        like=like,
        empty=empty,
        seed=seed,
        monitor=TerminalMonitor(),
    )
    print_message(describe_set(subtomogram_set))


command = {"tomograms": tomograms, "subtomograms": subtomograms}
