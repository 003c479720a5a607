"""Rotation-invariant descriptors of a recentered subtomogram: how density is distributed over radius and frequency.

A voxel of a single subtomogram is mostly noise, and an average over a whole shell is mostly signal. The descriptors do
not change when the particle rotates about its center, apart from the missing wedge. They cost a few Fourier transforms.
They are the same for any box size, because radii are in units of the box edge.
"""

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.special import sph_harm_y
from torch import Tensor

SHELLS = 12
"""Shells from the center to the edge of the box, and from zero to the Nyquist frequency."""
BLURS = (1 / 24, 1 / 12)
"""Standard deviations of the Gaussian blurs before density is averaged, in box edges."""
WINDOW = 0.2
"""Standard deviation of the Gaussian window under which the power spectrum is computed, in box edges."""
HARMONIC_SHELLS = 7
"""Shells on which density is expanded in spherical harmonics, spaced by a sixteenth of the box edge."""
HIGHEST_DEGREE = 6
"""Highest degree of those harmonics: 2 separates long from round, 6 a ring of six from a ring of seven."""
_PAIRS = [(a, b) for a in range(HARMONIC_SHELLS) for b in range(a, min(a + 3, HARMONIC_SHELLS))]
RADIAL_DESCRIPTOR_SIZE = SHELLS * (3 * len(BLURS) + 1) + len(_PAIRS) * (HIGHEST_DEGREE + 1)
"""Number of descriptors of a subtomogram."""
_REFERENCE_SIZE = 24  # box edge at which a basis function has unit norm; only sets the scale of the power
_MIN_POWER = 0.05  # a few percent of the power of noise
_MIN_VARIANCE = 0.1  # added to that of a shell; without it the skewness of a flat shell is a rounding error
_FLOOR = 1e-3  # added to powers before their logarithm: about a thousandth of the noise of a normalized box


def _shell_weights(radius: NDArray[np.float64], weight: NDArray[np.float64]) -> NDArray[np.float32]:
    """Weights (voxels, SHELLS) of averages over overlapping shells; ``radius`` is 1 at the box edge.

    Triangular in radius and at least a voxel wide, so that no shell of a small box is empty.
    """
    centers = np.arange(SHELLS) / SHELLS
    spacing = max(1 / SHELLS, 2 / len(radius))
    weights = np.clip(1 - np.abs(radius.reshape(-1, 1) - centers) / spacing, 0, None) * weight.reshape(-1, 1)
    return np.asarray(weights / weights.sum(axis=0), dtype=np.float32)


@lru_cache(maxsize=16)
def _geometry(size: int) -> tuple[NDArray[np.float32], ...]:
    """Shell weights in real space and in Fourier space, the blurs and the window, for boxes of this size."""
    full, half = np.fft.fftfreq(size), np.fft.rfftfreq(size)
    squared = full[:, None, None] ** 2 + full[:, None] ** 2 + half**2
    multiplicity = np.broadcast_to(np.where((half == 0) | (half == 0.5), 1.0, 2.0), squared.shape)
    offset = np.arange(size, dtype=np.float64) - size // 2
    radius = np.sqrt(offset[:, None, None] ** 2 + offset[:, None] ** 2 + offset**2) / (size / 2)
    blurs = np.stack([np.exp(-2 * np.pi**2 * (share * size) ** 2 * squared) for share in BLURS])
    window = np.exp(-(radius**2) / 2 / (2 * WINDOW) ** 2)
    return (
        _shell_weights(radius, np.ones_like(radius)),
        _shell_weights(2 * np.sqrt(squared), multiplicity),
        blurs.astype(np.float32),
        window.astype(np.float32),
    )


@lru_cache(maxsize=16)
def _harmonics(size: int) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
    """Voxels within any shell, a basis (voxels, HARMONIC_SHELLS * orders) there, and averages (orders, degrees).

    The basis functions are real harmonics times shells. All orders of a degree have one norm, so that a rotation keeps
    their total power. The norm is such that a particle has the same power in boxes of any size.
    """
    axis = np.arange(size) - size // 2
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    radius = np.sqrt(z**2 + y**2 + x**2) + 1e-9
    polar, azimuth = np.arccos(np.clip(z / radius, -1, 1)), np.arctan2(y, x)
    width = size / 16
    shells = [np.clip(1 - np.abs(radius - width * (k + 1)) / max(width, 1), 0, None) for k in range(HARMONIC_SHELLS)]
    bases = []
    for degree in range(HIGHEST_DEGREE + 1):
        waves = [sph_harm_y(degree, m, polar, azimuth) for m in range(degree + 1)]
        real = [waves[0].real, *(np.sqrt(2) * part for wave in waves[1:] for part in (wave.real, wave.imag))]
        basis = np.stack([[(shell * part).ravel() for part in real] for shell in shells])
        norm = np.sqrt(np.square(basis).sum(axis=2).mean(axis=1))
        scaled = basis * ((_REFERENCE_SIZE / size) ** 1.5 / norm[:, None, None])
        bases.append(scaled.astype(np.float32))
    stacked = np.concatenate(bases, axis=1).reshape(-1, size**3).T
    inside = np.flatnonzero(np.abs(stacked).max(axis=1))
    degree_of = np.repeat(np.arange(HIGHEST_DEGREE + 1), 2 * np.arange(HIGHEST_DEGREE + 1) + 1)
    members = np.eye(HIGHEST_DEGREE + 1, dtype=np.float32)[degree_of]
    return inside, np.ascontiguousarray(stacked[inside]), members / members.sum(axis=0)


