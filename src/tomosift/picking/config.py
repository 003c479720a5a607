"""How a detector learns."""

from dataclasses import dataclass, field
from pathlib import Path

from tomosift.train.loop import Training


@dataclass(frozen=True)
class Config:
    """Settings of a detector."""

    init: Path | None = Path("dense")
    """Model with the encoder `dense` to start from, by default the shipped one; none for random weights."""
    box_size: int = 32
    """Edge of the boxes in which places are described, in voxels: about twice the largest particle."""
    voxel_spacing_angstrom: float = 10.0
    """At which tomograms are looked at, whatever theirs is."""
    near_angstrom: float = 18.0
    """Places so close to a pick are of its class, and in any case the one that is closest."""
    far_angstrom: float = 30.0
    """Places so far from all picks are background."""
    background_places: int = 200_000
    """From anywhere in the tomograms with picks, but no more than 40,000 from one: few would hold none of the places
    that look like a particle by chance."""
    beside_places: int = 4000
    """Of each tomogram, beside picks: within a large particle some place looks like a small one."""
    beside_angstrom: float = 130.0
    """How far from a pick those may be."""
    input_noise: float = 0.1
    """Added to standardized descriptors, in their standard deviations."""
    dropout: float = 0.2
    """Share of hidden features left out at every step."""
    few: int = 20
    """Classes with fewer picks get more: what is surely found in the same tomograms teaches another round."""
    rounds: int = 2
    """Of such further training."""
    training: Training = field(default_factory=lambda: Training(1500, 256, 2e-3, checkpoint_every=500))
    """How long and how fast; half of each batch is background."""
