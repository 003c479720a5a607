"""ConvNeXt blocks on three orthogonal slabs; 2-D, a baseline."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tomosift.models.encoder import Encoder


class _ConvNeXtBlock(nn.Module):
    """Depthwise 7 x 7 convolution, normalization over channels, and a two-layer network at each pixel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.pixelwise = nn.Sequential(
            nn.LayerNorm(channels), nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.pixelwise(self.depthwise(x).movedim(1, 3))
        return x + change.movedim(3, 1)


class Slices(Encoder):
    """Three central slabs of three voxels, one across each axis, through one 2-D network; embeddings side by side.

    Source: blocks after Liu et al. 2022, "A ConvNet for the 2020s"; two stages of two blocks, sized for boxes of 32.
    Deviation: subtomograms are masked by a soft sphere, as in every encoder.
    """

    embedding_size = 288

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 48, 2, stride=2),
            _ConvNeXtBlock(48),
            _ConvNeXtBlock(48),
            nn.GroupNorm(1, 48),
            nn.Conv2d(48, 96, 2, stride=2),
            _ConvNeXtBlock(96),
            _ConvNeXtBlock(96),
        )
        self.last = nn.LayerNorm(96)

    def embed(self, volume: Float[Tensor, "b 1 d d d"]) -> Float[Tensor, "b e"]:
        center = volume.shape[-1] // 2
        slabs = [volume.narrow(axis, center - 1, 3).mean(axis) for axis in (2, 3, 4)]
        # All slabs as one batch: the network is the same for the three axes.
        features = self.layers(torch.cat(slabs)).mean(dim=(2, 3))
        return torch.cat(self.last(features).chunk(3), dim=1)


ENCODER = Slices
