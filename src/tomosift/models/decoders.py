"""Decoders: which voxels of a box belong to its particle."""

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor, nn

from tomosift.models.center_finder import COARSE, PLACES, CenterFinder, center_finder, fourier_crop
from tomosift.models.embedder import Embedder
from tomosift.models.encoder import Encoder, apply_soft_sphere
from tomosift.models.encoders.cosnet import CHANNELS, CosNet, stage
from tomosift.models.recentering import recenter

DECODERS: dict[str, str] = {
    "unet": "Three scales with skip connections, started from the network that finds centers; any encoder.",
    "cosnet": "The decoder half of COS-Net, without skip connections; encoders cosnet and siamese.",
}

_OUTSIDE = -10.0  # logit where a box that was moved has nothing to show


class Decoder(nn.Module):
    """Base of all decoders: embeddings and masks of boxes in one pass; members implement `forward`."""

    def forward(
        self, volume: Float[Tensor, "b d d d"], embedder: Embedder
    ) -> tuple[Float[Tensor, "b e"], Float[Tensor, "b d d d"]]:
        """Embeddings of subtomograms, and the log odds of each voxel to belong to the particle, in the frame of the box."""
        raise NotImplementedError


class CosNetDecoder(Decoder):
    """Source: see `tomosift.models.encoders.cosnet`. Deviation: logits instead of a sigmoid at the end, for a stable loss."""

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
        self, volume: Float[Tensor, "b d d d"], embedder: Embedder
    ) -> tuple[Float[Tensor, "b e"], Float[Tensor, "b d d d"]]:
        encoder = embedder.encoder
        if not isinstance(encoder, CosNet):
            raise ValueError("the decoder cosnet needs the encoder cosnet or siamese; take the decoder unet")
        features = encoder.features(apply_soft_sphere(volume)[:, None])
        logits = self.layers(features)[:, 0]
        size, made = volume.shape[-1], logits.shape[-1]
        if made < size:  # pooling dropped the last voxels of an edge that four does not divide
            logits = nn.functional.pad(logits, (0, size - made) * 3, value=_OUTSIDE)
        return encoder.pool_features(features), logits


class UNet(Decoder):
    """The centered box on a grid of 16 voxels, the eight finer ones of each as channels, down to a quarter of that and
    up to 32 again; ours.

    It has the shape and the first weights of the network that finds centers, which has already learned to tell a
    particle from its neighbors.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers = CenterFinder()
        self.layers.load_state_dict(center_finder().state_dict())
        # Eight fine voxels for each coarse one; nothing at first, so that training starts where the finder ended.
        self.detail = nn.Conv3d(8, 16, 3, padding=1, bias=False)
        nn.init.zeros_(self.detail.weight)
        # Log-likelihoods of places become log odds of voxels; most voxels are not of the particle.
        self.level = nn.Parameter(torch.tensor(-2.0))

    def forward(
        self, volume: Float[Tensor, "b d d d"], embedder: Embedder
    ) -> tuple[Float[Tensor, "b e"], Float[Tensor, "b d d d"]]:
        encoder = embedder.encoder
        if not encoder.recenters:
            return encoder(volume), self.decode_centered(volume)
        offset, posterior = embedder.recentering.find_candidates(volume, encoder.center_candidates)
        logits = shift_back(self.decode_centered(recenter(volume, offset[:, 0])), offset[:, 0])
        return embedder.embed_candidates(volume, offset, posterior), logits

    def decode_centered(self, volume: Float[Tensor, "b d d d"]) -> Float[Tensor, "b d d d"]:
        """Log odds of boxes whose particle lies in the middle."""
        small, fine = fourier_crop(volume), _on_places(volume)
        blocks = fine.reshape(-1, *(COARSE, 2) * 3).permute(0, 2, 4, 6, 1, 3, 5).flatten(1, 3)
        places = self.layers.places(self.layers.stem(small[:, None]) + self.detail(blocks)) + self.level
        return _resampled(places, _interpolation(PLACES, volume.shape[-1]))


def shift_back(logits: Float[Tensor, "b d d d"], offset_zyx_voxels: Int64[Tensor, "b 3"]) -> Float[Tensor, "b d d d"]:
    """Log odds of centered boxes as the boxes lay; what a box does not show is not of the particle."""
    return recenter(logits - _OUTSIDE, -offset_zyx_voxels) + _OUTSIDE


def _on_places(volume: Float[Tensor, "b d d d"]) -> Float[Tensor, "b p p p"]:
    """Boxes on the grid of the center finder's places, i / PLACES of the edge from voxel 0."""
    size = volume.shape[-1]
    return fourier_crop(volume, PLACES) if size >= PLACES else _resampled(volume, _interpolation(size, PLACES))


def _resampled(volume: Float[Tensor, "b p p p"], turn: Float32[np.ndarray, "d p"]) -> Float[Tensor, "b d d d"]:
    turned = torch.from_numpy(turn.T).to(volume)
    for _ in range(3):  # the last axis each time, which then becomes the first of the three
        volume = (volume @ turned).movedim(3, 1)
    return volume


# Kept as numpy arrays: a tensor made in inference mode and kept could not be used for training afterwards.
@lru_cache(maxsize=16)
def _interpolation(given: int, asked: int) -> Float32[np.ndarray, "a g"]:
    """Takes numbers at i / given of the edge to i / asked of the edge, linearly."""
    place = np.arange(asked) * (given / asked)
    low = np.minimum(np.floor(place), given - 1).astype(np.int64)
    share = (place - low)[:, None]
    one = np.eye(given)
    return np.asarray((1 - share) * one[low] + share * one[np.minimum(low + 1, given - 1)], dtype=np.float32)


def build_decoder(name: str, encoder: Encoder) -> Decoder | None:
    """A freshly initialized decoder of `DECODERS` for this encoder, none without a name."""
    if not name:
        return None
    if name not in DECODERS:
        raise ValueError(f"decoder is {name!r}, expected one of {', '.join(DECODERS)}")
    return CosNetDecoder(getattr(encoder, "attends", True)) if name == "cosnet" else UNet()
