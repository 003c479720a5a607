"""The particles of a protocol, simulated or opened, and their split."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tomosift.data.extraction.empty_positions import sample_empty_positions
from tomosift.data.extraction.extract import extract
from tomosift.data.extraction.tomogram_sources import collect_grids, open_tomograms
from tomosift.data.labels import transfer_labels
from tomosift.data.splits import split_by_tomogram
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.evaluation.benchmark.protocols import Protocol
from tomosift.io.particles import read_particles
from tomosift.physics.imaging import ImagingRanges
from tomosift.progress import Progress, ignore_progress
from tomosift.simulation.dataset import simulate_dataset
from tomosift.simulation.dataset_config import TomogramDatasetConfig
from tomosift.simulation.subtomograms import SubtomogramSetConfig, simulate_subtomograms

SOURCE_PER_CLASS = 200
"""Labeled particles of each class of the source domain."""
_EMPTY_POSITIONS = 400
_PRETRAINING_SEED, _SOURCE_SEED = 1_000_000, 3_000_000  # added to the seed, for other particles of the same protocol
_PER_TOMOGRAM = 12
"""Particles of each class in a tomogram."""


@dataclass(frozen=True, eq=False)
class BenchmarkData:
    """The particles of one protocol at one SNR and seed, split by tomogram (or by batch of the simulation)."""

    train: Subtomograms
    """60 %, with the true class of all but those of no class; empty for few-shot protocols."""
    validation: Subtomograms
    """20 % that no entry uses, so that no label is used beside the budget."""
    test: Subtomograms
    """20 %, in which particles of none of the classes are unlabeled; everything for few-shot protocols."""
    source: Subtomograms | None
    """Labeled particles of the source domain, where the protocol has one."""
    pretraining: Subtomograms
    """Unlabeled particles for pretraining: the training part unless the protocol says otherwise."""
    empty: Subtomograms | None = None
    """Subtomograms of the training tomograms away from all picks, for protocols with tomograms and a source domain."""


def build_data(protocol: Protocol, snr: float, seed: int, folder: Path) -> BenchmarkData:
    """Simulate (or open) the particles of a protocol below a folder.

    Parameters
    ----------
    protocol
        Structures and imaging conditions.
    snr
        SNR of the subtomograms; infinity for no noise.
    seed
        Of noise, poses and split.
    folder
        Where the sets are kept.

    Raises
    ------
    ValueError
        The folder holds other particles.
    """
    everything = simulate_particles(protocol, protocol.classes + protocol.others, snr, seed, folder / "particles")
    if protocol.ways:
        everything = _keep_labels(everything, protocol.classes)
        none = everything.empty()
        return BenchmarkData(none, none, everything, None, _remove_labels(everything))
    split = split_by_tomogram(everything.particles, (0.6, 0.2, 0.2), seed)
    train, validation, test = (_keep_labels(everything.select(rows), protocol.classes) for rows in split)
    pretraining = train
    if protocol.pretrained_on:
        below = folder / "pretrained-on"
        pretraining = simulate_particles(protocol, protocol.pretrained_on, snr, seed + _PRETRAINING_SEED, below)
    source = None
    if protocol.source is not None:
        fast = replace(protocol, in_situ=False, per_class=SOURCE_PER_CLASS)
        below = folder / "source"
        source = simulate_particles(fast, protocol.classes, snr, seed + _SOURCE_SEED, below, protocol.source)
        source = _keep_labels(source, protocol.classes)
    empty = None
    if protocol.in_situ and source is not None:
        empty = _extract_empty(protocol, train, folder / "particles")
    return BenchmarkData(train, validation, test, source, _remove_labels(pretraining), empty)


def simulate_particles(
    protocol: Protocol,
    structures: tuple[str, ...],
    snr: float,
    seed: int,
    folder: Path,
    ranges: ImagingRanges | None = None,
) -> Subtomograms:
    """Simulate (or open) particles of atlas entries under the conditions of a protocol, or under ``ranges``."""
    if protocol.in_situ:
        return _simulate_in_tomograms(protocol, structures, snr, seed, folder)
    return simulate_subtomograms(
        SubtomogramSetConfig(
            classes=structures,
            per_class=protocol.per_class,
            box_size=protocol.box_size,
            ranges=ranges or protocol.imaging(snr),
            voxel_spacing_angstrom=protocol.voxel_spacing_angstrom,
            seed=seed,
        ),
        folder,
    )


def extract_from_tomograms(
    config: TomogramDatasetConfig,
    tomogram_folder: Path,
    set_folder: Path,
    voxel_spacing_angstrom: float,
    box_size: int,
    progress: Progress = ignore_progress,
) -> Subtomograms:
    """Simulate tomograms and extract subtomograms from them with their true classes, through the files a user has.

    Finished tomograms and sets are opened; interrupted ones are resumed.

    Parameters
    ----------
    config
        Of the tomograms.
    tomogram_folder, set_folder
        Where tomograms and subtomograms are kept.
    voxel_spacing_angstrom, box_size
        Of the subtomograms.
    progress
        Called with the number of simulated tomograms.
    """
    paths = simulate_dataset(config, tomogram_folder, progress)
    tomograms = open_tomograms(paths.tomograms)
    grids = collect_grids(tomograms)
    picks, truth = (read_particles(path, grids=grids) for path in (paths.particles, paths.particles_truth))
    subtomograms = extract(
        picks,
        tomograms,
        set_folder,
        voxel_spacing_angstrom=voxel_spacing_angstrom,
        box_size=box_size,
        workers=2,
    )
    return subtomograms.with_labels(transfer_labels(subtomograms.particles, truth))


def _simulate_in_tomograms(
    protocol: Protocol, structures: tuple[str, ...], snr: float, seed: int, folder: Path
) -> Subtomograms:
    spacing, size = protocol.voxel_spacing_angstrom, protocol.box_size
    config = TomogramDatasetConfig(
        classes=structures,
        particles_per_class=_PER_TOMOGRAM,
        tomograms=max(5, protocol.per_class // _PER_TOMOGRAM),
        shape_zyx=(40, 220, 220),
        voxel_spacing_angstrom=spacing,
        snr=None if math.isinf(snr) else snr,
        snr_box_size=size,
        pick_jitter_angstrom=10.0,
        halves=False,
        labels=False,
        seed=seed,
    )
    return extract_from_tomograms(config, folder / "tomograms", folder / "boxes", spacing, size)


def _extract_empty(protocol: Protocol, train: Subtomograms, folder: Path) -> Subtomograms:
    spacing, size = protocol.voxel_spacing_angstrom, protocol.box_size
    tomograms = open_tomograms(folder / "tomograms" / "tomograms")
    margin = 0.5 * size * spacing
    positions = sample_empty_positions(train.particles, tomograms, _EMPTY_POSITIONS, margin, margin, seed=0)
    return extract(positions, tomograms, folder / "empty", voxel_spacing_angstrom=spacing, box_size=size, workers=2)


def _remove_labels(part: Subtomograms) -> Subtomograms:
    return part.with_labels(np.full(len(part), ""))


def _keep_labels(part: Subtomograms, classes: tuple[str, ...]) -> Subtomograms:
    names = part.particles.class_name.astype(str)
    return part.with_labels(np.where(np.isin(names, classes), names, "").astype(object), classes)
