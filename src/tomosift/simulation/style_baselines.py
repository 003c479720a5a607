"""Style transfer without a trained network: baselines of the method `cycle_wgan`.

Each one measures a statistic on unlabeled target subtomograms and changes simulated subtomograms accordingly.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Float, Float32
from torch import Tensor
from torch.nn import functional

from tomosift.data.subtomogram_set import Subtomograms
from tomosift.physics.augmentation import normalize
from tomosift.physics.fourier import mean_power
from tomosift.physics.imaging import ImagingRanges, lab_protocol
from tomosift.simulation.style_transfer import StyleTransfer, match_tilt_ranges
from tomosift.simulation.synthetic_stream import RANDOMIZED_RANGES

STYLES: dict[str, str] = {
    "plain": "Simulated subtomograms unchanged, at SNR 0.1, for comparison.",
    "power": "Simulated subtomograms with the mean power spectrum of the target.",
    "histogram": "Simulated subtomograms with the distribution of voxel values of the target.",
    "noise": "Simulated signals added to subtomograms from empty positions of the target's tomograms.",
    "texture": "Simulated subtomograms optimized until responses of random filters match those of the target; slow.",
}
"""Name of each style, and what it does."""

_AXES = (-3, -2, -1)
_TARGET_SAMPLES = 512  # target subtomograms that statistics are measured on
_TEXTURE_SAMPLES = 128  # of them, for textures
_MAX_GAIN = 10.0
_SNR_RANGE = (0.02, 0.2)
_FILTERS, _FILTER_EDGE, _SCALES = 16, 5, 3
_TEXTURE_STEPS, _TEXTURE_RATE, _CONTENT_WEIGHT = 30, 0.1, 0.1


def fit_style(name: str, target: Subtomograms, empty: Subtomograms | None = None) -> StyleTransfer:
    """Fit one of `STYLES` to a target.

    Parameters
    ----------
    name
        Name in `STYLES`.
    target
        Subtomograms of the target domain; labels are not used.
    empty
        Subtomograms without particles from the target's tomograms, for the style ``noise``.

    Raises
    ------
    ValueError
        When there is no such style, a set has no subtomograms, or ``noise`` has no empty subtomograms.
    """
    if name not in STYLES:
        raise ValueError(f"style is {name!r}, expected one of {', '.join(STYLES)}, or the folder of a run of translate")
    if not len(target):
        raise ValueError(f"target set {target.path} is empty, expected at least one subtomogram")
    if name == "noise":
        if empty is None or not len(empty):
            raise ValueError(
                "style noise needs subtomograms from empty positions; give them with --empty (see `extract --empty`)"
            )
        return EmptyBackground(target, empty)
    kinds: dict[str, Callable[[Subtomograms], StyleTransfer]] = {
        "plain": Plain,
        "power": PowerMatching,
        "histogram": HistogramMatching,
        "texture": TextureTransfer,
    }
    return kinds[name](target)


def sample_volumes(subtomograms: Subtomograms) -> Float32[Tensor, "n d d d"]:
    """Return normalized subtomograms, evenly spaced over a set, to measure statistics on."""
    return normalize(torch.from_numpy(subtomograms.volumes(subtomograms.spaced_rows(_TARGET_SAMPLES))))


def default_ranges(target: Subtomograms) -> ImagingRanges:
    """Return imaging conditions that use nothing but the tilt ranges of the target."""
    return match_tilt_ranges(target, replace(lab_protocol(), shift_voxels=(-2.0, 2.0)))


class Plain:
    """Normalizes and changes nothing else."""

    def __init__(self, target: Subtomograms) -> None:
        self.ranges = default_ranges(target)

    def __call__(self, volume: Float[Tensor, "b d d d"], generator: torch.Generator) -> Float[Tensor, "b d d d"]:
        return normalize(volume)


class PowerMatching:
    """Scales every Fourier coefficient so that its mean power is that of the target.

    This transfers the missing wedge, the CTF envelope and the color of the noise, but not the SNR.
    """

    def __init__(self, target: Subtomograms) -> None:
        self.ranges = default_ranges(target)
        self._target_power = mean_power(sample_volumes(target))

    def __call__(self, volume: Float[Tensor, "b d d d"], generator: torch.Generator) -> Float[Tensor, "b d d d"]:
        plain = normalize(volume)
        power = mean_power(plain)
        gain = (self._target_power / power.clamp_min(1e-12)).sqrt().clamp(max=_MAX_GAIN)
        changed: Tensor = torch.fft.irfftn(torch.fft.rfftn(plain, dim=_AXES) * gain, s=plain.shape[1:], dim=_AXES)
        return normalize(changed)


class HistogramMatching:
    """Voxels keep their ranks and take the mean values of target subtomograms at these ranks."""

    def __init__(self, target: Subtomograms) -> None:
        self.ranges = default_ranges(target)
        self._values = torch.stack([volume.flatten().sort().values for volume in sample_volumes(target)]).mean(dim=0)

    def __call__(self, volume: Float[Tensor, "b d d d"], generator: torch.Generator) -> Float[Tensor, "b d d d"]:
        rank = volume.flatten(1).argsort(dim=1).argsort(dim=1)
        return normalize(self._values[rank].reshape(volume.shape))


class EmptyBackground:
    """Adds noise-free simulated signals to subtomograms from empty positions of the target's tomograms.

    The SNR is drawn for each subtomogram. It cannot be estimated from spectra: in crowded tomograms, empty positions
    hold as much density of neighbors as other positions do (an attempt gave a share of the signal of zero).
    """

    def __init__(self, target: Subtomograms, empty: Subtomograms) -> None:
        self.ranges = match_tilt_ranges(target, replace(RANDOMIZED_RANGES, has_noise=False))
        self._empty = sample_volumes(empty)

    def __call__(self, volume: Float[Tensor, "b d d d"], generator: torch.Generator) -> Float[Tensor, "b d d d"]:
        low, high = _SNR_RANGE
        snr = low * (high / low) ** torch.rand(len(volume), 1, 1, 1, generator=generator)
        noise = self._empty[torch.randint(len(self._empty), (len(volume),), generator=generator)]
        return normalize(normalize(volume) * snr.sqrt() + noise)


class TextureTransfer:
    """Optimizes simulated subtomograms until correlations of filter responses are those of the target.

    Source: Gatys et al. 2016, "Image style transfer using convolutional neural networks", as FakET (Harar et al. 2023)
    uses it for tilt images. Deviations: subtomograms instead of tilt images; random filters at three scales instead of
    a network trained on photographs (Ustyuzhaninov et al. 2017 found those sufficient for textures); the content loss
    is the distance to the simulated subtomogram.
    """

    def __init__(self, target: Subtomograms) -> None:
        self.ranges = default_ranges(target)
        fixed = torch.Generator().manual_seed(0)
        filters = torch.randn(_FILTERS, 1, *3 * (_FILTER_EDGE,), generator=fixed)
        self._filters = filters - filters.mean(dim=_AXES, keepdim=True)
        self._filters = self._filters / self._filters.flatten(1).norm(dim=1)[:, None, None, None, None]
        parts = [self._gram_matrices(part) for part in torch.split(sample_volumes(target)[:_TEXTURE_SAMPLES], 16)]
        self._target = [torch.cat(scale).mean(dim=0) for scale in zip(*parts, strict=True)]

    def _gram_matrices(self, volume: Float[Tensor, "b d d d"]) -> list[Float[Tensor, "b f f"]]:
        matrices, x = [], volume[:, None]
        for scale in range(_SCALES):
            if scale:
                x = 8**0.5 * functional.avg_pool3d(x, 2)
            response = functional.relu(functional.conv3d(x, self._filters)).flatten(2)
            matrices.append(response @ response.transpose(1, 2) / response.shape[-1])
        return matrices

    def __call__(self, volume: Float[Tensor, "b d d d"], generator: torch.Generator) -> Float[Tensor, "b d d d"]:
        return torch.cat([self._optimize(normalize(part)) for part in torch.split(volume, 16)])

    def _optimize(self, plain: Float[Tensor, "b d d d"]) -> Float[Tensor, "b d d d"]:
        with torch.enable_grad():
            volume = plain.clone().requires_grad_()
            optimizer = torch.optim.Adam([volume], lr=_TEXTURE_RATE)
            for _ in range(_TEXTURE_STEPS):
                loss = _CONTENT_WEIGHT * (volume - plain).square().mean() * len(plain)
                for gram, target in zip(self._gram_matrices(volume), self._target, strict=True):
                    loss = loss + ((gram - target).square().sum(dim=(1, 2)) / target.square().sum()).sum()
                optimizer.zero_grad()
                (volume.grad,) = torch.autograd.grad(loss, volume)
                optimizer.step()
        return normalize(volume.detach())
