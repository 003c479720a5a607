"""Simulate boxes of known structures, or of complexes that do not exist, straight into a set with classes and masks."""

from dataclasses import replace
from pathlib import Path

from tomosift.commands.extract import summary
from tomosift.commands.terminal import progress_bar, say
from tomosift.physics.imaging import lab_protocol
from tomosift.simulate.random_complexes import simulate_random_complexes
from tomosift.simulate.subtomograms import SubtomogramSetConfig, simulate_subtomograms


def command(
    out: Path,
    classes: tuple[str, ...] = (),
    random: int = 0,
    per_class: int = 40,
    box_size: int = 32,
    voxel_spacing: float = 10.0,
    snr: tuple[float, float] = (0.1, 0.1),
    shift_voxels: float = 2.0,
    max_neighbors: int = 4,
    masks: bool = True,
    seed: int = 0,
) -> None:
    """Simulate boxes into a set: what `train prototypical` and `train one_shot` learn from.

    Tomograms take minutes each; thousands of boxes take one. A finished set of the same settings is left as it is.

    Args:
        out: Folder of the set; an interrupted one is continued.
        classes: Names of the atlas, or structure or map files.
        random: Instead of classes, so many complexes that do not exist: what learns from them has seen no structure.
        per_class: Boxes of each class.
        box_size: Box edge in voxels.
        voxel_spacing: Voxel edge in Angstrom.
        snr: Lowest and highest signal-to-noise ratio (variances); the same number twice for one.
        shift_voxels: Farthest that a particle lies off the center of its box, along each axis.
        max_neighbors: Each box has from none to this many other particles around its own.
        masks: Also keep which voxels belong to each particle.
        seed: Seed of poses, neighbors, noise and, with --random, of the complexes.
    """
    if bool(classes) == bool(random):
        raise ValueError("give either --classes or --random, the number of complexes that do not exist")
    if random < 0:
        raise ValueError(f"random is {random}, expected a positive number")
    if not 0 < snr[0] <= snr[1]:
        raise ValueError(f"snr is {snr[0]:g} to {snr[1]:g}, expected two positive numbers, the lower one first")
    imaging = replace(lab_protocol(), snr=snr, shift_voxels=(-shift_voxels, shift_voxels))
    with progress_bar("boxes", "boxes") as update:

        def shown(done: int, total: int) -> None:
            update(done, total, "")

        if random:
            made = simulate_random_complexes(
                random,
                per_class,
                imaging,
                seed,
                out,
                box_size=box_size,
                voxel_spacing_angstrom=voxel_spacing,
                max_neighbors=max_neighbors,
                masks=masks,
                progress=shown,
            )
        else:
            config = SubtomogramSetConfig(
                classes, per_class, box_size, imaging, voxel_spacing, max_neighbors, seed=seed
            )
            made = simulate_subtomograms(config, out, masks=masks, progress=shown)
    say(summary(made))
