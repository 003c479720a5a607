"""Descriptors made of correlations, computed at every grid point of a tomogram at once.

Those of `tomosift.models.descriptors.radial` multiply a box by a sphere or a window before filtering, and have to be
computed box by box. Here a volume is filtered first and averaged over shells afterwards. Filters and shells are so
small that together they never reach beyond the box, so that voxels outside do not matter. A Fourier transform of a
block then gives the descriptors of all boxes in it. With known centers they classify as well (`experiments/LOG.md`).

There are four groups of descriptors, all of a box of zero mean and unit variance: averages of the smoothed box over
shells about the center; half the logarithm of the mean square of four bands of spatial frequency in these shells; the
skewness of three smoother bands in them; and, per degree, the power of spherical harmonics on shells and its
correlation between neighboring shells, of the smoothed box at every ``step``-th voxel.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from tomosift.models.descriptors.grid_layout import (
    DEGREES,
    HARMONIC_SHELLS,
    SHELL_COUNTS,
    SMOOTH_LEVEL,
    DescriptorLayout,
    descriptor_layout,
    harmonic_spectra,
    shell_matrix,
    shell_spectra,
)
from tomosift.models.descriptors.strided_correlation import alias_spectrum, fold_spectrum, strided_volume

_BANDS = ((0, 1), (1, 2), (2, 3), (3, 4))  # a band is the difference of two levels
_SKEWED = ((1, 3), (2, 4), (2, 3))
_PAIRS = [(a, b) for a in range(HARMONIC_SHELLS) for b in range(a, min(a + 3, HARMONIC_SHELLS))]
GRID_DESCRIPTOR_SIZE = (
    SHELL_COUNTS[SMOOTH_LEVEL] + sum(SHELL_COUNTS[b] for _, b in (*_BANDS, *_SKEWED)) + len(_PAIRS) * DEGREES
)
"""Number of descriptors of a subtomogram."""
_MIN_BAND, _MIN_VARIANCE, _MIN_POWER = 1e-3, 0.02, 0.1  # floors, in units of the noise of a normalized box


@dataclass(frozen=True, eq=False)
class _Averages:
    """Averages before normalization; ``p`` stands for boxes or for grid points."""

    smooth: Float[Tensor, "_ p"]
    squares: tuple[Float[Tensor, "_ p"], ...]
    """Of each band."""
    moments: tuple[tuple[Float[Tensor, "_ p"], ...], ...]
    """First to third, of each band of `_SKEWED`."""
    waves: tuple[Float[Tensor, "s _ p"], ...]
    """Coefficients of shells and orders, per degree."""


def _normalize_descriptors(
    averages: _Averages, mean: Float[Tensor, " p"], deviation: Float[Tensor, " p"], layout: DescriptorLayout
) -> Float[Tensor, "p _"]:
    """Compute descriptors from averages of boxes of this mean and standard deviation.

    Bands do not depend on the mean, since their filters sum to zero.
    """
    gaussian = torch.from_numpy(layout.gaussians[SMOOTH_LEVEL - 1])
    gain = float(gaussian.square().sum() ** -1.5)  # gives smoothed white noise a variance of 1
    scale = gain / deviation
    parts = [(averages.smooth - mean) * scale]
    parts += [0.5 * torch.log(square / deviation**2 + _MIN_BAND) for square in averages.squares]
    for first, second, third in averages.moments:
        one, two, three = first / deviation, second / deviation**2, third / deviation**3
        variance = (two - one.square()).clamp(min=0) + _MIN_VARIANCE
        parts.append((three - 3 * one * two + 2 * one**3) / variance**1.5)
    first_of, second_of = (list(part) for part in zip(*_PAIRS, strict=True))
    is_same = torch.tensor([[a == b] for a, b in _PAIRS], device=mean.device)
    sums = torch.from_numpy(layout.harmonics.sum(axis=(2, 3, 4))).to(mean.device)
    for degree, wave in enumerate(averages.waves):
        offset = sums[:, degree**2 : (degree + 1) ** 2, None] * mean
        coefficients = (wave - offset) * scale
        power = coefficients.square().mean(1) + _MIN_POWER
        products = torch.stack([(coefficients[a] * coefficients[b]).mean(0) for a, b in _PAIRS])
        lengths = (power[first_of] * power[second_of]).sqrt()
        parts.append(0.5 * torch.where(is_same, torch.log(products.clamp(min=0) + _MIN_POWER), products / lengths))
    return torch.cat(parts).T


def _filter_levels(volume: Float[Tensor, "b z y x"], layout: DescriptorLayout) -> list[Float[Tensor, "b z y x"]]:
    """The volume and its versions filtered by each Gaussian."""
    shape = tuple(volume.shape[1:])
    spectrum = torch.fft.rfftn(volume, dim=(1, 2, 3))
    levels = [volume]
    for kernel in layout.gaussians:
        z, y, x = (_line_spectrum(kernel, edge, volume.device) for edge in shape)
        transfer = z[:, None, None] * y[:, None] * x[: shape[2] // 2 + 1]
        levels.append(torch.fft.irfftn(spectrum * transfer, s=shape, dim=(1, 2, 3)))
    return levels


def _line_spectrum(kernel: NDArray[np.float64], edge: int, device: torch.device) -> Float[Tensor, " n"]:
    """Spectrum of a kernel about voxel 0 of a line; real, as the kernel is symmetric."""
    line = np.zeros(edge)
    line[: len(kernel)] = kernel
    spectrum = np.fft.fft(np.roll(line, -(len(kernel) // 2))).real
    return torch.from_numpy(spectrum.astype(np.float32)).to(device)


def _compute_averages(
    levels: list[Float[Tensor, "b z y x"]],
    average: Callable[[Float[Tensor, "b z y x"], int], Float[Tensor, "_ p"]],
    waves: tuple[Float[Tensor, "s _ p"], ...],
) -> _Averages:
    """Average the levels and their bands over shells by a function of a field and its level."""
    bands = {(a, b): levels[a] - levels[b] for a, b in (*_BANDS, *_SKEWED)}
    squares = {pair: average(band.square(), pair[1]) for pair, band in bands.items()}
    moments = tuple(
        (average(bands[pair], pair[1]), squares[pair], average(bands[pair] ** 3, pair[1])) for pair in _SKEWED
    )
    of_bands = tuple(squares[pair] for pair in _BANDS)
    return _Averages(average(levels[SMOOTH_LEVEL], SMOOTH_LEVEL), of_bands, moments, waves)


def compute_grid_descriptors(volume: Float[Tensor, "b d d d"]) -> Float[Tensor, "b n"]:
    """Compute the descriptors of subtomograms, in float32, differentiably.

    Parameters
    ----------
    volume
        Of zero mean and unit variance, particles in the center.

    Returns
    -------
    Tensor
        (b, GRID_DESCRIPTOR_SIZE).

    Examples
    --------
    >>> import torch
    >>> compute_grid_descriptors(torch.randn(2, 16, 16, 16)).shape == (2, GRID_DESCRIPTOR_SIZE)
    True
    """
    volume = volume.float()
    size, count = volume.shape[-1], len(volume)
    layout = descriptor_layout(size)
    levels = _filter_levels(volume, layout)
    inside, weights = (torch.from_numpy(part).to(volume.device) for part in shell_matrix(size))

    def average(field: Float[Tensor, "b d d d"], level: int) -> Float[Tensor, "_ b"]:
        return (field.reshape(count, -1).index_select(1, inside) @ weights[:, : SHELL_COUNTS[level]]).T

    edge = layout.harmonics.shape[-1] // 2
    coarse = size // 2 + layout.step * torch.arange(-edge, edge + 1, device=volume.device)
    smooth = levels[SMOOTH_LEVEL][:, coarse][:, :, coarse][:, :, :, coarse].reshape(count, -1)
    basis = torch.from_numpy(layout.harmonics).to(volume.device).reshape(-1, smooth.shape[1])
    coefficients = (basis @ smooth.T).reshape(HARMONIC_SHELLS, -1, count)
    waves = tuple(coefficients[:, degree**2 : (degree + 1) ** 2] for degree in range(DEGREES))
    averages = _compute_averages(levels, average, waves)
    return _normalize_descriptors(averages, volume.new_zeros(count), volume.new_ones(count), layout)


def compute_block_descriptors(block: Float[Tensor, "z y x"], box_size: int, stride: int) -> Float[Tensor, "i j k n"]:
    """Compute the descriptors of all boxes in a block whose centers lie on a grid.

    Parameters
    ----------
    block
        Part of a tomogram; its edges are multiples of the stride.
    box_size
        Edge of the boxes in voxels.
    stride
        Distance of grid points in voxels, a multiple of `DescriptorLayout.step`. The first lies at `first_center_voxel`
        along each axis.

    Returns
    -------
    Tensor
        (i, j, k, GRID_DESCRIPTOR_SIZE) at grid points i, j, k along z, y, x.

    Raises
    ------
    ValueError
        The stride or an edge of the block is no such multiple.
    """
    layout = descriptor_layout(box_size)
    shape = tuple(block.shape)
    if stride % layout.step or any(edge % stride for edge in shape):
        raise ValueError(
            f"stride is {stride} and the block {shape}, expected multiples of {layout.step} and of the stride"
        )
    first = first_center_voxel(box_size, stride)
    counts = tuple((edge - box_size + box_size // 2 - first) // stride + 1 for edge in shape)
    # Values near zero keep the rounding errors of sums small.
    block = block.float() - block.mean()
    mean, deviation = _box_statistics(block, box_size, stride, counts)
    levels = _filter_levels(block[None], layout)
    start = first // stride
    kept = tuple(slice(start, start + count) for count in counts)
    grid = tuple(edge // stride for edge in shape)
    shells = torch.from_numpy(shell_spectra(box_size, shape, stride)).to(block.device)

    def correlate(spectrum: Tensor, weights: Tensor) -> Tensor:
        return torch.stack([strided_volume(fold_spectrum(spectrum, one), grid, kept) for one in weights])

    def average(field: Float[Tensor, "1 z y x"], level: int) -> Float[Tensor, "_ p"]:
        return correlate(alias_spectrum(field[0], stride), shells[: SHELL_COUNTS[level]])

    step = layout.step
    coarse = alias_spectrum(levels[SMOOTH_LEVEL][0, ::step, ::step, ::step], stride // step)
    waves = []
    for degree in range(DEGREES):
        basis = torch.from_numpy(harmonic_spectra(box_size, shape, stride, degree)).to(block.device)
        # Harmonics of even degree have real spectra, those of odd degree imaginary ones.
        coefficients = correlate(coarse if degree % 2 == 0 else coarse * -1j, basis)
        waves.append(coefficients.reshape(HARMONIC_SHELLS, 2 * degree + 1, -1))
    averages = _compute_averages(levels, average, tuple(waves))
    return _normalize_descriptors(averages, mean, deviation, layout).reshape(*counts, -1)


def first_center_voxel(box_size: int, stride: int) -> int:
    """Return the center voxel, along each axis, of the first box that `compute_block_descriptors` describes."""
    return -(-(box_size // 2) // stride) * stride


def _box_statistics(
    block: Float[Tensor, "z y x"], box_size: int, stride: int, counts: tuple[int, ...]
) -> tuple[Float[Tensor, " p"], Float[Tensor, " p"]]:
    """Mean and standard deviation of each box, from cumulative sums in double precision."""
    start = first_center_voxel(box_size, stride) - box_size // 2
    sums = []
    for part in (block.double(), block.double().square()):
        for axis, count in enumerate(counts):
            cumulative = functional.pad(part.movedim(axis, -1).cumsum(-1), (1, 0)).movedim(-1, axis)
            low = start + stride * torch.arange(count, device=block.device)
            part = cumulative.index_select(axis, low + box_size) - cumulative.index_select(axis, low)
        sums.append(part.flatten() / box_size**3)
    mean, square = sums
    return mean.float(), (square - mean.square()).clamp(min=1e-12).sqrt().float()
