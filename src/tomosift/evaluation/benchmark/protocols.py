"""Protocols of the benchmark: which particles, under which conditions, with how many labels. A protocol is one entry.

All structures are those of the built-in atlas: bead models of real entries, so that every table can be made again
without a download. `tomosift.evaluation.benchmark.datasets` makes the particles.
"""

import math
from dataclasses import dataclass, replace

from tomosift.physics.imaging import ImagingRanges, lab_protocol

BUDGETS = ("1", "5", "10", "25", "100", "1%", "5%", "25%", "all")
"""Labels per class, shares of the training part, or all labels there are."""

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


SHIFTED_METHODS = (
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
"""The same of protocols whose labels are of another domain."""


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
"""The same of protocols that ask for labels round by round."""


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
    tilt_deg: float = 60.0
    """Highest tilt to either side."""
    defocus_um: float = 5.0
    in_situ: bool = False
    """From tomograms with per-tilt noise and reconstruction; otherwise box by box."""
    source: ImagingRanges | None = None
    """Conditions of the fast simulations whose labels are learned from, where the particles themselves have none."""
    asks: bool = False
    """Whether the rows themselves choose which particles are labeled; the budget is how many."""
    ways: int = 0
    """Classes of an episode, of which the budget names the examples; 0 where all classes are asked for at once."""
    particles_of: str = ""
    """Name of the protocol whose particles and trainings this one uses as well; its own where empty."""
    methods: tuple[str, ...] = LEARNING_METHODS
    """Rows that are measured where none are asked for; the others are compared with the first."""

    def imaging(self, snr: float) -> ImagingRanges:
        """Conditions under which the boxes are imaged; of tomograms the nearest there is, their phases are flipped."""
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
        "The ten with labels of simulations at SNR 0.1 and 60 degrees, asked at SNR 0.03, 50 degrees, other defocus.",
        classes=_TEN,
        snrs=(0.03,),
        budgets=("all",),
        tilt_deg=50.0,
        defocus_um=3.0,
        source=_SOURCE,
        methods=SHIFTED_METHODS,
    ),
    "shift-simulator": Protocol(
        "The ten with labels of the fast simulator at SNR 0.1, asked on boxes of crowded tomograms, phases flipped.",
        classes=_TEN,
        snrs=(0.05,),
        budgets=("all",),
        per_class=288,
        in_situ=True,
        source=_SOURCE,
        methods=(*SHIFTED_METHODS, "style-noise", "style-texture"),
    ),
    "queries": Protocol(
        "The ten of `lab-ten`: particles are asked for round by round, and a probe of `general` learns from them.",
        classes=_TEN,
        budgets=_ROUNDS,
        shift_voxels=8.0,
        asks=True,
        particles_of="lab-ten",
        methods=QUERY_METHODS,
    ),
    "queries-lookalikes": Protocol(
        "The same of the eight complexes of like size.",
        classes=_LOOKALIKES,
        budgets=_ROUNDS,
        asks=True,
        particles_of="lookalikes",
        methods=QUERY_METHODS,
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
