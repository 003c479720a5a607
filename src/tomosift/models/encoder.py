"""What every encoder is: a box of voxels in, one embedding out.

Contract: ``encoder(volume (b, d, d, d)) -> (b, embedding_size)`` for any cubic box from 16 to 64 voxels, no dependence
between the members of a batch at evaluation, and no knowledge of classes.
"""

from collections.abc import Callable
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy.typing import NDArray
from torch import Tensor, nn

from tomosift.models.masking import soft_sphere
from tomosift.models.recentering import REACH, center_candidates, estimate_centers, estimate_picking_error, recenter

BOXES_TO_PREPARE = 500
"""Plain boxes that an encoder gets to see in `Encoder.prepare`."""
MINIMUM_BOX_SIZE = 16
MAXIMUM_BOX_SIZE = 64


ReadBoxes = Callable[[NDArray[np.int64]], NDArray[np.float32]]
"""Gives the boxes ``(b, d, d, d)`` of these rows."""

ReportDone = Callable[[int, int], None]
"""Called with the boxes, or classes, done and those in all."""


class Encoder(nn.Module):
    """Base of all encoders: checks the box and hands it on; members implement `embed`."""

    embedding_size: int
    centers: ClassVar[bool] = False
    """Whether each box is moved so that its particle lies in the middle, before anything else sees it."""
    places: ClassVar[int] = 1
    """Over so many of the most probable middles of a box its embedding is averaged."""
    turns: ClassVar[Literal["box", "wedge"]] = "box"
    """What has to be turned to show this encoder a particle in another pose; the wedge will do where turning the box
    changes nothing in the embedding."""
    has_fixed_part: ClassVar[bool] = False
    """Whether `fixed_part` makes a few numbers of a box."""
    has_mask: ClassVar[bool] = True
    """Whether boxes are multiplied by a soft sphere; a member without does not see corners by its own making."""
    dropout = 0.0
    """Share of the hidden features that a training leaves out at every step, where a member has any."""
    spread: Tensor
    """How far off the middle particles are expected, in box edges; a number that `prepare` takes from the data."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("spread", torch.tensor(REACH))

    def prepare(self, volume: Float[Tensor, "b d d d"]) -> None:
        """Look at plain boxes of the set that is to be trained on, before the first step."""
        if self.centers:
            self.spread.fill_(estimate_picking_error(volume))

    def forward(self, volume: Float[Tensor, "b d d d"], is_centered: bool = False) -> Float[Tensor, "b e"]:
        """Embeddings of boxes with zero mean and unit variance, density positive.

        ``is_centered`` says that the boxes were made from what `centered` gave, and are to be left where they are.
        """
        if is_centered or not self.centers:
            return self.embed(self.inputs(volume, is_centered))
        return self.averaged(volume, *self.middles(volume))

    def averaged(
        self, volume: Float[Tensor, "b d d d"], offset_zyx_voxels: Int64[Tensor, "b m 3"], share: Float[Tensor, "b m"]
    ) -> Float[Tensor, "b e"]:
        """Mean embedding of each box moved to each of these places, which count by their shares.

        At SNR 0.1 the most probable middle is the true one for one box in three and a voxel off for most others; six
        of them instead of one name 1.5 to 2 points more particles right by one or five examples.
        """
        parts = zip(offset_zyx_voxels.unbind(1), share.unbind(1), strict=True)
        one_by_one = (part[:, None] * self.embed(self.inputs(recenter(volume, at), True)) for at, part in parts)
        return torch.stack(list(one_by_one)).sum(dim=0)

    def inputs(self, volume: Float[Tensor, "b d d d"], is_centered: bool = False) -> Float[Tensor, "b *features"]:
        """What this encoder makes of boxes before its first weight; `embed` takes it from there."""
        size = volume.shape[-1]
        if not MINIMUM_BOX_SIZE <= size <= MAXIMUM_BOX_SIZE:
            raise ValueError(
                f"box size is {size} voxels, but encoders take {MINIMUM_BOX_SIZE} to {MAXIMUM_BOX_SIZE}; "
                "extract with another --box-size or voxel spacing"
            )
        moved = volume if is_centered else self.centered(volume)
        return self.fixed_part(apply_soft_sphere(moved) if self.has_mask else moved)

    def centered(self, volume: Float[Tensor, "b d d d"]) -> Float[Tensor, "b d d d"]:
        """Boxes moved so that their particle lies in the middle; as they are, if this encoder does not ask for that.

        A trainer centers plain boxes once and makes its views of them: noise and hidden parts of a view would only lead
        the search astray, and a shift of a view then stands for an error of the center.
        """
        return recenter(volume, self.offset(volume)) if self.centers else volume

    def middles(self, volume: Float[Tensor, "b d d d"]) -> tuple[Int64[Tensor, "b m 3"], Float[Tensor, "b m"]]:
        """The most probable middles of each box as `offset` gives the first of them, and how probable they are."""
        return center_candidates(volume, float(self.spread), self.places)

    def offset(self, volume: Float[Tensor, "b d d d"]) -> Int64[Tensor, "b 3"]:
        """Where `centered` finds each particle, voxels (zyx) from the middle of its box; zero if it does not look."""
        if not self.centers:
            return torch.zeros(len(volume), 3, dtype=torch.int64, device=volume.device)
        return estimate_centers(volume, float(self.spread))

    def fixed_part(self, volume: Float[Tensor, "b d d d"]) -> Float[Tensor, "b *features"]:
        """Masked boxes with a channel axis, or what a member computes of them without weights."""
        return volume[:, None]

    def take_scale(self, mean: Float[Tensor, " n"], deviation: Float[Tensor, " n"]) -> None:
        """Become an encoder of inputs as they are, after training on inputs less ``mean`` over ``deviation``."""
        raise NotImplementedError

    def embed(self, volume: Float[Tensor, "b 1 d d d"]) -> Float[Tensor, "b e"]:
        """Embeddings of `inputs`."""
        raise NotImplementedError


def apply_soft_sphere(volume: Float[Tensor, "b d d d"]) -> Float[Tensor, "b d d d"]:
    """Boxes multiplied by a soft sphere.

    What lies in the corners leaves the box when it is rotated, so an encoder that sees corners sees something that
    training on rotated views has never shown.
    """
    return volume * soft_sphere(volume.shape[-1], device=volume.device, dtype=volume.dtype)
