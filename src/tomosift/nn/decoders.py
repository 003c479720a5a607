"""Decoders: which voxels of a box belong to its particle."""

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tomosift.nn.center_finder import PLACES, CenterFinder, center_finder, coarse
from tomosift.nn.centering import recentered
from tomosift.nn.cosnet import CHANNELS, CosNet, stage
from tomosift.nn.encoder import Encoder, masked

DECODERS: dict[str, str] = {
    "unet": "Three scales with skip connections, started from the network that finds centers; any encoder.",
    "cosnet": "The decoder half of COS-Net, without skip connections; encoders cosnet and siamese.",
}

_OUTSIDE = -10.0  # logit where a box that was moved has nothing to show


class Decoder(nn.Module):
    """Base of all decoders: embeddings and masks of boxes in one pass; members implement `forward`."""

    def forward(
        self, volume: Float[Tensor, "b d d d"], encoder: Encoder
    ) -> tuple[Float[Tensor, "b e"], Float[Tensor, "b d d d"]]:
        """The encoder's embeddings of boxes, and the log odds that a voxel belongs to the particle, as the box lies."""
        raise NotImplementedError


class CosNetDecoder(Decoder):
    """Source: see `tomosift.nn.cosnet`. Deviation: logits instead of a sigmoid at the end, for a stable loss."""

    def __init__(self, attends: bool = True) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ConvTranspose3d(CHANNELS, CHANNELS, 2, stride=2),
            stage(attends),
            nn.ConvTranspose3d(CHANNELS, CHANNELS, 2, stride=2),
            stage(attends),
            nn.Conv3d(CHANNELS, 1, 1),
        )

    def forward(
        self, volume: Float[Tensor, "b d d d"], encoder: Encoder
    ) -> tuple[Float[Tensor, "b e"], Float[Tensor, "b d d d"]]:
        if not isinstance(encoder, CosNet):
            raise ValueError("the decoder cosnet needs the encoder cosnet or siamese; take the decoder unet")
        features = encoder.features(masked(volume)[:, None])
        logits = self.layers(features)[:, 0]
        size, made = volume.shape[-1], logits.shape[-1]
        if made < size:  # pooling dropped the last voxels of an edge that four does not divide
            logits = nn.functional.pad(logits, (0, size - made) * 3, value=_OUTSIDE)
        return encoder.embedded(features), logits


class UNet(Decoder):
    """The centered box on a coarse grid, down to a quarter of it and up to twice its resolution; ours.

    It has the shape and the first weights of the network that finds centers, which has already learned to tell a
    particle from its neighbors. What is finer than `coarse` keeps is lost in the noise of one subtomogram anyway.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers = CenterFinder()
        self.layers.load_state_dict(center_finder().state_dict())
        # Log-likelihoods of places become log odds of voxels; most voxels are not of the particle.
        self.level = nn.Parameter(torch.tensor(-2.0))

    def forward(
        self, volume: Float[Tensor, "b d d d"], encoder: Encoder
    ) -> tuple[Float[Tensor, "b e"], Float[Tensor, "b d d d"]]:
        offset = encoder.offset(volume)
        centered = recentered(volume, offset)
        places = self.layers(coarse(centered)) + self.level
        turn = _interpolation(volume.shape[-1]).to(volume)
        for _ in range(3):  # the last axis each time, which then becomes the first of the three
            places = (places @ turn.T).movedim(3, 1)
        return encoder(centered, True), recentered(places - _OUTSIDE, -offset) + _OUTSIDE


@lru_cache(maxsize=16)
def _interpolation(size: int) -> Float[Tensor, "d p"]:
    """Takes numbers at the places of the center finder, i / PLACES of the edge, to voxels, linearly."""
    place = torch.arange(size) * (PLACES / size)
    low = place.floor().clamp(max=PLACES - 1).long()
    share = (place - low)[:, None]
    one = torch.eye(PLACES)
    return (1 - share) * one[low] + share * one[(low + 1).clamp(max=PLACES - 1)]


def build_decoder(name: str, encoder: Encoder) -> Decoder | None:
    """A freshly initialized decoder of `DECODERS` for this encoder, none without a name."""
    if not name:
        return None
    if name not in DECODERS:
        raise ValueError(f"decoder is {name!r}, expected one of {', '.join(DECODERS)}")
    return CosNetDecoder(getattr(encoder, "attends", True)) if name == "cosnet" else UNet()
