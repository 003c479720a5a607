"""Decoders: networks from a subtomogram to the mask of its particle."""

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor, nn

from tomosift.models.center_finder import CENTER_GRID, INPUT_GRID, CenterFinder, center_finder, fourier_crop
from tomosift.models.embedder import Embedder
from tomosift.models.encoder import Encoder, apply_soft_sphere
from tomosift.models.encoders.cosnet import CHANNELS, CosNet, stage
from tomosift.models.recentering import recenter

DECODERS: dict[str, str] = {
    "unet": "Three scales with skip connections, initialized with the weights of the center finder; any encoder.",
    "cosnet": "The decoder half of COS-Net, without skip connections; encoders cosnet and siamese.",
}
"""Name of each decoder, and what it is."""

_OUTSIDE_LOGIT = -10.0  # of voxels that lie outside of the box before a shift


class Decoder(nn.Module):
    """Base of all decoders: embeddings and masks of subtomograms in one pass; members implement `forward`."""

    def forward(
        self, volume: Float[Tensor, "b d d d"], embedder: Embedder
    ) -> tuple[Float[Tensor, "b e"], Float[Tensor, "b d d d"]]:
        """Embed subtomograms and decode their masks.

        Returns
        -------
        embedding
            As by the embedder alone.
        logits
            Log odds of each voxel to belong to the particle, in the frame of the box.
        """
        raise NotImplementedError


class CosNetDecoder(Decoder):
    """The decoder half of COS-Net.

    Source: see `tomosift.models.encoders.cosnet`. Deviation: logits instead of a sigmoid at the end, for a stable loss.
    """

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
            raise ValueError("the decoder cosnet needs the encoder cosnet or siamese; use the decoder unet")
        features = encoder.features(apply_soft_sphere(volume)[:, None])
        logits = self.layers(features)[:, 0]
        missing = volume.shape[-1] - logits.shape[-1]
        if missing > 0:  # pooling dropped the last voxels of an edge that four does not divide
            logits = nn.functional.pad(logits, (0, missing) * 3, value=_OUTSIDE_LOGIT)
        return encoder.pool_features(features), logits


class UNet(Decoder):
    """A U-Net on the recentered subtomogram, cropped to 16 voxels, with a finer grid of 32 as further channels; ours.

    Architecture and initial weights are those of the center finder, which has learned to separate a particle from its
    neighbors. The output has 32 grid points along each axis and is interpolated to the voxels of the box.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers = CenterFinder()
        self.layers.load_state_dict(center_finder().state_dict())
        # Eight fine voxels for each coarse one; zero at first, so that training starts from the center finder.
        self.detail = nn.Conv3d(8, 16, 3, padding=1, bias=False)
        nn.init.zeros_(self.detail.weight)
        # Turns log likelihoods of centers into log odds of voxels; most voxels do not belong to the particle.
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
        """Decode the mask logits of volumes whose particle lies in the center."""
        small, fine = fourier_crop(volume), _resample_to_center_grid(volume)
        blocks = fine.reshape(-1, *(INPUT_GRID, 2) * 3).permute(0, 2, 4, 6, 1, 3, 5).flatten(1, 3)
        logits = self.layers.decode(self.layers.stem(small[:, None]) + self.detail(blocks)) + self.level
        return _interpolate(logits, _interpolation_matrix(CENTER_GRID, volume.shape[-1]))


def shift_back(logits: Float[Tensor, "b d d d"], offset_zyx_voxels: Int64[Tensor, "b 3"]) -> Float[Tensor, "b d d d"]:
    """Shift mask logits of recentered subtomograms back into the frame of the box.

    Parameters
    ----------
    logits
        Log odds of each voxel to belong to the particle.
    offset_zyx_voxels
        By which the subtomograms were recentered. Voxels without a value get the logit of the background.
    """
    return recenter(logits - _OUTSIDE_LOGIT, -offset_zyx_voxels) + _OUTSIDE_LOGIT


def build_decoder(name: str, encoder: Encoder) -> Decoder | None:
    """Build a freshly initialized decoder of `DECODERS` for this encoder; None for an empty name.

    Raises
    ------
    ValueError
        There is no decoder of this name.
    """
    if not name:
        return None
    if name not in DECODERS:
        raise ValueError(f"decoder is {name!r}, expected one of {', '.join(DECODERS)}")
    return CosNetDecoder(getattr(encoder, "attends", True)) if name == "cosnet" else UNet()


def _resample_to_center_grid(volume: Float[Tensor, "b d d d"]) -> Float[Tensor, "b p p p"]:
    """Resample volumes to the grid points of the center finder."""
    size = volume.shape[-1]
    if size >= CENTER_GRID:
        return fourier_crop(volume, CENTER_GRID)
    return _interpolate(volume, _interpolation_matrix(size, CENTER_GRID))


def _interpolate(volume: Float[Tensor, "b p p p"], matrix: Float32[np.ndarray, "d p"]) -> Float[Tensor, "b d d d"]:
    """Apply an interpolation matrix along each of the three axes."""
    transposed = torch.from_numpy(matrix.T).to(volume)
    for _ in range(3):  # the last axis each time, which then becomes the first of the three
        volume = (volume @ transposed).movedim(3, 1)
    return volume


# Kept as numpy arrays: a tensor made in inference mode and kept could not be used for training afterwards.
@lru_cache(maxsize=16)
def _interpolation_matrix(size: int, new_size: int) -> Float32[np.ndarray, "a g"]:
    """Matrix of linear interpolation from points i / size to points i / new_size of the edge."""
    position = np.arange(new_size) * (size / new_size)
    low = np.minimum(np.floor(position), size - 1).astype(np.int64)
    weight = (position - low)[:, None]
    identity = np.eye(size)
    high = np.minimum(low + 1, size - 1)
    return np.asarray((1 - weight) * identity[low] + weight * identity[high], dtype=np.float32)
