"""What every encoder is: a box of voxels in, one embedding out.

Contract: ``encoder(volume (b, d, d, d)) -> (b, embedding_size)`` for any cubic box from 16 to 64 voxels, no dependence
between the members of a batch at evaluation, and no knowledge of classes.
"""

from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tomosift.nn.centering import REACH, find_centers, fit_spread, recentered
from tomosift.nn.masking import soft_sphere

BOXES_TO_PREPARE = 500
"""Plain boxes that an encoder gets to see in `Encoder.prepare`."""
MINIMUM_BOX_SIZE = 16
MAXIMUM_BOX_SIZE = 64


class Encoder(nn.Module):
    """Base of all encoders: checks the box and gives it a channel axis; members implement `embed`."""

    embedding_size: int
    centers: ClassVar[bool] = False
    """Whether each box is moved so that its particle lies in the middle, before anything else sees it."""
    turns: ClassVar[Literal["box", "wedge"]] = "box"
    """What has to be turned to show this encoder a particle in another pose; the wedge will do where turning the box
    changes nothing in the embedding."""
    spread: Tensor
    """How far off the middle particles are expected, in box edges; a number that `prepare` takes from the data."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("spread", torch.tensor(REACH))

    def prepare(self, volume: Float[Tensor, "b d d d"]) -> None:
        """Look at plain boxes of the set that is to be trained on, before the first step of a new encoder."""
        if self.centers:
            self.spread.fill_(fit_spread(volume))

    def forward(self, volume: Float[Tensor, "b d d d"]) -> Float[Tensor, "b e"]:
        """Embeddings of boxes with zero mean and unit variance, density positive."""
        size = volume.shape[-1]
        if not MINIMUM_BOX_SIZE <= size <= MAXIMUM_BOX_SIZE:
            raise ValueError(
                f"box size is {size} voxels, but encoders take {MINIMUM_BOX_SIZE} to {MAXIMUM_BOX_SIZE}; "
                "extract with another --box-size or voxel spacing"
            )
        return self.embed(self.framed(volume)[:, None])

    def framed(self, volume: Float[Tensor, "b d d d"]) -> Float[Tensor, "b d d d"]:
        """Boxes as `embed` gets them: centered if this encoder wants that, and multiplied by a soft sphere.

        What lies in the corners leaves the box when it is rotated, so an encoder that sees corners sees something that
        training on rotated views has never shown.
        """
        if self.centers:
            volume = recentered(volume, find_centers(volume, float(self.spread)))
        return volume * soft_sphere(volume.shape[-1], device=volume.device, dtype=volume.dtype)

    def embed(self, volume: Float[Tensor, "b 1 d d d"]) -> Float[Tensor, "b e"]:
        """Embeddings of masked boxes."""
        raise NotImplementedError
