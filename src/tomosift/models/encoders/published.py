"""Encoders after published shapes, to compare with; `tomosift.models.encoders` says which to choose."""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from tomosift.models.encoder import Encoder


class _RB3DBlock(nn.Module):
    """Left and right path, 16 channels each, *concatenated*: the block has no additive shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.right = nn.Sequential(nn.Conv3d(32, 16, 3, padding=1), nn.ReLU())
        self.left = nn.Sequential(
            nn.Conv3d(32, 16, 1), nn.ReLU(), nn.Conv3d(16, 32, 3, padding=1), nn.ReLU(), nn.Conv3d(32, 16, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(torch.cat([self.left(x), self.right(x)], dim=1))


class RB3D(Encoder):
    """Source: lab scripts of the CSSL authors (August 2021), pooled head; not proven to be the paper's encoder.

    The linear layer from 256 to 128 of those scripts is the projection head and belongs to the method, not here.
    Deviation: boxes are masked by a soft sphere like those of every encoder.
    """

    embedding_size = 256

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv3d(1, 32, 3, padding=1), nn.MaxPool3d(2))
        self.blocks = nn.Sequential(*(_RB3DBlock() for _ in range(4)))
        _kaiming_fan_out(self)

    def embed(self, volume: Float[Tensor, "b 1 d d d"]) -> Float[Tensor, "b e"]:
        return functional.adaptive_avg_pool3d(self.blocks(self.stem(volume)), 2).flatten(1)


class DSRF3Dv2(Encoder):
    """Source: lab scripts of the CSSL authors (August 2021), pooled head; not proven to be the paper's encoder.

    Deviation: boxes are masked by a soft sphere like those of every encoder.
    """

    embedding_size = 128

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs, pooled in ((1, 32, True), (32, 64, True), (64, 128, False)):
            layers += [nn.Conv3d(inputs, outputs, 3, padding=1), nn.ReLU()]
            layers += [nn.Conv3d(outputs, outputs, 3, padding=1), nn.ReLU()]
            layers += [nn.MaxPool3d(2)] if pooled else []
        self.layers = nn.Sequential(*layers)
        _kaiming_fan_out(self)

    def embed(self, volume: Float[Tensor, "b 1 d d d"]) -> Float[Tensor, "b e"]:
        return self.layers(volume).mean(dim=(2, 3, 4))  # type: ignore[no-any-return]


class _YopoBranch(nn.Module):
    """Unpadded convolutions of one kernel size; channels grow by one per layer; every layer's average is kept."""

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
    """Source: lab scripts of the CSSL authors (multi-kernel net that looks at each voxel only once per layer).

    Deviations: the unpadded branches need 31 voxels, so smaller boxes are zero-padded to 32; boxes are masked by a soft
    sphere like those of every encoder. Batch statistics are kept as published; see `Residual` for what they cost.
    """

    embedding_size = 674
    _SMALLEST = 32

    def __init__(self) -> None:
        super().__init__()
        first = ((3, range(4, 10)), (4, range(3, 7)), (5, range(2, 5)), (7, range(1, 3)))
        second = ((3, range(10, 19)), (4, range(7, 13)), (5, range(5, 9)), (6, range(3, 6)))
        self.first = nn.ModuleList(_YopoBranch(1, kernel, channels) for kernel, channels in first)
        self.second = nn.ModuleList(_YopoBranch(21, kernel, channels) for kernel, channels in second)
        self.norm0, self.norm1, self.norm2 = nn.BatchNorm1d(290), nn.BatchNorm1d(256), nn.BatchNorm1d(128)
        self.linear1, self.linear2 = nn.Linear(290, 256), nn.Linear(546, 128)

    def embed(self, volume: Float[Tensor, "b 1 d d d"]) -> Float[Tensor, "b e"]:
        missing = max(0, self._SMALLEST - volume.shape[-1])
        low, high = missing // 2, missing - missing // 2
        volume = functional.pad(volume, (low, high) * 3)
        outputs, averages = zip(*(branch(volume) for branch in self.first), strict=True)
        joined = torch.cat(outputs, dim=1)
        _, more = zip(*(branch(joined) for branch in self.second), strict=True)
        pooled = self.norm0(torch.cat([a for group in (*averages, *more) for a in group], dim=1))
        hidden = torch.cat([self.norm1(functional.elu(self.linear1(pooled))), pooled], dim=1)
        return torch.cat([self.norm2(functional.elu(self.linear2(hidden))), hidden], dim=1)


def _kaiming_fan_out(module: nn.Module) -> None:
    """Initialization of the lab scripts' pooled encoders."""
    for part in module.modules():
        if isinstance(part, nn.Conv3d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)


class ProtoNet(Encoder):
    """Four times convolution, batch normalization, rectifier and pooling by 2; 64 channels, flattened.

    Source: code of Li et al. 2020, PLoS Comput. Biol. 16:e1008227. Deviations: other boxes than those of 32 to 47
    voxels are averaged onto the 2 x 2 x 2 grid that these end in, so that the embedding always has 512 dimensions;
    boxes are masked by a soft sphere like those of every encoder.
    """

    embedding_size = 512

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs in (1, 64, 64, 64):
            layers += [nn.Conv3d(inputs, 64, 3, padding=1), nn.BatchNorm3d(64), nn.ReLU(), nn.MaxPool3d(2)]
        self.layers = nn.Sequential(*layers)

    def embed(self, volume: Float[Tensor, "b 1 d d d"]) -> Float[Tensor, "b e"]:
        return functional.adaptive_avg_pool3d(self.layers(volume), 2).flatten(1)


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
    Deviation: boxes are masked by a soft sphere like those of every encoder.
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
        middle = volume.shape[-1] // 2
        slabs = [volume.narrow(axis, middle - 1, 3).mean(axis) for axis in (2, 3, 4)]
        # All slabs as one batch: the network is the same for the three axes.
        features = self.layers(torch.cat(slabs)).mean(dim=(2, 3))
        return torch.cat(self.last(features).chunk(3), dim=1)
