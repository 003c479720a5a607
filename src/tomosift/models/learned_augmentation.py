"""Learned augmentation: networks that make simulated subtomograms similar to measured ones by noise and deformation.

Source: the released code of Cryo-Shift (modules of noise and deformation). Deviations: the decoder of the deformation
is trained (there it is drawn anew at every call); the field is smoothed by a normalized Gaussian (there the kernel sums
to about 83); the result is normalized to zero mean and unit variance instead of being clipped to 0..1; no normalization
over a batch; ``width`` and the limits of both changes are settings.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from tomosift.physics.augmentation import normalize

_SMOOTHING, _REACH = 2.0, 3  # voxels: standard deviation and half the edge of the kernel that smooths the field
_MIN_BOX_SIZE = 8


def _block(inputs: int, outputs: int) -> nn.Sequential:
    """Convolution, group normalization and rectifier."""
    return nn.Sequential(
        nn.Conv3d(inputs, outputs, 3, padding=1), nn.GroupNorm(min(8, outputs), outputs), nn.LeakyReLU(0.2)
    )


class _Decoder(nn.Module):
    """Upsampling from the bottleneck to the box size, with skip connections from the encoder."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            _block(inputs, outputs)
            for inputs, outputs in ((4 * width, 2 * width), (4 * width, width), (2 * width, width))
        )
        self.last = nn.Conv3d(width, channels, 1)
        nn.init.zeros_(self.last.weight)  # training starts from the identity
        assert self.last.bias is not None
        nn.init.zeros_(self.last.bias)

    def forward(self, bottleneck: Tensor, skips: list[Tensor]) -> Tensor:
        x = bottleneck
        for block, skip in zip(self.blocks, reversed(skips), strict=True):
            x = functional.interpolate(x, size=skip.shape[2:], mode="trilinear", align_corners=False)
            x = block(torch.cat((x, skip), dim=1))
        return self.last(x)  # type: ignore[no-any-return]


class NoiseAndDeformation(nn.Module):
    """Network that adds noise to each subtomogram and then deforms it, both predicted from that subtomogram.

    Parameters
    ----------
    width
        Channels at full size.
    max_noise
        Largest noise in standard deviations of the subtomogram.
    max_deformation_voxels
        Largest component of the deformation field.
    """

    def __init__(self, width: int, max_noise: float, max_deformation_voxels: float) -> None:
        super().__init__()
        self.max_noise, self.max_deformation_voxels = max_noise, max_deformation_voxels
        self.downs = nn.ModuleList([_block(2, width), _block(width, 2 * width), _block(2 * width, 2 * width)])
        self.bottleneck = _block(2 * width, 4 * width)
        self.noise, self.bend = _Decoder(width, 1), _Decoder(width, 3)

    def forward(self, volume: Float[Tensor, "b d d d"], generator: torch.Generator) -> Float[Tensor, "b d d d"]:
        """Augment subtomograms and normalize them to zero mean and unit variance.

        Parameters
        ----------
        volume
            Subtomograms of zero mean and unit variance.
        generator
            Source of the random numbers that are the second input channel.

        Raises
        ------
        ValueError
            The box is too small to be halved three times.
        """
        if volume.shape[-1] < _MIN_BOX_SIZE:
            raise ValueError(
                f"box size is {volume.shape[-1]} voxels, expected at least {_MIN_BOX_SIZE} for deformation"
            )
        random = torch.randn(volume.shape, generator=generator, dtype=volume.dtype).to(volume.device)
        x, skips = torch.stack((volume, random), dim=1), []
        for down in self.downs:
            x = down(x)
            skips.append(x)
            x = functional.max_pool3d(x, 2)
        first, second = self.bottleneck(x).chunk(2, dim=1)
        noisy = volume + self.max_noise * torch.tanh(self.noise(first, skips)[:, 0])
        return normalize(deform(noisy, self.max_deformation_voxels * torch.tanh(self.bend(second, skips))))


def deform(volume: Float[Tensor, "b d d d"], field_zyx_voxels: Float[Tensor, "b 3 d d d"]) -> Float[Tensor, "b d d d"]:
    """Sample each voxel of volumes at its position plus a deformation field.

    The field is smoothed by a Gaussian first. Positions outside of the box are reflected at its border.
    """
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
    position = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij")) + field
    grid = (2 * position / (size - 1) - 1).flip(1).permute(0, 2, 3, 4, 1)  # grid_sample counts x first
    sampled: Tensor = functional.grid_sample(volume[:, None], grid, padding_mode="reflection", align_corners=True)
    return sampled[:, 0]
