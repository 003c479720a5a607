"""The contract of every encoder: from a subtomogram whose particle lies in the center of its box to one embedding.

Contract: ``encoder(volume (b, d, d, d)) -> (b, embedding_size)`` for any cubic box from 16 to 64 voxels, no dependence
between the members of a batch at evaluation, and no knowledge of classes. `tomosift.models.recentering` estimates the
center.
"""

from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tomosift.models.distributed import distributed_dropout
from tomosift.models.masking import soft_sphere

MINIMUM_BOX_SIZE = 16
MAXIMUM_BOX_SIZE = 64


class Encoder(nn.Module):
    """Base of all encoders: checks the box size and applies the mask; members implement `embed`."""

    name: str = ""
    """Its word in `tomosift.models.encoders.ENCODERS`."""
    embedding_size: int
    recenters: ClassVar[bool] = False
    """Whether subtomograms are shifted first so that their particle lies in the center of the box."""
    center_candidates: ClassVar[int] = 1
    """Number of the most probable centers over which the embedding of a subtomogram is averaged."""
    pose_augmentation: ClassVar[Literal["box", "wedge"]] = "box"
    """What an augmentation has to rotate to show this encoder a particle in another pose. Rotating the missing wedge
    alone suffices where rotating the density does not change the embedding."""
    has_fixed_features: ClassVar[bool] = False
    """Whether `fixed_features` reduces a subtomogram to a few numbers."""
    has_mask: ClassVar[bool] = True
    """Whether subtomograms are multiplied by a soft sphere; members without one ignore corners by construction."""
    dropout: float = 0.0
    """Share of the hidden features that are dropped at every training step, in members that support it."""

    def forward(self, volume: Float[Tensor, "b d d d"]) -> Float[Tensor, "b e"]:
        """Embed subtomograms with zero mean, unit variance and positive density, their particles in the center."""
        return self.embed(self.prepare_input(volume))

    def prepare_input(self, volume: Float[Tensor, "b d d d"]) -> Float[Tensor, "b *features"]:
        """Compute what the first trained layer receives; `embed` takes it from there.

        Raises
        ------
        ValueError
            The box size is outside of 16 to 64 voxels.
        """
        size = volume.shape[-1]
        if not MINIMUM_BOX_SIZE <= size <= MAXIMUM_BOX_SIZE:
            raise ValueError(
                f"box size is {size} voxels, but encoders take {MINIMUM_BOX_SIZE} to {MAXIMUM_BOX_SIZE}; "
                "extract with another --box-size or voxel spacing"
            )
        return self.fixed_features(apply_soft_sphere(volume) if self.has_mask else volume)

    def fixed_features(self, volume: Float[Tensor, "b d d d"]) -> Float[Tensor, "b *features"]:
        """Compute features without weights; by default, add a channel axis to the masked subtomograms."""
        return volume[:, None]

    def absorb_standardization(self, mean: Float[Tensor, " n"], deviation: Float[Tensor, " n"]) -> None:
        """Adapt the first layer to raw inputs after training on ``(inputs - mean) / deviation``."""
        raise NotImplementedError

    def embed(self, volume: Float[Tensor, "b 1 d d d"]) -> Float[Tensor, "b e"]:
        """Compute embeddings from the output of `prepare_input`."""
        raise NotImplementedError


class DescriptorEncoder(Encoder):
    """Base of encoders that are a small network on descriptors computed without weights."""

    embedding_size = 256
    pose_augmentation = "wedge"
    has_fixed_features = True

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(inputs, 256), nn.ReLU(), nn.Linear(256, self.embedding_size), nn.ReLU())

    @torch.no_grad()
    def absorb_standardization(self, mean: Float[Tensor, " n"], deviation: Float[Tensor, " n"]) -> None:
        first = self.layers[0]
        assert isinstance(first, nn.Linear)
        first.weight.div_(deviation)
        first.bias.sub_(first.weight @ mean)

    def embed(self, volume: Float[Tensor, "b n"]) -> Float[Tensor, "b e"]:
        hidden = self.layers[:2](volume)
        return self.layers[2:](distributed_dropout(hidden, self.dropout, self.training))  # type: ignore[no-any-return]


def apply_soft_sphere(volume: Float[Tensor, "b d d d"]) -> Float[Tensor, "b d d d"]:
    """Multiply subtomograms by a soft sphere.

    Corners leave the box when it is rotated, so that an encoder of rotated views never learns from them.
    """
    return volume * soft_sphere(volume.shape[-1], device=volume.device, dtype=volume.dtype)
