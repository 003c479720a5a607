"""Generators of subtomograms with the appearance of measured ones, and their critics (CryoETGAN).

Source: the released code of CryoETGAN (generators and critics of a cycle-consistent GAN in three dimensions). Its
configuration is ``GeneratorConfig(width=64, edge=7, is_direct=False)``; each class states its deviations.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from tomosift.physics.augmentation import normalize
from tomosift.physics.fourier import fourier_shell_indices, low_pass, mean_power, power_gain
from tomosift.physics.wedge import apply_mask

_MIN_BOX_SIZE = 16
_INITIAL_DEVIATION = 0.02
_MAX_GAIN = 3.0
_GAIN_SPEED = 10.0  # factor of the learning rate of the filters; the output of the layers sums many small steps


@dataclass(frozen=True)
class GeneratorConfig:
    """Architecture of a generator."""

    width: int = 8
    """Channels at full size; twice as many below. 64 as published, for GPUs."""
    blocks: int = 6
    """Residual blocks at a quarter of the box size."""
    edge: int = 3
    """Edge of the first and the last kernel, in voxels; 7 as published, which takes six times as long on a CPU."""
    is_direct: bool = True
    """Whether the output of the layers is added to the input itself and to noise with the mean spectrum of the target,
    each through a filter over shells in Fourier space. Training starts from these filters, and coefficients that the
    target lacks are damped. Ours. In the published architecture noise enters at the bottleneck alone, the input passes
    through all layers, and the missing wedge has to be learned."""


class _Residual(nn.Module):
    """Two convolutions with a skip connection; without normalization, as published."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv3d(channels, channels, 3, padding=1, padding_mode="reflect", bias=False)
        self.second = nn.Conv3d(channels, channels, 3, padding=1, padding_mode="reflect", bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(functional.relu(self.first(x)))  # type: ignore[no-any-return]


def _normalized_relu(channels: int) -> list[nn.Module]:
    """Instance normalization and rectifier."""
    return [nn.InstanceNorm3d(channels, affine=True), nn.ReLU()]


class Generator(nn.Module):
    """Network from volumes of a source to subtomograms with the appearance of a target, with noise as second input.

    A direct generator (`GeneratorConfig.is_direct`) is the identity before training, unless `match_spectrum` is called.

    Parameters
    ----------
    shape
        Architecture.
    box_size
        Edge of the volumes in voxels.

    Raises
    ------
    ValueError
        The box is too small for two halvings and the layers after them.

    Notes
    -----
    Deviations: the output is normalized to zero mean and unit variance, as all subtomograms are, instead of passing a
    hyperbolic tangent; see `GeneratorConfig.is_direct`.
    """

    color: Tensor
    measured: Tensor
    start: Tensor
    shell: Tensor

    def __init__(self, shape: GeneratorConfig, box_size: int) -> None:
        super().__init__()
        if box_size < _MIN_BOX_SIZE or box_size % 4:
            raise ValueError(
                f"box size is {box_size} voxels, expected {_MIN_BOX_SIZE} or more and a multiple of 4 for a generator"
            )
        self.shape = shape
        for name in ("color", "measured"):
            self.register_buffer(name, torch.ones(box_size, box_size, box_size // 2 + 1))
        self.register_buffer("shell", fourier_shell_indices(box_size), persistent=False)
        shells = int(self.shell.max()) + 1
        self.register_buffer("start", torch.stack((torch.ones(shells), torch.zeros(shells))))
        if shape.is_direct:
            self.gains = nn.Parameter(torch.zeros(2, shells))
        w, edge = shape.width, shape.edge
        self.down = nn.Sequential(
            nn.Conv3d(1, w, edge, padding=edge // 2, padding_mode="reflect", bias=False),
            *_normalized_relu(w),
            nn.Conv3d(w, 2 * w, 3, stride=2, padding=1, bias=False),
            *_normalized_relu(2 * w),
            nn.Conv3d(2 * w, 2 * w, 3, stride=2, padding=1, bias=False),
            *_normalized_relu(2 * w),
            *(_Residual(2 * w) for _ in range(shape.blocks)),
        )
        self.up = nn.ModuleList([nn.ConvTranspose3d(4 * w, 2 * w, 3, 2, 1, bias=False), nn.Sequential()])
        self.up[1] = nn.ConvTranspose3d(2 * w, w, 3, 2, 1, bias=False)
        self.norms = nn.ModuleList([nn.Sequential(*_normalized_relu(c)) for c in (2 * w, w)])
        self.last = nn.Conv3d(w, 1, edge, padding=edge // 2, padding_mode="reflect", bias=False)
        for module in self.modules():
            if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
                nn.init.normal_(module.weight, 0.0, _INITIAL_DEVIATION)
        if shape.is_direct:
            nn.init.zeros_(self.last.weight)

    def match_spectrum(
        self, target: Float[Tensor, "n d d d"], source: Float[Tensor, "m d d d"], signal_share: float
    ) -> None:
        """Initialize the filters so that the output has the mean spectrum of a target, without coefficients it lacks.

        Parameters
        ----------
        target
            Subtomograms whose appearance is to be learned.
        source
            Volumes that the generator gets as input.
        signal_share
            Share of the power in every shell that comes from the source; the rest is noise.
        """
        amplitude = mean_power(target).sqrt()
        self.color.copy_(amplitude / power_gain(amplitude[None]).sqrt())
        for number in range(self.start.shape[1]):
            members = self.shell == number
            # Tilts measure more than half of every shell, so its upper quarter is of measured coefficients.
            measured = amplitude[members].quantile(0.75).clamp_min(1e-12)
            self.measured[members] = (amplitude[members] / measured).clamp(max=1.0)
        source_amplitude = mean_power(source).sqrt() * self.measured
        power, source_power = (_sum_shells(part**2, self.shell) for part in (amplitude, source_amplitude))
        # In outer shells, beyond the resolution of maps, noise alone has to make up for missing power.
        ratio = power / source_power.clamp_min(1e-12)
        self.start[0] = (signal_share * ratio).sqrt().clamp(max=_MAX_GAIN)
        self.start[1] = (1 - signal_share) ** 0.5

    def forward(self, volume: Float[Tensor, "b d d d"], generator: torch.Generator) -> Float[Tensor, "b d d d"]:
        """Generate subtomograms of zero mean and unit variance; ``generator`` draws the noise."""

        def draw_noise(like: Tensor) -> Tensor:
            noise = torch.randn(like.shape, generator=generator, dtype=like.dtype, device=generator.device)
            return noise.to(like.device)

        x = self.down(volume[:, None])
        x = torch.cat((x, draw_noise(x)), dim=1)
        for layer, norm in zip(self.up, self.norms, strict=True):
            x = norm(layer(x, output_size=[2 * n for n in x.shape[2:]]))
        output = self.last(x)[:, 0]
        return normalize(self._add_direct(output, volume, draw_noise(volume)) if self.shape.is_direct else output)

    def _add_direct(
        self, output: Float[Tensor, "b d d d"], volume: Float[Tensor, "b d d d"], noise: Float[Tensor, "b d d d"]
    ) -> Float[Tensor, "b d d d"]:
        """Add the filtered input and the filtered noise to the output of the layers."""
        axes = (-3, -2, -1)
        filters = (self.start * (1 + _GAIN_SPEED * self.gains))[:, self.shell]
        spectrum = torch.fft.rfftn(output, dim=axes) + filters[0] * torch.fft.rfftn(volume, dim=axes)
        spectrum = self.measured * spectrum + filters[1] * self.color * torch.fft.rfftn(noise, dim=axes)
        total: Tensor = torch.fft.irfftn(spectrum, s=volume.shape[1:], dim=axes)
        return total


def _sum_shells(power: Float[Tensor, "d d h"], shell: Int64[Tensor, "d d h"]) -> Float[Tensor, " s"]:
    """Sum over the coefficients of each shell."""
    sums = torch.zeros(int(shell.max()) + 1, dtype=power.dtype, device=power.device)
    return sums.index_add_(0, shell.flatten(), power.flatten())


class Critic(nn.Module):
    """Network from subtomograms to one score each, the mean over overlapping parts of the box.

    Source: the released code of CryoETGAN, with width 64 and one halving more. Deviation: the scores of parts are
    averaged.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv3d(1, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for inputs in (width, 2 * width):
            layers += [nn.Conv3d(inputs, 2 * inputs, 4, stride=2, padding=1, bias=False)]
            layers += [nn.InstanceNorm3d(2 * inputs, affine=True), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Conv3d(4 * width, 1, 3, padding=1))

    def forward(self, volume: Float[Tensor, "b d d d"]) -> Float[Tensor, " b"]:
        return self.layers(volume[:, None]).mean(dim=(1, 2, 3, 4))  # type: ignore[no-any-return]


def gradient_penalty(
    critic: Critic, real: Float[Tensor, "b d d d"], generated: Float[Tensor, "b d d d"], generator: torch.Generator
) -> Float[Tensor, ""]:
    """Compute the gradient penalty: the mean squared deviation from 1 of the norm of the critic's gradient.

    The gradient of each subtomogram is evaluated at a random point between a real and a generated one.

    Parameters
    ----------
    critic
        The critic.
    real, generated
        Pairs of subtomograms.
    generator
        Draws the points.

    Notes
    -----
    Source: Gulrajani et al. 2017, "Improved training of Wasserstein GANs", eq. 3. Deviation from the released code of
    CryoETGAN: that sums the square over one axis only, which is no norm.
    """
    share = torch.rand(len(real), 1, 1, 1, generator=generator, device=generator.device).to(real.device)
    between = (share * real + (1 - share) * generated).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    norm: Tensor = gradient.flatten(1).norm(dim=1)
    return (norm - 1).square().mean()


def low_pass_normalized(volume: Float[Tensor, "b d d d"], cutoff_nyquist: float) -> Float[Tensor, "b d d d"]:
    """Low-pass filter volumes at a share of the Nyquist frequency, and normalize them."""
    cutoff = torch.tensor([cutoff_nyquist], device=volume.device)
    return normalize(apply_mask(volume, low_pass(volume.shape[-1], cutoff)))
