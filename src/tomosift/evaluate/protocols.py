"""Protocols of the benchmark: which particles, under which conditions, with how many labels. A protocol is one entry.

All structures are those of the built-in atlas: bead models of real entries, so that every table can be made again
without a download.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tomosift.data.extract import extract
from tomosift.data.labels import transfer_labels
from tomosift.data.splits import split_by_tomogram
from tomosift.data.subtomograms import Subtomograms
from tomosift.data.tomogram_folder import grids_by_name, open_tomograms
from tomosift.io.formats import read_particles
from tomosift.physics.imaging import ImagingRanges, lab_protocol
from tomosift.simulate.dataset import Progress, simulate_dataset
from tomosift.simulate.dataset_config import TomogramDatasetConfig
from tomosift.simulate.subtomograms import SubtomogramSetConfig, simulate_subtomograms

BUDGETS = ("1", "5", "10", "25", "100", "1%", "5%", "25%", "all")
"""Labels per class, shares of the training part, or all labels there are."""

LEARNING_METHODS = ("cssl", "cssl-alone", "general", "cssl-probe", "scratch", "random-probe", "pca")
"""Rows that two cores get through; the published convolutional shapes take a GPU or patience."""

FEW_SHOT_METHODS = (
    "general",
    "prototypes-random",
    "prototypes-general",
    "cssl",
    "protonet",
    "protonet-ce",
    "protonet-general",
    "protonet-general-ce",
    "discriminant-general",
)
"""The same of the few-shot rows."""


@dataclass(frozen=True)
class Protocol:
    """A question to the methods."""

    sentence: str
    classes: tuple[str, ...]
    """Atlas names of the classes that are labeled and asked for."""
    others: tuple[str, ...] = ()
    """Atlas names of particles of none of the classes; they are among the unlabeled and among the test particles."""
    pretrained_on: tuple[str, ...] = ()
    """Atlas names of what pretraining sees instead of the particles of ``classes``."""
    snrs: tuple[float, ...] = (0.1,)
    budgets: tuple[str, ...] = ("5",)
    per_class: int = 500
    box_size: int = 32
    voxel_spacing_angstrom: float = 10.0
    shift_voxels: float = 2.0
    """Farthest that a particle lies off the center of its box, along each axis."""
    in_situ: bool = False
    """From tomograms with per-tilt noise and reconstruction; otherwise box by box."""
    ways: int = 0
    """Classes of an episode, of which the budget names the examples; 0 where all classes are asked for at once."""
    particles_of: str = ""
    """Name of the protocol whose particles and trainings this one uses as well; its own where empty."""
    methods: tuple[str, ...] = LEARNING_METHODS
    """Rows that are measured where none are asked for; the others are compared with the first."""

    def imaging(self, snr: float) -> ImagingRanges:
        """Conditions under which the boxes are imaged; of tomograms the nearest there is, their phases are flipped."""
        shift = self.shift_voxels
        return replace(lab_protocol(), snr=(snr, snr), shift_voxels=(-shift, shift), has_ctf=not self.in_situ)


_TEN: tuple[str, ...] = (
    "ribosome-70s",
    "ribosome-30s",
    "groel",
    "proteasome-20s",
    "rubisco",
    "apoferritin",
    "clpb",
    "stnv-capsid",
    "cav1-1",
    "hsp90-sba1",
)

_ALL = (*_TEN, "cpn60-single-ring", "igg", "achbp", "albumin", "get3", "hsp70-sse1")

_EPISODES = Protocol(
    "Episodes of five of the ten, named by a few examples; no labels of them are learned from.",
    classes=_TEN,
    snrs=(0.1, 0.03),
    budgets=("1", "5"),
    per_class=80,
    ways=5,
    methods=FEW_SHOT_METHODS,
)

PROTOCOLS: dict[str, Protocol] = {
    "lab-ten": Protocol(
        "Ten complexes, crowded and up to 8 voxels off center, imaged as in the field's published simulation.",
        classes=_TEN,
        snrs=(math.inf, 0.1, 0.05, 0.03),
        budgets=BUDGETS,
        shift_voxels=8.0,
    ),
    "centered-ten": Protocol(
        "The same ten with picks within 2 voxels of the center, as a good picker leaves them.",
        classes=_TEN,
        snrs=(0.1, 0.03),
        budgets=BUDGETS,
    ),
    "quick": Protocol(
        "A look at `lab-ten` in minutes: a quarter of its particles, three budgets.",
        classes=_TEN,
        budgets=("1", "5", "25"),
        per_class=125,
        shift_voxels=8.0,
    ),
    "lookalikes": Protocol(
        "Eight complexes of like size: barrels and rings, small globules.",
        classes=("groel", "proteasome-20s", "clpb", "cpn60-single-ring", "rubisco", "apoferritin", "igg", "hsp90-sba1"),
    ),
    "small": Protocol(
        "Six complexes of 62 to 157 kDa.",
        classes=("achbp", "albumin", "get3", "hsp70-sse1", "hsp90-sba1", "igg"),
    ),
    "in-situ": Protocol(
        "Seven complexes in crowded tomograms; three in ten particles are of none of the classes.",
        classes=("ribosome-70s", "groel", "proteasome-20s", "rubisco", "apoferritin", "stnv-capsid", "cav1-1"),
        others=("ribosome-30s", "clpb", "hsp90-sba1"),
        per_class=288,
        in_situ=True,
    ),
    "unseen": Protocol(
        "Pretrained on eight complexes, labeled and asked on six others.",
        classes=("groel", "rubisco", "apoferritin", "clpb", "ribosome-30s", "cav1-1"),
        pretrained_on=(
            "ribosome-70s",
            "proteasome-20s",
            "stnv-capsid",
            "hsp90-sba1",
            "igg",
            "achbp",
            "get3",
            "hsp70-sse1",
        ),
    ),
    "twelve": Protocol(
        "The twelve largest structures of the atlas, picks within 2 voxels.",
        classes=(*_TEN, "cpn60-single-ring", "igg"),
        snrs=(0.1, 0.03),
        budgets=("1", "5", "100"),
        methods=(
            "cssl",
            "cssl-probe",
            "cssl-alone",
            "cssl-alone-probe",
            "general",
            "general-probe",
            "scratch",
            "random-probe",
        ),
    ),
    "few-shot": _EPISODES,
    "few-shot-8-way": replace(
        _EPISODES,
        sentence="The same ten in episodes of eight classes.",
        ways=8,
        particles_of="few-shot",
    ),
    "few-shot-40": replace(
        _EPISODES,
        sentence="The same ten in boxes of 40 voxels, the published size.",
        box_size=40,
    ),
    "few-shot-all": replace(
        _EPISODES,
        sentence="Episodes of five of all 16 structures of the atlas, down to 62 kDa.",
        classes=_ALL,
    ),
    "few-shot-all-8-way": replace(
        _EPISODES,
        sentence="The same 16 in episodes of eight classes.",
        classes=_ALL,
        ways=8,
        particles_of="few-shot-all",
    ),
}


@dataclass(frozen=True, eq=False)
class World:
    """The particles of one protocol at one noise level and seed; splits are by tomogram (or batch of simulation)."""

    train: Subtomograms
    """60 %, with the true class of all but those of no class; nothing where episodes are asked."""
    validation: Subtomograms
    """20 %, spare: no method of the table looks at it, so that labels are counted honestly."""
    test: Subtomograms
    """20 %; particles of none of the classes are unlabeled in it. Everything where episodes are asked."""
    pretraining: Subtomograms
    """What pretraining sees, without labels; the training part unless the protocol says otherwise."""


def build_world(protocol: Protocol, snr: float, seed: int, folder: Path) -> World:
    """Simulate (or open) the particles below ``folder``; noise, poses and split all vary with the seed.

    Raises
    ------
    ValueError
        When the folder holds other particles.
    """
    everything = simulated(protocol, protocol.classes + protocol.others, snr, seed, folder / "particles")
    if protocol.ways:
        everything = _known(everything, protocol.classes)
        none = everything.select(np.zeros(0, dtype=np.int64))
        return World(none, none, everything, _unlabeled(everything))
    split = split_by_tomogram(everything.particles, (0.6, 0.2, 0.2), seed)
    train, validation, test = (_known(everything.select(rows), protocol.classes) for rows in split)
    before = train
    if protocol.pretrained_on:
        before = simulated(protocol, protocol.pretrained_on, snr, seed + 1_000_000, folder / "pretrained-on")
    return World(train, validation, test, _unlabeled(before))


def _unlabeled(part: Subtomograms) -> Subtomograms:
    return part.with_labels(np.full(len(part), ""))


def _known(part: Subtomograms, classes: tuple[str, ...]) -> Subtomograms:
    names = part.particles.class_name.astype(str)
    return part.with_labels(np.where(np.isin(names, classes), names, "").astype(object), classes)


def simulated(protocol: Protocol, classes: tuple[str, ...], snr: float, seed: int, folder: Path) -> Subtomograms:
    """Particles of these atlas entries under the conditions of a protocol, made or opened below ``folder``."""
    if protocol.in_situ:
        return _from_tomograms(protocol, classes, snr, seed, folder)
    return simulate_subtomograms(
        SubtomogramSetConfig(
            classes=classes,
            per_class=protocol.per_class,
            box_size=protocol.box_size,
            ranges=protocol.imaging(snr),
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
    return boxes_from_tomograms(config, folder / "tomograms", folder / "boxes", spacing, size)


def boxes_from_tomograms(
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
