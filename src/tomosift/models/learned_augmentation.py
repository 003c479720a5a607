"""Small networks that change a simulated box so that it passes for a measured one: added noise and a bent grid.

Source: the released code of Cryo-Shift (modules of noise and deformation). Deviations: the decoder of the deformation
is trained (there it is drawn anew at every call); the field is smoothed by a Gaussian that keeps its size (there the
kernel sums to about 83); boxes have mean 0 and variance 1 again afterwards and are not cut to 0..1; no normalization
between boxes of a batch; ``width`` and the limits of both changes are settings.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from tomosift.physics.augmentation import normalized

_SMOOTHING, _REACH = 2.0, 3  # voxels: width and half the edge of the kernel that smooths the field
_LEAST_EDGE = 8


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(inputs, outputs, 3, padding=1), nn.GroupNorm(min(8, outputs), outputs), nn.LeakyReLU(0.2)
    )


class _Decoder(nn.Module):
    """From the bottleneck back to the size of the box, with what the encoder saw on the way down."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            _block(inputs, outputs)
            for inputs, outputs in ((4 * width, 2 * width), (4 * width, width), (2 * width, width))
        )
        self.last = nn.Conv3d(width, channels, 1)
        nn.init.zeros_(self.last.weight)  # training starts with boxes as they are
        assert self.last.bias is not None
        nn.init.zeros_(self.last.bias)

    def forward(self, bottleneck: Tensor, skips: list[Tensor]) -> Tensor:
        x = bottleneck
        for block, skip in zip(self.blocks, reversed(skips), strict=True):
            x = functional.interpolate(x, size=skip.shape[2:], mode="trilinear", align_corners=False)
            x = block(torch.cat((x, skip), dim=1))
        return self.last(x)  # type: ignore[no-any-return]


class NoiseAndDeformation(nn.Module):
    """Boxes in, boxes out: noise of at most ``most_noise`` standard deviations, then a bend of at most ``most_bend``
    voxels, both made for the box that they change."""

    def __init__(self, width: int, most_noise: float, most_bend: float) -> None:
        super().__init__()
        self.most_noise, self.most_bend = most_noise, most_bend
        self.downs = nn.ModuleList([_block(2, width), _block(width, 2 * width), _block(2 * width, 2 * width)])
        self.bottleneck = _block(2 * width, 4 * width)
        self.noise, self.bend = _Decoder(width, 1), _Decoder(width, 3)

    def forward(self, volume: Float[Tensor, "b d d d"], generator: torch.Generator) -> Float[Tensor, "b d d d"]:
        """Warped boxes of mean 0 and variance 1; random numbers are one more channel for the network to work with.

        Raises
        ------
        ValueError
            When the box is too small to be halved three times.
        """
        if volume.shape[-1] < _LEAST_EDGE:
            raise ValueError(f"box size is {volume.shape[-1]} voxels, expected at least {_LEAST_EDGE} to be warped")
        random = torch.randn(volume.shape, generator=generator, dtype=volume.dtype).to(volume.device)
        x, skips = torch.stack((volume, random), dim=1), []
        for down in self.downs:
            x = down(x)
            skips.append(x)
            x = functional.max_pool3d(x, 2)
        first, second = self.bottleneck(x).chunk(2, dim=1)
        noisy = volume + self.most_noise * torch.tanh(self.noise(first, skips)[:, 0])
        return normalized(deform(noisy, self.most_bend * torch.tanh(self.bend(second, skips))))


def deform(volume: Float[Tensor, "b d d d"], field_zyx_voxels: Float[Tensor, "b 3 d d d"]) -> Float[Tensor, "b d d d"]:
    """Each voxel taken from where the smoothed field points; what lies beyond the border is the border's mirror."""
    size = volume.shape[-1]
    offset = torch.arange(-_REACH, _REACH + 1, device=volume.device, dtype=volume.dtype)
    kernel = torch.exp(-(offset**2) / (2 * _SMOOTHING**2))
    kernel = kernel / kernel.sum()
    field = field_zyx_voxels.flatten(0, 1)[:, None]
    for shape in ((-1, 1, 1), (1, -1, 1), (1, 1, -1)):
        padding = [_REACH if edge == -1 else 0 for edge in shape for _ in range(2)][::-1]
        field = functional.conv3d(functional.pad(field, padding, mode="replicate"), kernel.reshape(1, 1, *shape))
    field = field.reshape(field_zyx_voxels.shape)
    axis = torch.arange(size, device=volume.device, dtype=volume.dtype)
    place = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij")) + field
    grid = (2 * place / (size - 1) - 1).flip(1).permute(0, 2, 3, 4, 1)  # grid_sample counts x first
    sampled: Tensor = functional.grid_sample(volume[:, None], grid, padding_mode="reflection", align_corners=True)
    return sampled[:, 0]
