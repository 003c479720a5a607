"""The particles of a protocol, simulated where they are not there yet, and their split."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tomosift.data.extraction.empty_positions import sample_empty_positions
from tomosift.data.extraction.extract import extract
from tomosift.data.extraction.tomogram_sources import grids_by_name, open_tomograms
from tomosift.data.labels import transfer_labels
from tomosift.data.splits import split_by_tomogram
from tomosift.data.subtomograms import Subtomograms
from tomosift.evaluation.benchmark.protocols import Protocol
from tomosift.io.particles import read_particles
from tomosift.physics.imaging import ImagingRanges
from tomosift.simulate.dataset import Progress, simulate_dataset
from tomosift.simulate.dataset_config import TomogramDatasetConfig
from tomosift.simulate.subtomograms import SubtomogramSetConfig, simulate_subtomograms

SOURCE_EACH = 200
"""Labeled particles of each class of another domain."""
_EMPTY = 400


@dataclass(frozen=True, eq=False)
class BenchmarkData:
    """The particles of one protocol at one noise level and seed; splits are by tomogram (or batch of simulation)."""

    train: Subtomograms
    """60 %, with the true class of all but those of no class; nothing where episodes are asked."""
    validation: Subtomograms
    """20 %, spare: no method of the table looks at it, so that labels are counted honestly."""
    test: Subtomograms
    """20 %; particles of none of the classes are unlabeled in it. Everything where episodes are asked."""
    source: Subtomograms | None
    """Labeled particles of another domain, where the protocol has one."""
    pretraining: Subtomograms
    """What pretraining sees, without labels; the training part unless the protocol says otherwise."""
    empty: Subtomograms | None = None
    """Boxes from places of the training tomograms away from all picks, where there is a source and tomograms."""


def build_data(protocol: Protocol, snr: float, seed: int, folder: Path) -> BenchmarkData:
    """Simulate (or open) the particles below ``folder``; noise, poses and split all vary with the seed.

    Raises
    ------
    ValueError
        When the folder holds other particles.
    """
    everything = simulate_particles(protocol, protocol.classes + protocol.others, snr, seed, folder / "particles")
    if protocol.ways:
        everything = _known(everything, protocol.classes)
        none = everything.select(np.zeros(0, dtype=np.int64))
        return BenchmarkData(none, none, everything, None, _unlabeled(everything))
    split = split_by_tomogram(everything.particles, (0.6, 0.2, 0.2), seed)
    train, validation, test = (_known(everything.select(rows), protocol.classes) for rows in split)
    before = train
    if protocol.pretrained_on:
        before = simulate_particles(protocol, protocol.pretrained_on, snr, seed + 1_000_000, folder / "pretrained-on")
    source = None
    if protocol.source is not None:
        elsewhere = replace(protocol, in_situ=False, per_class=SOURCE_EACH)
        source = simulate_particles(
            elsewhere, protocol.classes, snr, seed + 3_000_000, folder / "source", protocol.source
        )
        source = _known(source, protocol.classes)
    empty = None
    if protocol.in_situ and source is not None:
        empty = _empty_boxes(protocol, train, folder / "particles")
    return BenchmarkData(train, validation, test, source, _unlabeled(before), empty)


def _empty_boxes(protocol: Protocol, train: Subtomograms, folder: Path) -> Subtomograms:
    spacing, size = protocol.voxel_spacing_angstrom, protocol.box_size
    tomograms = open_tomograms(folder / "tomograms" / "tomograms")
    margin = 0.5 * size * spacing
    places = sample_empty_positions(train.particles, tomograms, _EMPTY, margin, margin, seed=0)
    return extract(places, tomograms, folder / "empty", voxel_spacing_angstrom=spacing, box_size=size, workers=2)


def _unlabeled(part: Subtomograms) -> Subtomograms:
    return part.with_labels(np.full(len(part), ""))


def _known(part: Subtomograms, classes: tuple[str, ...]) -> Subtomograms:
    names = part.particles.class_name.astype(str)
    return part.with_labels(np.where(np.isin(names, classes), names, "").astype(object), classes)


def simulate_particles(
    protocol: Protocol,
    classes: tuple[str, ...],
    snr: float,
    seed: int,
    folder: Path,
    ranges: ImagingRanges | None = None,
) -> Subtomograms:
    """Particles of these atlas entries under the conditions of a protocol, or others, made or opened in ``folder``."""
    if protocol.in_situ:
        return _from_tomograms(protocol, classes, snr, seed, folder)
    return simulate_subtomograms(
        SubtomogramSetConfig(
            classes=classes,
            per_class=protocol.per_class,
            box_size=protocol.box_size,
            ranges=ranges or protocol.imaging(snr),
            voxel_spacing_angstrom=protocol.voxel_spacing_angstrom,
            seed=seed,
        ),
        folder,
    )


def _from_tomograms(protocol: Protocol, classes: tuple[str, ...], snr: float, seed: int, folder: Path) -> Subtomograms:
    each = 12
    config = TomogramDatasetConfig(
        classes=classes,
        particles_per_class=each,
        tomograms=max(5, protocol.per_class // each),
        shape_zyx=(40, 220, 220),
        voxel_spacing_angstrom=protocol.voxel_spacing_angstrom,
        snr=None if math.isinf(snr) else snr,
        snr_box_size=protocol.box_size,
        pick_jitter_angstrom=10.0,
        halves=False,
        labels=False,
        seed=seed,
    )
    spacing, size = protocol.voxel_spacing_angstrom, protocol.box_size
    return extract_from_tomograms(config, folder / "tomograms", folder / "boxes", spacing, size)


def extract_from_tomograms(
    config: TomogramDatasetConfig,
    tomogram_folder: Path,
    box_folder: Path,
    voxel_spacing_angstrom: float,
    box_size: int,
    progress: Progress | None = None,
) -> Subtomograms:
    """Boxes cut from simulated tomograms, through the same files and doors as a user's, with their true classes.

    What is finished is opened, what was interrupted is gone on with.
    """
    paths = simulate_dataset(config, tomogram_folder, progress)
    tomograms = open_tomograms(paths.tomograms)
    grids = grids_by_name(tomograms)
    picks, truth = (read_particles(path, grids=grids) for path in (paths.particles, paths.particles_truth))
    boxes = extract(
        picks,
        tomograms,
        box_folder,
        voxel_spacing_angstrom=voxel_spacing_angstrom,
        box_size=box_size,
        workers=2,
    )
    return boxes.with_labels(transfer_labels(boxes.particles, truth))
