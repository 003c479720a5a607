"""Descriptors made of correlations, so that they can be had of every place of a tomogram at once.

Those of `tomosift.models.radial_descriptors` multiply a box by a sphere or a window before they filter it, and have to be computed
box by box. Here a volume is filtered first and averaged over shells afterwards, by filters and shells so small that
together they never reach beyond the box. What lies outside then does not matter, and a Fourier transform of a block
gives the same numbers for all boxes in it. On boxes of known middle they tell as much (`experiments/LOG.md`).

A description has four parts, all of the box with mean 0 and variance 1: averages over shells about the middle of the
smoothed box; half the logarithm of the mean square of four bands of spatial frequency in these shells; the skewness of
three smoother bands in them; and per degree the power of spherical harmonics on shells and its correlation between near
shells, of the smoothed box at every ``step``-th voxel.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.special import sph_harm_y
from torch import Tensor
from torch.nn import functional

from tomosift.models.strided_correlation import alias_spectrum, fold_spectrum, kernel_spectrum, strided_volume

_WIDTHS = (0.025, 0.0416, 0.069, 0.125)  # of the Gaussians between bands, in box edges
_CUT = 2.25  # Gaussians end after so many widths
_SPACING = 0.044  # of shells, in box edges
_SHELL_COUNTS = {1: 9, 2: 8, 3: 7, 4: 4}  # over which a level can be averaged without looking beyond any box
_SMOOTH = 2  # level at which averages and harmonics are taken; level 0 is the volume, the others are Gaussians
_BANDS = ((0, 1), (1, 2), (2, 3), (3, 4))  # a band is the difference of two levels
_SKEWED = ((1, 3), (2, 4), (2, 3))
_SHELLS, _DEGREES = 6, 7  # of harmonics; a shell is two sixteenths of half a box edge thick
_PAIRS = [(a, b) for a in range(_SHELLS) for b in range(a, min(a + 3, _SHELLS))]
GRID_DESCRIPTOR_SIZE = (
    _SHELL_COUNTS[_SMOOTH] + sum(_SHELL_COUNTS[b] for _, b in (*_BANDS, *_SKEWED)) + len(_PAIRS) * _DEGREES
)
"""Numbers that describe a box."""
_LEAST_BAND, _LEAST_VARIANCE, _LEAST_POWER = 1e-3, 0.02, 0.1  # floors, in units of the noise of a normalized box


@dataclass(frozen=True, eq=False)
class DescriptorLayout:
    """Filters, shells and harmonics for one box edge, each with the farthest voxel that it reaches along an axis."""

    size: int
    step: int
    """Harmonics look at every so many voxels; places that are a multiple of it apart share what they look at."""
    gaussians: tuple[NDArray[np.float64], ...]
    """One-dimensional kernels of levels 1 and on."""
    shells: tuple[NDArray[np.float64], ...]
    """Weights of averages over shells, each a cube of odd edge, from the middle outwards."""
    harmonics: NDArray[np.float32]
    """(_SHELLS, 49, e, e, e) harmonics times shells on every ``step``-th voxel."""


@lru_cache(maxsize=8)
def descriptor_layout(size: int) -> DescriptorLayout:
    """The layout for boxes of this edge."""
    gaussians = []
    for width in _WIDTHS:
        reach = math.floor(_CUT * width * size + 0.5)
        kernel = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * (width * size) ** 2))
        gaussians.append(kernel / kernel.sum())
    spacing = _SPACING * size
    shells = []
    for k in range(_SHELL_COUNTS[1]):
        axis = np.arange(-math.ceil(spacing * (k + 1)) + 1, math.ceil(spacing * (k + 1)))
        radius = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)
        weight = np.clip(1 - np.abs(radius - spacing * k) / spacing, 0, None)
        shells.append(weight / weight.sum())
    step = max(1, round(size / 16))
    return DescriptorLayout(
        size, step, tuple(gaussians), tuple(shells), _harmonics(size, step, len(gaussians[_SMOOTH - 1]) // 2)
    )


def _harmonics(size: int, step: int, reach: int) -> NDArray[np.float32]:
    edge = (size // 2 - 1 - reach) // step
    axis = step * np.arange(-edge, edge + 1)
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    radius = np.sqrt(z**2 + y**2 + x**2)
    polar = np.arccos(np.clip(z / np.maximum(radius, 1e-9), -1, 1))
    azimuth = np.arctan2(y, x)
    width = (size // 2 - 1 - reach) / _SHELLS
    shells = [np.clip(1 - np.abs(radius - width * (k + 1)) / max(width, step), 0, None) for k in range(_SHELLS)]
    bases = []
    for degree in range(_DEGREES):
        waves = [sph_harm_y(degree, m, polar, azimuth) for m in range(degree + 1)]
        real = [waves[0].real, *(np.sqrt(2) * part for wave in waves[1:] for part in (wave.real, wave.imag))]
        basis = np.stack([[shell * part for part in real] for shell in shells])
        if degree:
            basis[..., edge, edge, edge] = 0  # the middle has no direction
        # All orders of a degree share one norm, or turning would change the power that they hold together.
        norm = np.sqrt(np.square(basis).sum(axis=(2, 3, 4)).mean(axis=1))
        bases.append(basis / norm[:, None, None, None, None])
    return np.concatenate(bases, axis=1).astype(np.float32)


@dataclass(frozen=True, eq=False)
class _Averages:
    """What both ways of averaging give, before normalization; ``p`` stands for boxes or for places."""

    smooth: Float[Tensor, "_ p"]
    squares: tuple[Float[Tensor, "_ p"], ...]
    """Of each band."""
    moments: tuple[tuple[Float[Tensor, "_ p"], ...], ...]
    """First to third, of each band of `_SKEWED`."""
    waves: tuple[Float[Tensor, "s _ p"], ...]
    """Per degree: shells and orders."""


def _finished(
    found: _Averages, mean: Float[Tensor, " p"], deviation: Float[Tensor, " p"], plan: DescriptorLayout
) -> Float[Tensor, "p _"]:
    """Descriptors of boxes of this mean and deviation. Bands do not see the mean, for their filters sum to zero."""
    gaussian = torch.from_numpy(plan.gaussians[_SMOOTH - 1])
    gain = float(gaussian.square().sum() ** -1.5)  # white noise that was smoothed has variance 1 again
    per = gain / deviation
    parts = [(found.smooth - mean) * per]
    parts += [0.5 * torch.log(square / deviation**2 + _LEAST_BAND) for square in found.squares]
    for first, second, third in found.moments:
        one, two, three = first / deviation, second / deviation**2, third / deviation**3
        variance = (two - one.square()).clamp(min=0) + _LEAST_VARIANCE
        parts.append((three - 3 * one * two + 2 * one**3) / variance**1.5)
    first_of, second_of = (list(part) for part in zip(*_PAIRS, strict=True))
    own = torch.tensor([[a == b] for a, b in _PAIRS], device=mean.device)
    sums = torch.from_numpy(plan.harmonics.sum(axis=(2, 3, 4))).to(mean.device)
    for degree, wave in enumerate(found.waves):
        offset = sums[:, degree**2 : (degree + 1) ** 2, None] * mean
        along = (wave - offset) * per
        power = along.square().mean(1) + _LEAST_POWER
        products = torch.stack([(along[a] * along[b]).mean(0) for a, b in _PAIRS])
        lengths = (power[first_of] * power[second_of]).sqrt()
        parts.append(0.5 * torch.where(own, torch.log(products.clamp(min=0) + _LEAST_POWER), products / lengths))
    return torch.cat(parts).T


def _levels(volume: Float[Tensor, "b z y x"], plan: DescriptorLayout) -> list[Float[Tensor, "b z y x"]]:
    shape = tuple(volume.shape[1:])
    spectrum = torch.fft.rfftn(volume, dim=(1, 2, 3))
    levels = [volume]
    for kernel in plan.gaussians:
        z, y, x = (_linekernel_spectrum(kernel, edge, volume.device) for edge in shape)
        passed = z[:, None, None] * y[:, None] * x[: shape[2] // 2 + 1]
        levels.append(torch.fft.irfftn(spectrum * passed, s=shape, dim=(1, 2, 3)))
    return levels


def _linekernel_spectrum(kernel: NDArray[np.float64], edge: int, device: torch.device) -> Float[Tensor, " n"]:
    """Real, as the kernel is symmetric about voxel 0."""
    line = np.zeros(edge)
    line[: len(kernel)] = kernel
    found = np.fft.fft(np.roll(line, -(len(kernel) // 2))).real
    return torch.from_numpy(found.astype(np.float32)).to(device)


def _averaged(
    levels: list[Float[Tensor, "b z y x"]],
    averages: Callable[[Float[Tensor, "b z y x"], int], Float[Tensor, "_ p"]],
    waves: tuple[Float[Tensor, "s _ p"], ...],
) -> _Averages:
    bands = {(a, b): levels[a] - levels[b] for a, b in (*_BANDS, *_SKEWED)}
    squares = {pair: averages(band.square(), pair[1]) for pair, band in bands.items()}
    moments = tuple(
        (averages(bands[pair], pair[1]), squares[pair], averages(bands[pair] ** 3, pair[1])) for pair in _SKEWED
    )
    of_bands = tuple(squares[pair] for pair in _BANDS)
    return _Averages(averages(levels[_SMOOTH], _SMOOTH), of_bands, moments, waves)


def compute_grid_descriptors(volume: Float[Tensor, "b d d d"]) -> Float[Tensor, "b n"]:
    """Descriptors of boxes with mean 0 and variance 1, in float32, differentiable."""
    volume = volume.float()
    size, count = volume.shape[-1], len(volume)
    plan = descriptor_layout(size)
    levels = _levels(volume, plan)
    inside, weights = (torch.from_numpy(part).to(volume.device) for part in _shell_matrix(size))

    def averages(field: Float[Tensor, "b d d d"], level: int) -> Float[Tensor, "_ b"]:
        return (field.reshape(count, -1).index_select(1, inside) @ weights[:, : _SHELL_COUNTS[level]]).T

    edge = plan.harmonics.shape[-1] // 2
    coarse = size // 2 + plan.step * torch.arange(-edge, edge + 1, device=volume.device)
    looked_at = levels[_SMOOTH][:, coarse][:, :, coarse][:, :, :, coarse].reshape(count, -1)
    basis = torch.from_numpy(plan.harmonics).to(volume.device).reshape(-1, looked_at.shape[1])
    along = (basis @ looked_at.T).reshape(_SHELLS, -1, count)
    waves = tuple(along[:, degree**2 : (degree + 1) ** 2] for degree in range(_DEGREES))
    return _finished(_averaged(levels, averages, waves), volume.new_zeros(count), volume.new_ones(count), plan)


def compute_block_descriptors(block: Float[Tensor, "z y x"], box_size: int, stride: int) -> Float[Tensor, "i j k n"]:
    """Descriptors of all boxes in a block whose middles lie ``stride`` voxels apart, the first as near to its corner as
    `first_middle` says.

    The edges of the block are multiples of the stride, and that of `Layout.step`.
    """
    plan = descriptor_layout(box_size)
    shape = tuple(block.shape)
    if stride % plan.step or any(edge % stride for edge in shape):
        raise ValueError(
            f"stride is {stride} and the block {shape}, expected multiples of {plan.step} and of the stride"
        )
    first = first_center_voxel(box_size, stride)
    counts = tuple((edge - box_size + box_size // 2 - first) // stride + 1 for edge in shape)
    # Numbers near zero keep rounding of sums small.
    block = block.float() - block.mean()
    mean, deviation = _box_statistics(block, box_size, stride, counts)
    levels = _levels(block[None], plan)
    start = first // stride
    kept = tuple(slice(start, start + count) for count in counts)
    grid = tuple(edge // stride for edge in shape)
    shells = torch.from_numpy(_shell_spectra(box_size, shape, stride)).to(block.device)

    def averages(field: Float[Tensor, "1 z y x"], level: int) -> Float[Tensor, "_ p"]:
        spectrum = alias_spectrum(field[0], stride)
        return torch.stack(
            [strided_volume(fold_spectrum(spectrum, one), grid, kept) for one in shells[: _SHELL_COUNTS[level]]]
        )

    step = plan.step
    coarse = alias_spectrum(levels[_SMOOTH][0, ::step, ::step, ::step], stride // step)
    waves = []
    for degree in range(_DEGREES):
        basis = torch.from_numpy(_wave_spectra(box_size, shape, stride, degree)).to(block.device)
        # Harmonics of even degree have real spectra, those of odd degree imaginary ones.
        turned = coarse if degree % 2 == 0 else coarse * -1j
        found = torch.stack([strided_volume(fold_spectrum(turned, wave), grid, kept) for wave in basis])
        waves.append(found.reshape(_SHELLS, 2 * degree + 1, -1))
    described = _finished(_averaged(levels, averages, tuple(waves)), mean, deviation, plan)
    return described.reshape(*counts, -1)


def first_center_voxel(box_size: int, stride: int) -> int:
    """Voxel of a block, along each axis, about which the first box lies that `described_block` describes."""
    return -(-(box_size // 2) // stride) * stride


def _box_statistics(
    block: Float[Tensor, "z y x"], box_size: int, stride: int, counts: tuple[int, ...]
) -> tuple[Float[Tensor, " p"], Float[Tensor, " p"]]:
    """Mean and standard deviation of each box, from running sums in double precision."""
    start = first_center_voxel(box_size, stride) - box_size // 2
    sums = []
    for part in (block.double(), block.double().square()):
        for axis, count in enumerate(counts):
            running = functional.pad(part.movedim(axis, -1).cumsum(-1), (1, 0)).movedim(-1, axis)
            low = start + stride * torch.arange(count, device=block.device)
            part = running.index_select(axis, low + box_size) - running.index_select(axis, low)
        sums.append(part.flatten() / box_size**3)
    mean, square = sums
    return mean.float(), (square - mean.square()).clamp(min=1e-12).sqrt().float()


@lru_cache(maxsize=8)
def _shell_matrix(size: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Voxels of a box that any shell reaches, and their weights (voxels, shells)."""
    plan, middle = descriptor_layout(size), size // 2
    weights = np.zeros((len(plan.shells), size, size, size), dtype=np.float32)
    for k, row in enumerate(weights):
        reach = len(plan.shells[k]) // 2
        row[(slice(middle - reach, middle + reach + 1),) * 3] = plan.shells[k]
    flat = weights.reshape(len(weights), -1)
    inside = np.flatnonzero(flat.any(axis=0))
    return inside, np.ascontiguousarray(flat[:, inside].T)


@lru_cache(maxsize=2)
def _shell_spectra(size: int, shape: tuple[int, ...], stride: int) -> NDArray[np.float32]:
    """Of each shell, as `folded` takes them for blocks of this shape; real, for shells are symmetric."""
    return np.stack([kernel_spectrum(shell, shape, stride).real for shell in descriptor_layout(size).shells])


@lru_cache(maxsize=2 * _DEGREES)
def _wave_spectra(size: int, shape: tuple[int, ...], stride: int, degree: int) -> NDArray[np.float32]:
    """(shells * orders, ...) real parts, or of odd degrees imaginary ones, as `folded` takes them."""
    plan = descriptor_layout(size)
    kernels = plan.harmonics[:, degree**2 : (degree + 1) ** 2].reshape(-1, *plan.harmonics.shape[2:])
    coarse = tuple(edge // plan.step for edge in shape)
    spectra = (kernel_spectrum(kernel, coarse, stride // plan.step) for kernel in kernels)
    return np.stack([part.imag if degree % 2 else part.real for part in spectra])
