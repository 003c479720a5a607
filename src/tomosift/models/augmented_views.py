"""Boxes of a set as an encoder wants them: centered, and in augmented views."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from tomosift.models.encoder import Encoder
from tomosift.models.recentering import CenterCache, recenter
from tomosift.physics.augmentation import ViewRanges, view


@torch.no_grad()
def augment_recentered(
    encoder: Encoder,
    volume: Float[Tensor, "b d d d"],
    index: Int64[Tensor, " b"],
    tilt_range_deg: Float[Tensor, "b 2"],
    ranges: ViewRanges,
    voxel_spacing_angstrom: float,
    generator: torch.Generator,
    centers: CenterCache,
) -> Float[Tensor, "b d d d"]:
    """One view of each plain box, centered first and turned as the encoder asks; give it to the encoder as centered.

    ``index`` says which boxes of their set these are, ``centers`` remembers where their particles were found.
    """
    parameters = ranges.sample(len(volume), generator)
    plain = recenter_cached(encoder, volume, index, centers)
    return view(plain, tilt_range_deg, parameters, voxel_spacing_angstrom, encoder.turns)


def recenter_cached(
    encoder: Encoder, volume: Float[Tensor, "b d d d"], index: Int64[Tensor, " b"], centers: CenterCache
) -> Float[Tensor, "b d d d"]:
    """What `Encoder.centered` makes of plain boxes of a set, whose middles are looked for once; see `augmented`."""
    return recenter(volume, centers.of(volume, index, encoder.offset)) if encoder.centers else volume
