"""Simulate single subtomograms of known structures or synthetic complexes, also in the style of measured ones."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tomosift import methods
from tomosift.data.subtomogram_set import Subtomograms, open_subtomograms
from tomosift.models.generator_files import generator_digest, load_generator
from tomosift.physics.imaging import lab_protocol
from tomosift.progress import Monitor
from tomosift.simulation.style_baselines import STYLES, fit_style
from tomosift.simulation.style_transfer import StyleTransfer
from tomosift.simulation.subtomograms import (
    SubtomogramSetConfig,
    simulate_subtomograms,
    simulate_synthetic_complexes,
)


def simulate_set(
    out: Path | str,
    *,
    structures: Sequence[str] = (),
    synthetic: int = 0,
    per_class: int = 40,
    box_size: int = 32,
    voxel_spacing_angstrom: float = 10.0,
    snr: tuple[float, float] = (0.1, 0.1),
    shift_voxels: float = 2.0,
    max_neighbors: int = 4,
    masks: bool = True,
    style: str | None = None,
    like: Path | None = None,
    empty: Path | None = None,
    seed: int = 0,
    monitor: Monitor | None = None,
) -> Subtomograms:
    """Simulate a set of labeled subtomograms.

    Parameters
    ----------
    out
        Folder of the set; an interrupted one resumes.
    structures
        Names of the atlas, structure or map files.
    synthetic
        Number of synthetic complexes instead.
    per_class, box_size, voxel_spacing_angstrom
        Subtomograms of each class, their box size and voxel spacing.
    snr
        Lowest and highest signal-to-noise ratio (ratio of variances in the box).
    shift_voxels
        Largest picking error along each axis.
    max_neighbors
        Largest number of other particles in a box.
    masks
        Also store the mask of each particle.
    style, like, empty
        Style of the subtomograms: a name of `STYLES` with the set that has it (and, for ``"noise"``, a set without
        particles), or the folder of a run of `tomosift.workflows.translate`.
    seed
        Seed of all random numbers.
    monitor
        Shows progress.

    Raises
    ------
    ValueError
        Structures and synthetic complexes are both given or both missing, a number is out of range, or a style lacks
        what it needs.
    """
    out, monitor = Path(out), monitor or Monitor()
    _check(structures, synthetic, snr, style, like, empty)
    transfer, name = None, ""
    if style is not None:
        transfer, name, box_size, voxel_spacing_angstrom = _open_style(style, like, empty)
    imaging = lab_protocol() if transfer is None else transfer.ranges
    imaging = replace(imaging, snr=snr, shift_voxels=(-shift_voxels, shift_voxels))
    with monitor.stage("simulate", "subtomograms") as progress:
        if synthetic:
            return simulate_synthetic_complexes(
                synthetic,
                per_class,
                imaging,
                seed,
                out,
                box_size=box_size,
                voxel_spacing_angstrom=voxel_spacing_angstrom,
                max_neighbors=max_neighbors,
                masks=masks,
                progress=progress,
            )
        config = SubtomogramSetConfig(
            tuple(structures), per_class, box_size, imaging, voxel_spacing_angstrom, max_neighbors, seed=seed
        )
        return simulate_subtomograms(config, out, style=transfer, style_name=name, masks=masks, progress=progress)


def _check(
    structures: Sequence[str],
    synthetic: int,
    snr: tuple[float, float],
    style: str | None,
    like: Path | None,
    empty: Path | None,
) -> None:
    if bool(structures) == bool(synthetic):
        raise ValueError("give either --structures or --synthetic, the number of synthetic complexes")
    if synthetic < 0:
        raise ValueError(f"synthetic is {synthetic}, expected a positive number")
    if not 0 < snr[0] <= snr[1]:
        raise ValueError(f"snr is {snr[0]:g} to {snr[1]:g}, expected two positive numbers, the lower one first")
    if style is None and (like or empty):
        raise ValueError("--like and --empty belong to --style; give one of its names")
    if style is not None and synthetic:
        raise ValueError("--style belongs to --structures; synthetic complexes have no measured style")


def _open_style(style: str, like: Path | None, empty: Path | None) -> tuple[StyleTransfer, str, int, float]:
    """The style, a name that identifies it, and the box size and voxel spacing that it is for."""
    if style not in STYLES:
        folder = Path(style)
        if not folder.is_dir():
            raise ValueError(f"style is {style!r}, expected one of {', '.join(STYLES)}, or an existing folder")
        if like or empty:
            raise ValueError(f"{style} has its own style; --like and --empty belong to {', '.join(STYLES)}")
        generator = load_generator(folder)
        card = generator.card
        return generator, f"translator {generator_digest(folder)}", card.box_size, card.voxel_spacing_angstrom
    if like is None:
        raise ValueError(f"style {style} needs --like, the set that has the style")
    target, background = open_subtomograms(like), None if empty is None else open_subtomograms(empty)
    name = f"{style} of {methods.set_digest(target)}"
    if background is not None:
        name += f" in {methods.set_digest(background)}"
        if background.box_size != target.box_size:
            raise ValueError(
                f"the box size of {empty} is {background.box_size} voxels, that of {like} {target.box_size}"
            )
    return fit_style(style, target, background), name, target.box_size, target.voxel_spacing_angstrom
