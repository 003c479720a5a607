"""The encoders there are, the project's own among them; `tomosift.models.encoder` says what each of them does.

Every method starts from these and can start from their weights.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from tomosift.models.distributed import distributed_dropout
from tomosift.models.encoder import Encoder
from tomosift.models.encoders.cosnet import CosNet, Siamese
from tomosift.models.encoders.published import RB3D, DSRF3Dv2, ProtoNet, Slices, Yopo
from tomosift.models.grid_descriptors import GRID_DESCRIPTOR_SIZE, compute_grid_descriptors
from tomosift.models.masking import low_pass, shell_weights
from tomosift.models.radial_descriptors import RADIAL_DESCRIPTOR_SIZE, compute_radial_descriptors

ENCODERS: dict[str, str] = {
    "radial": "The default: a small network on rotation-invariant descriptors; very fast, best with few labels.",
    "residual": "Strided 3-D residual convolutions averaged over shells, beside the same descriptors.",
    "dense": "The same network on descriptors that are correlations: those of a whole tomogram at once, for `scan`.",
    "rb3d": "Concatenating multi-path blocks of the lab scripts behind CSSL, pooled head; 0.12 M parameters.",
    "dsrf3d_v2": "Three double-convolution stages of the lab scripts behind CSSL, pooled head; 0.86 M parameters.",
    "yopo": "Unpadded multi-kernel branches whose every layer is pooled; tolerant to translation; 0.30 M parameters.",
    "protonet": "Four blocks of convolution and pooling, flattened: the shape of ProtoNet3D; 0.33 M parameters.",
    "cosnet": "The encoder of COS-Net with attention, whole boxes at 64 channels; for GPUs; 17.5 M parameters.",
    "siamese": "The same without attention.",
    "slices": "ConvNeXt blocks on three orthogonal slabs; 2-D, a comparator.",
}


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
        self.stride = stride  # 1 or 2

    def forward(self, x: Tensor) -> Tensor:
        active = functional.relu(self.norm1(x))
        y = self.conv2(functional.relu(self.norm2(self.conv1(active))))
        skip = _halved(active) if self.stride > 1 else x
        if self.shortcut is not None:
            skip = self.shortcut(skip)
        return skip + y  # type: ignore[no-any-return]


def _halved(x: Tensor) -> Tensor:
    """Means over cubes of two voxels along each edge, on the grid that a convolution of stride 2 gives."""
    if any(edge % 2 for edge in x.shape[2:]):
        return functional.avg_pool3d(x, 2, ceil_mode=True)
    # Axis by axis with channels last, as convolutions want them; pooling turns the layout around, also of the gradient,
    # which then costs the rectifier before it ten times its time.
    last = x.permute(0, 2, 3, 4, 1)
    for axis in (1, 2, 3):
        last = last.unflatten(axis, (-1, 2)).mean(axis + 1)  # type: ignore[no-untyped-call]
    return last.permute(0, 4, 1, 2, 3)


class _Described(Encoder):
    """A small network on numbers that are computed of a box without weights."""

    embedding_size = 256
    turns = "wedge"
    has_fixed_part = True

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(inputs, 256), nn.ReLU(), nn.Linear(256, self.embedding_size), nn.ReLU())

    @torch.no_grad()
    def take_scale(self, mean: Float[Tensor, " n"], deviation: Float[Tensor, " n"]) -> None:
        first = self.layers[0]
        assert isinstance(first, nn.Linear)
        first.weight.div_(deviation)
        first.bias.sub_(first.weight @ mean)

    def embed(self, volume: Float[Tensor, "b n"]) -> Float[Tensor, "b e"]:
        hidden = self.layers[:2](volume)
        return self.layers[2:](distributed_dropout(hidden, self.dropout, self.training))  # type: ignore[no-any-return]


class Radial(_Described):
    """The default; ours. Rotation-invariant descriptors of the centered box, and a small network on them.

    At the noise of single subtomograms and with minutes of training on a CPU this is far ahead of convolutions, which
    first have to learn to average. It does not see how density is arranged *within* a shell; `Residual` does.
    """

    centers = True
    places = 6

    def __init__(self) -> None:
        super().__init__(RADIAL_DESCRIPTOR_SIZE)

    def fixed_part(self, volume: Float[Tensor, "b d d d"]) -> Float[Tensor, "b n"]:
        return compute_radial_descriptors(volume)


class Dense(_Described):
    """As `Radial` for boxes of known middle, made so that all boxes of a tomogram are described at once; ours.

    It does not look for the middle of a particle: in a scan some box has it.
    """

    has_mask = False

    def __init__(self) -> None:
        super().__init__(GRID_DESCRIPTOR_SIZE)

    def fixed_part(self, volume: Float[Tensor, "b d d d"]) -> Float[Tensor, "b n"]:
        return compute_grid_descriptors(volume)


class Residual(Encoder):
    """Strided residual convolutions, averaged over shells about the center, beside the descriptors of `Radial`; ours.

    Widths are small where the grid is fine: on a CPU a stride-1 stem is ten times slower and no better. Features are
    averaged shell by shell, because a particle sits in the middle of its box and an average over the whole box is
    mostly noise: with such averages a random encoder probed at 0.13 with five labels for each of ten classes, with
    shells at 0.43.
    """

    embedding_size = 256
    centers = True
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
        self.described = nn.Linear(RADIAL_DESCRIPTOR_SIZE, 256)
        self.last = nn.Linear(256, self.embedding_size)
        # A third faster on CPUs; torch has no typed overload for it.
        self.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def embed(self, volume: Float[Tensor, "b 1 d d d"]) -> Float[Tensor, "b e"]:
        size = volume.shape[-1]
        features = [self.stem(low_pass(volume))]
        for stage in self.stages:
            features.append(stage(features[-1]))
        averages = []
        for feature, norm, (_, stride, shells) in zip(features, self.norms, self._POOLS, strict=True):
            # Channels stay last, see `_halved`.
            voxels = functional.relu(norm(feature)).permute(0, 2, 3, 4, 1).flatten(1, 3)
            mean = shell_weights(feature, size, stride, shells).T @ voxels
            averages.append(mean.transpose(1, 2).flatten(1))
        pooled = self.pooled(torch.cat(averages, dim=1))
        # Convolutions start as a small correction to the descriptors, which are good from the first step.
        hidden = functional.relu(self.described(compute_radial_descriptors(volume[:, 0])) + 0.3 * pooled)
        return functional.relu(self.last(hidden))


_BUILDERS: dict[str, Callable[[], Encoder]] = {
    "radial": Radial,
    "residual": Residual,
    "dense": Dense,
    "rb3d": RB3D,
    "dsrf3d_v2": DSRF3Dv2,
    "yopo": Yopo,
    "protonet": ProtoNet,
    "cosnet": CosNet,
    "siamese": Siamese,
    "slices": Slices,
}


def build_encoder(name: str) -> Encoder:
    """A freshly initialized encoder of `ENCODERS`; draws its weights from torch's global generator."""
    if name not in _BUILDERS:
        raise ValueError(f"encoder is {name!r}, expected one of {', '.join(ENCODERS)}")
    return _BUILDERS[name]()
