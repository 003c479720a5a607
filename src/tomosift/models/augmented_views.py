"""Augmented views of subtomograms, which are recentered first."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from tomosift.models.embedder import CenterCache, Embedder
from tomosift.physics.augmentation import ViewRanges, view


@torch.no_grad()
def augment_recentered(
    embedder: Embedder,
    volume: Float[Tensor, "b d d d"],
    index: Int64[Tensor, " b"],
    tilt_range_deg: Float[Tensor, "b 2"],
    ranges: ViewRanges,
    voxel_spacing_angstrom: float,
    generator: torch.Generator,
    cache: CenterCache,
) -> Float[Tensor, "b d d d"]:
    """Draw one augmented view of each subtomogram, for `Encoder.forward`.

    Parameters
    ----------
    embedder
        Recenters; its encoder states which augmentation of the pose it needs.
    volume, index, tilt_range_deg
        Subtomograms of a set, their rows in it, and their lowest and highest tilt.
    ranges
        Ranges from which ``generator`` draws the parameters of the views.
    cache
        Offsets of the subtomograms of this set.
    """
    parameters = ranges.sample(len(volume), generator)
    centered = cache.recenter(embedder, volume, index)
    return view(centered, tilt_range_deg, parameters, voxel_spacing_angstrom, embedder.encoder.pose_augmentation)
