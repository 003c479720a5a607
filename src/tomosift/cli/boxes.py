"""Simulate boxes of known structures, or of complexes that do not exist, straight into a set with classes and masks."""

from dataclasses import replace
from pathlib import Path

from tomosift import methods
from tomosift.cli.extract import summary
from tomosift.cli.terminal import print_message, progress_bar
from tomosift.data.subtomograms import open_subtomograms
from tomosift.models.generators import generator_digest, load_generator
from tomosift.physics.imaging import lab_protocol
from tomosift.simulate.maps import BoxStyle
from tomosift.simulate.structures.synthetic_complexes import simulate_synthetic_complexes
from tomosift.simulate.styles import STYLES, fit_style
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
    style: str | None = None,
    like: Path | None = None,
    empty: Path | None = None,
    seed: int = 0,
) -> None:
    """Simulate boxes into a set: what `train prototypical` and `train one_shot` learn from.

    With --style they look like measured ones, and a classifier trained on them may do better on those.

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
        style: Look of the boxes: plain, power, histogram, noise or texture, with --like; or the folder of a run of
            `translate`.
        like: Set whose look is wanted; of it box size, voxel spacing and tilt ranges are taken as well.
        empty: Set of boxes without particles (see `extract --empty`), for --style noise.
        seed: Seed of poses, neighbors, noise and, with --random, of the complexes.
    """
    if bool(classes) == bool(random):
        raise ValueError("give either --classes or --random, the number of complexes that do not exist")
    if random < 0:
        raise ValueError(f"random is {random}, expected a positive number")
    if not 0 < snr[0] <= snr[1]:
        raise ValueError(f"snr is {snr[0]:g} to {snr[1]:g}, expected two positive numbers, the lower one first")
    if style is None and (like or empty):
        raise ValueError("--like and --empty are for --style; give one of its names")
    if style is not None and random:
        raise ValueError("--style is for --classes; boxes of complexes that do not exist have no look")
    chosen, name = None, ""
    if style is not None:
        chosen, name, box_size, voxel_spacing = _style(style, like, empty)
    imaging = lab_protocol() if chosen is None else chosen.ranges
    imaging = replace(imaging, snr=snr, shift_voxels=(-shift_voxels, shift_voxels))
    with progress_bar("boxes", "boxes") as update:
        if random:
            made = simulate_synthetic_complexes(
                random,
                per_class,
                imaging,
                seed,
                out,
                box_size=box_size,
                voxel_spacing_angstrom=voxel_spacing,
                max_neighbors=max_neighbors,
                masks=masks,
                progress=update,
            )
        else:
            config = SubtomogramSetConfig(
                classes, per_class, box_size, imaging, voxel_spacing, max_neighbors, seed=seed
            )
            made = simulate_subtomograms(config, out, look=chosen, look_name=name, masks=masks, progress=update)
    print_message(summary(made))


def _style(style: str, like: Path | None, empty: Path | None) -> tuple[BoxStyle, str, int, float]:
    """The look that is asked for, which it is, and box size and voxel spacing that it is for."""
    if style not in STYLES:
        folder = Path(style)
        if not folder.is_dir():
            raise ValueError(f"style is {style!r}, expected one of {', '.join(STYLES)}, or a folder that is there")
        if like or empty:
            raise ValueError(f"{style} was made for boxes of its own; --like and --empty go with {', '.join(STYLES)}")
        made = load_generator(folder)
        return made, f"translator {generator_digest(folder)}", made.card.box_size, made.card.voxel_spacing_angstrom
    if like is None:
        raise ValueError(f"style {style} needs --like, the set whose look is wanted")
    target, none = open_subtomograms(like), None if empty is None else open_subtomograms(empty)
    name = f"{style} of {methods.set_digest(target)}" + (f" in {methods.set_digest(none)}" if none else "")
    if none is not None and none.box_size != target.box_size:
        raise ValueError(f"boxes of {empty} are {none.box_size} voxels wide, those of {like} {target.box_size}")
    return fit_style(style, target, none), name, target.box_size, target.voxel_spacing_angstrom
