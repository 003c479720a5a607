"""Augmented views of boxes as an encoder wants them."""

import torch
from jaxtyping import Float
from torch import Tensor

from tomosift.nn.encoder import Encoder
from tomosift.physics.augmentation import ViewRanges, view


@torch.no_grad()
def augmented(
    encoder: Encoder,
    volume: Float[Tensor, "b d d d"],
    tilt_range_deg: Float[Tensor, "b 2"],
    ranges: ViewRanges,
    voxel_spacing_angstrom: float,
    generator: torch.Generator,
) -> Float[Tensor, "b d d d"]:
    """One view of each plain box, centered first and turned as the encoder asks; give it to the encoder as centered."""
    parameters = ranges.sample(len(volume), generator)
    centered = encoder.centered(volume)
    return view(centered, tilt_range_deg, parameters, voxel_spacing_angstrom, generator, encoder.turns)
