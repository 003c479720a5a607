"""Protocols of the benchmark: structures, imaging conditions and label budgets. A protocol is one line of a table.

All structures are bead models of the built-in atlas, so that every table can be reproduced without a download.
`tomosift.evaluation.benchmark.datasets` simulates the particles.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

from tomosift.physics.imaging import ImagingRanges, lab_protocol

BUDGETS = ("1", "5", "10", "25", "100", "1%", "5%", "25%", "all")
"""Labels per class, shares of the training part, or all labels."""

Kind = Literal["labels", "few-shot", "queries", "domain-shift"]
"""What an entry has to do: learn from a few labels, classify by a few examples in episodes, select the particles to be
labeled, or learn from the labels of another domain."""

LEARNING_METHODS = (
    "general-averages",
    "cssl-averages",
    "identify-averages",
    "identify",
    "cssl",
    "cssl-alone",
    "general",
    "cssl-probe",
    "scratch",
    "random-probe",
    "pca",
)
"""Default entries of kind ``labels``, feasible on two cores; the published convolutional networks need a GPU."""

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
"""Default entries of kind ``few-shot``."""

DOMAIN_SHIFT_METHODS = (
    "source-only",
    "source-probe",
    "source-wide",
    "own-scale",
    "coral",
    "dann",
    "cryo-shift-no-warps",
    "cryo-shift",
    "cryo-shift-wide",
    "style-power",
    "style-histogram",
    "cycle-wgan",
    "cssl-target",
    "target-labels",
)
"""Default entries of kind ``domain-shift``."""

QUERY_METHODS = (
    "hal",
    "hal-as-released",
    "random",
    "entropy",
    "margin",
    "core-set",
    "typical",
    "discriminative",
    "hal-errs",
    "random-errs",
)
"""Default entries of kind ``queries``."""


@dataclass(frozen=True)
class Protocol:
    """A benchmark data set with its label budgets, on which entries are compared."""

    description: str
    classes: tuple[str, ...]
    """Atlas names of the classes."""
    others: tuple[str, ...] = ()
    """Atlas names of particles of none of the classes, among the unlabeled and the test particles."""
    pretrained_on: tuple[str, ...] = ()
    """Atlas names of the particles for pretraining, instead of those of ``classes``."""
    snrs: tuple[float, ...] = (0.1,)
    budgets: tuple[str, ...] = ("5",)
    per_class: int = 500
    box_size: int = 32
    voxel_spacing_angstrom: float = 10.0
    shift_voxels: float = 2.0
    """Largest shift of a particle from the center of its box, along each axis."""
    tilt_deg: float = 60.0
    """Highest tilt angle on either side."""
    defocus_um: float = 5.0
    in_situ: bool = False
    """Whether particles are extracted from simulated tomograms; otherwise each subtomogram is simulated by itself."""
    source: ImagingRanges | None = None
    """Imaging conditions of the labeled simulations, where the particles themselves have no labels."""
    has_queries: bool = False
    """Whether entries select the particles to be labeled; the budget is their number."""
    ways: int = 0
    """Classes of an episode, whose examples per class are the budget; 0 where all classes are predicted at once."""
    particles_of: str = ""
    """Name of the protocol whose particles and trainings this one shares; empty for its own."""
    methods: tuple[str, ...] = LEARNING_METHODS
    """Default entries; the others are compared with the first."""

    @property
    def kind(self) -> Kind:
        """What its entries have to do."""
        if self.has_queries:
            return "queries"
        if self.ways:
            return "few-shot"
        return "labels" if self.source is None else "domain-shift"

    def imaging(self, snr: float) -> ImagingRanges:
        """Return the imaging conditions of the subtomograms; phases of tomograms are flipped, so these have no CTF."""
        shift, tilt, defocus = self.shift_voxels, self.tilt_deg, self.defocus_um
        return replace(
            lab_protocol(),
            snr=(snr, snr),
            shift_voxels=(-shift, shift),
            has_ctf=not self.in_situ,
            max_tilt_deg=(tilt, tilt),
            defocus_um=(defocus, defocus),
        )


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

_LOOKALIKES = ("groel", "proteasome-20s", "clpb", "cpn60-single-ring", "rubisco", "apoferritin", "igg", "hsp90-sba1")

_ALL = (*_TEN, "cpn60-single-ring", "igg", "achbp", "albumin", "get3", "hsp70-sse1")

_SOURCE = replace(lab_protocol(), snr=(0.1, 0.1), shift_voxels=(-2.0, 2.0))

_ROUNDS = ("2", "4", "6", "8", "12", "16", "20", "24", "30", "60", "90", "all")

_EPISODES = Protocol(
    "Episodes of five of the ten complexes with a few examples of each; no training uses labels of them.",
    classes=_TEN,
    snrs=(0.1, 0.03),
    budgets=("1", "5"),
    per_class=80,
    ways=5,
    methods=FEW_SHOT_METHODS,
)

PROTOCOLS: dict[str, Protocol] = {
    "lab-ten": Protocol(
        "Ten crowded complexes, picks up to 8 voxels off the center, imaged as in the field's published simulation.",
        classes=_TEN,
        snrs=(math.inf, 0.1, 0.05, 0.03),
        budgets=BUDGETS,
        shift_voxels=8.0,
    ),
    "centered-ten": Protocol(
        "The same ten complexes with picks within 2 voxels of the center, as by a good picker.",
        classes=_TEN,
        snrs=(0.1, 0.03),
        budgets=BUDGETS,
    ),
    "quick": Protocol(
        "A short form of `lab-ten` that takes minutes: a quarter of its particles, three budgets.",
        classes=_TEN,
        budgets=("1", "5", "25"),
        per_class=125,
        shift_voxels=8.0,
    ),
    "lookalikes": Protocol(
        "Eight complexes of similar size: barrels and rings, small globules.",
        classes=_LOOKALIKES,
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
        "Six complexes, after pretraining on eight others.",
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
        "The twelve largest structures of the atlas, with picks within 2 voxels of the center.",
        classes=(*_TEN, "cpn60-single-ring", "igg"),
        snrs=(0.1, 0.03),
        budgets=("1", "5", "100"),
        methods=(
            "general-averages",
            "cssl-averages",
            "identify-averages",
            "identify",
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
    "shift-conditions": Protocol(
        "The ten with labels of simulations at SNR 0.1 and 60 degrees, tested at SNR 0.03, 50 degrees, other defocus.",
        classes=_TEN,
        snrs=(0.03,),
        budgets=("all",),
        tilt_deg=50.0,
        defocus_um=3.0,
        source=_SOURCE,
        methods=DOMAIN_SHIFT_METHODS,
    ),
    "shift-simulator": Protocol(
        "The ten with labels of the fast simulator at SNR 0.1, tested on crowded tomograms, phases flipped.",
        classes=_TEN,
        snrs=(0.05,),
        budgets=("all",),
        per_class=288,
        in_situ=True,
        source=_SOURCE,
        methods=(*DOMAIN_SHIFT_METHODS, "style-noise", "style-texture"),
    ),
    "queries": Protocol(
        "The ten of `lab-ten`: labels are requested round by round, and a probe of `general` learns from them.",
        classes=_TEN,
        budgets=_ROUNDS,
        shift_voxels=8.0,
        has_queries=True,
        particles_of="lab-ten",
        methods=QUERY_METHODS,
    ),
    "queries-lookalikes": Protocol(
        "The same with the eight complexes of `lookalikes`.",
        classes=_LOOKALIKES,
        budgets=_ROUNDS,
        has_queries=True,
        particles_of="lookalikes",
        methods=QUERY_METHODS,
    ),
    "few-shot": _EPISODES,
    "few-shot-8-way": replace(
        _EPISODES,
        description="The same ten in episodes of eight classes.",
        ways=8,
        particles_of="few-shot",
    ),
    "few-shot-40": replace(
        _EPISODES,
        description="The same ten in boxes of 40 voxels, the published size.",
        box_size=40,
    ),
    "few-shot-all": replace(
        _EPISODES,
        description="Episodes of five of all 16 structures of the atlas, down to 62 kDa.",
        classes=_ALL,
    ),
    "few-shot-all-8-way": replace(
        _EPISODES,
        description="The same 16 in episodes of eight classes.",
        classes=_ALL,
        ways=8,
        particles_of="few-shot-all",
    ),
}
