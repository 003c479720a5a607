"""Looks of measured boxes given to simulated ones without a trained network: baselines of `cycle_wgan`.

Each takes what it needs from some target boxes, without labels, and then changes boxes that were imaged as it asks.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Float, Float32
from torch import Tensor
from torch.nn import functional

from tomosift.data.subtomograms import Subtomograms
from tomosift.physics.augmentation import normalized
from tomosift.physics.fourier import mean_power
from tomosift.physics.imaging import ImagingRanges, lab_protocol
from tomosift.simulate.maps import BoxStyle, with_tilt_ranges_of
from tomosift.simulate.synthetic_stream import RANDOMIZED_RANGES

STYLES: dict[str, str] = {
    "plain": "Simulated boxes as they are, at SNR 0.1, to compare with.",
    "power": "Simulated boxes with the mean power of target boxes at every spatial frequency.",
    "histogram": "Simulated boxes with the distribution of voxel values of target boxes.",
    "noise": "Simulated signals in boxes from empty places of the target's tomograms.",
    "texture": "Simulated boxes changed until random filters respond to them as to target boxes; slow.",
}
"""Name of each style, what it gives."""

_AXES = (-3, -2, -1)
_LOOKED_AT = 512  # target boxes
_COMPARED = 128  # of them, for textures
_MOST_GAIN = 10.0
_SNRS = (0.02, 0.2)
_FILTERS, _FILTER_EDGE, _SCALES = 16, 5, 3
_TEXTURE_STEPS, _TEXTURE_RATE, _CONTENT_WEIGHT = 30, 0.1, 0.1


def fit_style(name: str, target: Subtomograms, empty: Subtomograms | None = None) -> BoxStyle:
    """One of `STYLES` for these boxes; ``empty`` are boxes without particles, for `noise`.

    Raises
    ------
    ValueError
        When there is no such style, a set is empty, or there are no empty boxes for `noise`.
    """
    if name not in STYLES:
        raise ValueError(f"style is {name!r}, expected one of {', '.join(STYLES)}, or the folder of a run of translate")
    if not len(target):
        raise ValueError(f"{target.path}, whose look is wanted, is empty; expected at least one box")
    if name == "noise":
        if empty is None or not len(empty):
            raise ValueError(
                "style noise needs boxes from empty places; give them with --empty (see `extract --empty`)"
            )
        return Noise(target, empty)
    kinds: dict[str, Callable[[Subtomograms], BoxStyle]] = {
        "plain": Plain,
        "power": Power,
        "histogram": Histogram,
        "texture": Texture,
    }
    return kinds[name](target)


def sample_volumes(boxes: Subtomograms) -> Float32[Tensor, "n d d d"]:
    """Boxes from all over a set, for what is measured on them."""
    return normalized(torch.from_numpy(boxes.volumes(boxes.spaced_rows(_LOOKED_AT))))


def plain_imaging(target: Subtomograms) -> ImagingRanges:
    """What a user would simulate who knows of the target its tilt range alone."""
    return with_tilt_ranges_of(target, replace(lab_protocol(), shift_voxels=(-2.0, 2.0)))


class Plain:
    """Nothing but normalization."""

    def __init__(self, target: Subtomograms) -> None:
        self.ranges = plain_imaging(target)

    def __call__(self, volume: Float[Tensor, "b d d d"], generator: torch.Generator) -> Float[Tensor, "b d d d"]:
        return normalized(volume)


class Power:
    """Every Fourier coefficient times one number, so that its mean power is that of the target: wedge, CTF envelope
    and color of the noise, but not its share."""

    def __init__(self, target: Subtomograms) -> None:
        self.ranges = plain_imaging(target)
        self._wanted = mean_power(sample_volumes(target))

    def __call__(self, volume: Float[Tensor, "b d d d"], generator: torch.Generator) -> Float[Tensor, "b d d d"]:
        plain = normalized(volume)
        had = mean_power(plain)
        gain = (self._wanted / had.clamp_min(1e-12)).sqrt().clamp(max=_MOST_GAIN)
        changed: Tensor = torch.fft.irfftn(torch.fft.rfftn(plain, dim=_AXES) * gain, s=plain.shape[1:], dim=_AXES)
        return normalized(changed)


class Histogram:
    """Voxels keep their ranks and take the values that target boxes have at these ranks, in the mean."""

    def __init__(self, target: Subtomograms) -> None:
        self.ranges = plain_imaging(target)
        self._values = torch.stack([box.flatten().sort().values for box in sample_volumes(target)]).mean(dim=0)

    def __call__(self, volume: Float[Tensor, "b d d d"], generator: torch.Generator) -> Float[Tensor, "b d d d"]:
        rank = volume.flatten(1).argsort(dim=1).argsort(dim=1)
        return normalized(self._values[rank].reshape(volume.shape))


class Noise:
    """Simulated boxes without noise of their own, in boxes from empty places of the target's tomograms.

    At an SNR drawn for each box: in crowded tomograms empty places hold as much of neighbors as other boxes do, so
    that spectra do not tell it (tried: the share of the signal came out as zero).
    """

    def __init__(self, target: Subtomograms, empty: Subtomograms) -> None:
        self.ranges = with_tilt_ranges_of(target, replace(RANDOMIZED_RANGES, has_noise=False))
        self._empty = sample_volumes(empty)

    def __call__(self, volume: Float[Tensor, "b d d d"], generator: torch.Generator) -> Float[Tensor, "b d d d"]:
        low, high = _SNRS
        snr = low * (high / low) ** torch.rand(len(volume), 1, 1, 1, generator=generator)
        noise = self._empty[torch.randint(len(self._empty), (len(volume),), generator=generator)]
        return normalized(normalized(volume) * snr.sqrt() + noise)


class Texture:
    """Simulated boxes descended until correlations of filter responses are those of the target.

    Source: Gatys et al. 2016, "Image style transfer using convolutional neural networks", as FakET (Harar et al. 2023)
    uses it for tilt images. Deviations: boxes instead of tilt images; random filters at three scales instead of a
    network trained on photographs (Ustyuzhaninov et al. 2017 found those enough for textures); a box keeps its content
    by its own distance.
    """

    def __init__(self, target: Subtomograms) -> None:
        self.ranges = plain_imaging(target)
        fixed = torch.Generator().manual_seed(0)
        filters = torch.randn(_FILTERS, 1, *3 * (_FILTER_EDGE,), generator=fixed)
        self._filters = filters - filters.mean(dim=_AXES, keepdim=True)
        self._filters = self._filters / self._filters.flatten(1).norm(dim=1)[:, None, None, None, None]
        parts = [self._responses(part) for part in torch.split(sample_volumes(target)[:_COMPARED], 16)]
        self._wanted = [torch.cat(scale).mean(dim=0) for scale in zip(*parts, strict=True)]

    def _responses(self, volume: Float[Tensor, "b d d d"]) -> list[Float[Tensor, "b f f"]]:
        found, x = [], volume[:, None]
        for scale in range(_SCALES):
            if scale:
                x = 8**0.5 * functional.avg_pool3d(x, 2)
            response = functional.relu(functional.conv3d(x, self._filters)).flatten(2)
            found.append(response @ response.transpose(1, 2) / response.shape[-1])
        return found

    def __call__(self, volume: Float[Tensor, "b d d d"], generator: torch.Generator) -> Float[Tensor, "b d d d"]:
        return torch.cat([self._descended(normalized(part)) for part in torch.split(volume, 16)])

    def _descended(self, plain: Float[Tensor, "b d d d"]) -> Float[Tensor, "b d d d"]:
        with torch.enable_grad():
            made = plain.clone().requires_grad_()
            optimizer = torch.optim.Adam([made], lr=_TEXTURE_RATE)
            for _ in range(_TEXTURE_STEPS):
                loss = _CONTENT_WEIGHT * (made - plain).square().mean() * len(plain)
                for said, wanted in zip(self._responses(made), self._wanted, strict=True):
                    loss = loss + ((said - wanted).square().sum(dim=(1, 2)) / wanted.square().sum()).sum()
                optimizer.zero_grad()
                (made.grad,) = torch.autograd.grad(loss, made)
                optimizer.step()
        return normalized(made.detach())
