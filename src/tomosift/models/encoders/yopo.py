"""Unpadded multi-kernel branches whose every layer is pooled; tolerant to translation; 0.30 M parameters."""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from tomosift.models.encoder import Encoder


class _YopoBranch(nn.Module):
    """Unpadded convolutions of one kernel size; channels grow by one per layer, and all layers are pooled."""

    def __init__(self, inputs: int, kernel: int, channels: range) -> None:
        super().__init__()
        widths = [inputs, *channels]
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv3d(a, b, kernel), nn.ELU(), nn.BatchNorm3d(b)) for a, b in pairwise(widths)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        averages = []
        for layer in self.layers:
            x = layer(x)
            averages.append(x.mean(dim=(2, 3, 4)))
        return x, averages


class Yopo(Encoder):
    """Parallel branches of several kernel sizes, whose layers are all pooled.

    Source: lab scripts of the CSSL authors (multi-kernel network that reads each voxel only once per layer).
    Deviations: the unpadded branches need 31 voxels, so smaller boxes are zero-padded to 32; subtomograms are masked by
    a soft sphere, as in every encoder. Batch normalization is kept as published; see `Residual` for what it costs.
    """

    embedding_size = 674
    _MIN_BOX_SIZE = 32

    def __init__(self) -> None:
        super().__init__()
        first = ((3, range(4, 10)), (4, range(3, 7)), (5, range(2, 5)), (7, range(1, 3)))
        second = ((3, range(10, 19)), (4, range(7, 13)), (5, range(5, 9)), (6, range(3, 6)))
        self.first = nn.ModuleList(_YopoBranch(1, kernel, channels) for kernel, channels in first)
        self.second = nn.ModuleList(_YopoBranch(21, kernel, channels) for kernel, channels in second)
        self.norm0, self.norm1, self.norm2 = nn.BatchNorm1d(290), nn.BatchNorm1d(256), nn.BatchNorm1d(128)
        self.linear1, self.linear2 = nn.Linear(290, 256), nn.Linear(546, 128)

    def embed(self, volume: Float[Tensor, "b 1 d d d"]) -> Float[Tensor, "b e"]:
        missing = max(0, self._MIN_BOX_SIZE - volume.shape[-1])
        low, high = missing // 2, missing - missing // 2
        volume = functional.pad(volume, (low, high) * 3)
        outputs, averages = zip(*(branch(volume) for branch in self.first), strict=True)
        features = torch.cat(outputs, dim=1)
        _, more = zip(*(branch(features) for branch in self.second), strict=True)
        pooled = self.norm0(torch.cat([a for group in (*averages, *more) for a in group], dim=1))
        hidden = torch.cat([self.norm1(functional.elu(self.linear1(pooled))), pooled], dim=1)
        return torch.cat([self.norm2(functional.elu(self.linear2(hidden))), hidden], dim=1)


ENCODER = Yopo