def _angular_descriptors(smooth: Float[Tensor, "b v"], size: int) -> Float[Tensor, "b n"]:
    """Log power of each shell and correlation of neighboring shells, per degree; rotations change neither."""
    inside, basis, members = (torch.from_numpy(part).to(smooth.device) for part in _harmonics(size))
    first, second = (list(part) for part in zip(*_PAIRS, strict=True))
    # One product for all degrees: many thin ones would take four times as long.
    coefficients = (smooth.index_select(1, inside) @ basis).reshape(len(smooth), HARMONIC_SHELLS, -1)
    products = (coefficients[:, first] * coefficients[:, second]) @ members
    power = coefficients.square() @ members + _MIN_POWER
    # The floor keeps rounding errors of shells without power from correlating.
    lengths = (power[:, first] * power[:, second]).sqrt()
    is_same = torch.tensor([[a == b] for a, b in _PAIRS], device=smooth.device)
    return 0.5 * torch.where(is_same, torch.log(products.clamp(min=0) + _MIN_POWER), products / lengths).flatten(1)


def compute_radial_descriptors(volume: Float[Tensor, "b d d d"]) -> Float[Tensor, "b n"]:
    """Compute the rotation-invariant descriptors of subtomograms, in float32, differentiably.

    Parameters
    ----------
    volume
        Recentered subtomograms of zero mean and unit variance.

    Returns
    -------
    Tensor
        (b, RADIAL_DESCRIPTOR_SIZE), in this order: under the first blur, the angular power per degree and shell and its
        correlation between neighboring shells; per blur, the mean and the standard deviation in each shell of the
        blurred and normalized volume; half the logarithm of the power in each shell of Fourier space, under a Gaussian
        window about the center; per blur, the skewness in each shell.

    Notes
    -----
    Source: Kazhdan, Funkhouser & Rusinkiewicz 2003, "Rotation invariant spherical harmonic representation of 3D shape
    descriptors", for the angular power; correlations between shells, scales and all constants are ours.

    Examples
    --------
    >>> import torch
    >>> compute_radial_descriptors(torch.randn(2, 16, 16, 16)).shape
    torch.Size([2, 210])
    """
    volume = volume.float()
    size, count = volume.shape[-1], len(volume)
    # From numpy each time: a tensor made in inference mode and kept could not be used for training afterwards.
    in_space, in_fourier, blurs, window = (torch.from_numpy(part).to(volume.device) for part in _geometry(size))
    spectrum = torch.fft.rfftn(volume, dim=(1, 2, 3))
    parts: list[Tensor] = []
    skewness: list[Tensor] = []
    for blur in blurs:
        smooth = torch.fft.irfftn(spectrum * blur, s=(size, size, size), dim=(1, 2, 3)).reshape(count, -1)
        smooth = smooth - smooth.mean(1, keepdim=True)
        smooth = smooth / smooth.square().mean(1, keepdim=True).clamp(min=1e-12).sqrt()
        mean = smooth @ in_space
        squared = smooth.square()
        second, third = squared @ in_space, (squared * smooth) @ in_space
        # The floor keeps the gradient of the root finite where a shell is flat.
        variance = (second - mean.square()).clamp(min=1e-4)
        if not parts:
            parts.append(_angular_descriptors(smooth, size))
        parts += [mean, variance.sqrt()]
        skewness.append((third - 3 * mean * second + 2 * mean**3) / (variance + _MIN_VARIANCE) ** 1.5)
    windowed = torch.fft.rfftn(volume * window, dim=(1, 2, 3))
    power = (windowed.real.square() + windowed.imag.square()).reshape(count, -1) @ in_fourier
    # Divided by the window's own energy, white noise has power 1 whatever the box size.
    parts.append(0.5 * torch.log(power / window.square().sum() + _FLOOR))
    return torch.cat(parts + skewness, dim=1)
