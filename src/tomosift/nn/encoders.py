"""Encoders: a box of voxels in, one embedding out. Every method starts from these and can start from their weights.

Contract of every member of `ENCODERS`: ``encoder(volume (b, d, d, d)) -> (b, embedding_size)`` for any cubic box from
16 to 64 voxels, no dependence between the members of a batch at evaluation, and no knowledge of classes.
"""

from collections.abc import Callable
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from tomosift.nn.centering import find_centers, recentered
from tomosift.nn.descriptors import DESCRIPTOR_SIZE, descriptors
from tomosift.nn.masking import low_passed, shell_weights, soft_sphere

ENCODERS: dict[str, str] = {
    "radial": "The default: a small network on rotation-invariant descriptors; very fast, best with few labels.",
    "residual": "Strided 3-D residual convolutions averaged over shells, beside the same descriptors.",
    "rb3d": "Concatenating multi-path blocks of the lab scripts behind CSSL, pooled head; 0.12 M parameters.",
    "dsrf3d_v2": "Three double-convolution stages of the lab scripts behind CSSL, pooled head; 0.86 M parameters.",
    "yopo": "Unpadded multi-kernel branches whose every layer is pooled; tolerant to translation; 0.30 M parameters.",
}

MINIMUM_BOX_SIZE = 16
MAXIMUM_BOX_SIZE = 64


class Encoder(nn.Module):
    """Base of all encoders: checks the box and gives it a channel axis; members implement `embed`."""

    embedding_size: int

    def forward(self, volume: Float[Tensor, "b d d d"]) -> Float[Tensor, "b e"]:
        """Embeddings of boxes with zero mean and unit variance, density positive.

        The box is multiplied by a soft sphere first: what lies in the corners leaves the box when it is rotated, so an
        encoder that sees corners sees something that training on rotated views has never shown.
        """
        size = volume.shape[-1]
        if not MINIMUM_BOX_SIZE <= size <= MAXIMUM_BOX_SIZE:
            raise ValueError(
                f"box size is {size} voxels, but encoders take {MINIMUM_BOX_SIZE} to {MAXIMUM_BOX_SIZE}; "
                "extract with another --box-size or voxel spacing"
            )
        return self.embed((volume * soft_sphere(size, device=volume.device, dtype=volume.dtype))[:, None])

    def embed(self, volume: Float[Tensor, "b 1 d d d"]) -> Float[Tensor, "b e"]:
        """Embeddings of masked boxes."""
        raise NotImplementedError


class _ResidualBlock(nn.Module):
    """Pre-activation residual block; group normalization, so that no statistics are shared between boxes.

    Batch statistics of augmented views do not fit plain boxes: with batch normalization the same fine-tuned weights
    scored 0.26 as trained and 0.62 with statistics re-estimated, which is why there is none here.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(8, inputs)
        self.conv1 = nn.Conv3d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(8, outputs)
        self.conv2 = nn.Conv3d(outputs, outputs, 3, padding=1, bias=False)
        self.shortcut = nn.Conv3d(inputs, outputs, 1, bias=False) if inputs != outputs else None
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        active = functional.relu(self.norm1(x))
        y = self.conv2(functional.relu(self.norm2(self.conv1(active))))
        # ceil_mode matches the strided convolution for odd grids.
        skip = functional.avg_pool3d(active, self.stride, ceil_mode=True) if self.stride > 1 else x
        if self.shortcut is not None:
            skip = self.shortcut(skip)
        return skip + y  # type: ignore[no-any-return]


class Radial(Encoder):
    """The default; ours. Rotation-invariant descriptors of the box about two centers, and a small network on them.

    At the noise of single subtomograms and with minutes of training on a CPU this is far ahead of convolutions, which
    first have to learn to average. It does not see how density is arranged *within* a shell; `Residual` does.

    Descriptors about the wrong center are worth little, so they are taken about the middle of the box, which is right
    where picks are good, and about the point where the particle seems to lie. Figures are in experiments/LOG.md.
    """

    embedding_size = 256

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2 * DESCRIPTOR_SIZE, 256), nn.ReLU(), nn.Linear(256, self.embedding_size), nn.ReLU()
        )

    def embed(self, volume: Float[Tensor, "b 1 d d d"]) -> Float[Tensor, "b e"]:
        boxes = volume[:, 0]
        found = recentered(boxes, find_centers(boxes))
        about_both = torch.cat([descriptors(boxes), descriptors(found)], dim=1)
        return self.layers(about_both)  # type: ignore[no-any-return]


class Residual(Encoder):
    """Strided residual convolutions, averaged over shells about the center, beside the descriptors of `Radial`; ours.

    Widths are small where the grid is fine: on a CPU a stride-1 stem is ten times slower and no better. Features are
    averaged shell by shell, because a particle sits in the middle of its box and an average over the whole box is
    mostly noise: with such averages a random encoder probed at 0.13 with five labels for each of ten classes, with
    shells at 0.43.
    """

    embedding_size = 256
    _POOLS = ((16, 2, 5), (48, 4, 4), (96, 8, 2))  # channels, stride and shells of each stage

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv3d(1, 16, 5, stride=2, padding=2, bias=False)
        self.stages = nn.ModuleList(
            nn.Sequential(_ResidualBlock(inputs, outputs, 2), _ResidualBlock(outputs, outputs, 1))
            for inputs, outputs in ((16, 48), (48, 96))
        )
        self.norms = nn.ModuleList(nn.GroupNorm(8, channels) for channels, _, _ in self._POOLS)
        pooled = sum(channels * shells for channels, _, shells in self._POOLS)
        self.pooled = nn.Sequential(nn.LayerNorm(pooled), nn.Linear(pooled, 256))
        self.described = nn.Linear(DESCRIPTOR_SIZE, 256)
        self.last = nn.Linear(256, self.embedding_size)
        # A third faster on CPUs; torch has no typed overload for it.
        self.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def embed(self, volume: Float[Tensor, "b 1 d d d"]) -> Float[Tensor, "b e"]:
        size = volume.shape[-1]
        features = [self.stem(low_passed(volume))]
        for stage in self.stages:
            features.append(stage(features[-1]))
        averages = [
            functional.relu(norm(feature)).flatten(2) @ shell_weights(feature, size, stride, shells)
            for feature, norm, (_, stride, shells) in zip(features, self.norms, self._POOLS, strict=True)
        ]
        pooled = self.pooled(torch.cat([average.flatten(1) for average in averages], dim=1))
        # Convolutions start as a small correction to the descriptors, which are good from the first step.
        hidden = functional.relu(self.described(descriptors(volume[:, 0])) + 0.3 * pooled)
        return functional.relu(self.last(hidden))


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


_BUILDERS: dict[str, Callable[[], Encoder]] = {
    "radial": Radial,
    "residual": Residual,
    "rb3d": RB3D,
    "dsrf3d_v2": DSRF3Dv2,
    "yopo": Yopo,
}


def build_encoder(name: str) -> Encoder:
    """A freshly initialized encoder of `ENCODERS`; draws its weights from torch's global generator."""
    if name not in _BUILDERS:
        raise ValueError(f"encoder is {name!r}, expected one of {', '.join(ENCODERS)}")
    return _BUILDERS[name]()
