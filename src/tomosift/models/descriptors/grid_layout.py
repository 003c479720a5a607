"""Filters, shells and harmonics of the descriptors of `tomosift.models.descriptors.grid` for one box size."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import sph_harm_y

from tomosift.models.descriptors.strided_correlation import kernel_spectrum

_WIDTHS = (0.025, 0.0416, 0.069, 0.125)  # standard deviations of the Gaussians between bands, in box edges
_CUT = 2.25  # Gaussians are cut off at this number of standard deviations
_SPACING = 0.044  # of shells, in box edges
SHELL_COUNTS = {1: 9, 2: 8, 3: 7, 4: 4}
"""Shells over which each level can be averaged without reaching beyond the box."""
SMOOTH_LEVEL = 2
"""Level of averages and harmonics; level 0 is the volume, the others are filtered by Gaussians."""
HARMONIC_SHELLS, DEGREES = 6, 7
"""Shells and degrees of the spherical harmonics."""


@dataclass(frozen=True, eq=False)
class DescriptorLayout:
    """Filters, shells and harmonics for one box size."""

    size: int
    step: int
    """Distance of the voxels at which harmonics are computed; the stride of a grid is a multiple of it."""
    gaussians: tuple[NDArray[np.float64], ...]
    """One-dimensional kernels of levels 1 and higher."""
    shells: tuple[NDArray[np.float64], ...]
    """Weights of averages over shells, each a cube of odd edge, from the center outwards."""
    harmonics: NDArray[np.float32]
    """(HARMONIC_SHELLS, 49, e, e, e) harmonics times shells on every ``step``-th voxel."""


@lru_cache(maxsize=8)
def descriptor_layout(size: int) -> DescriptorLayout:
    """Return the layout for boxes of this size."""
    gaussians = []
    for width in _WIDTHS:
        reach = math.floor(_CUT * width * size + 0.5)
        kernel = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * (width * size) ** 2))
        gaussians.append(kernel / kernel.sum())
    spacing = _SPACING * size
    shells = []
    for k in range(SHELL_COUNTS[1]):
        axis = np.arange(-math.ceil(spacing * (k + 1)) + 1, math.ceil(spacing * (k + 1)))
        radius = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)
        weight = np.clip(1 - np.abs(radius - spacing * k) / spacing, 0, None)
        shells.append(weight / weight.sum())
    step = max(1, round(size / 16))
    return DescriptorLayout(
        size, step, tuple(gaussians), tuple(shells), _harmonics(size, step, len(gaussians[SMOOTH_LEVEL - 1]) // 2)
    )


def _harmonics(size: int, step: int, reach: int) -> NDArray[np.float32]:
    """Harmonics times shells that, with a filter of this reach, stay within the box."""
    edge = (size // 2 - 1 - reach) // step
    axis = step * np.arange(-edge, edge + 1)
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    radius = np.sqrt(z**2 + y**2 + x**2)
    polar = np.arccos(np.clip(z / np.maximum(radius, 1e-9), -1, 1))
    azimuth = np.arctan2(y, x)
    width = (size // 2 - 1 - reach) / HARMONIC_SHELLS
    shells = [np.clip(1 - np.abs(radius - width * (k + 1)) / max(width, step), 0, None) for k in range(HARMONIC_SHELLS)]
    bases = []
    for degree in range(DEGREES):
        waves = [sph_harm_y(degree, m, polar, azimuth) for m in range(degree + 1)]
        real = [waves[0].real, *(np.sqrt(2) * part for wave in waves[1:] for part in (wave.real, wave.imag))]
        basis = np.stack([[shell * part for part in real] for shell in shells])
        if degree:
            basis[..., edge, edge, edge] = 0  # the center has no direction
        # All orders of a degree have one norm, so that a rotation keeps their total power.
        norm = np.sqrt(np.square(basis).sum(axis=(2, 3, 4)).mean(axis=1))
        bases.append(basis / norm[:, None, None, None, None])
    return np.concatenate(bases, axis=1).astype(np.float32)


@lru_cache(maxsize=8)
def shell_matrix(size: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Voxels of a box within any shell, and their weights (voxels, shells)."""
    layout, center = descriptor_layout(size), size // 2
    weights = np.zeros((len(layout.shells), size, size, size), dtype=np.float32)
    for k, row in enumerate(weights):
        reach = len(layout.shells[k]) // 2
        row[(slice(center - reach, center + reach + 1),) * 3] = layout.shells[k]
    flat = weights.reshape(len(weights), -1)
    inside = np.flatnonzero(flat.any(axis=0))
    return inside, np.ascontiguousarray(flat[:, inside].T)


@lru_cache(maxsize=2)
def shell_spectra(size: int, shape: tuple[int, ...], stride: int) -> NDArray[np.float32]:
    """Spectra of the shells for `fold_spectrum` and blocks of this shape; real, since shells are symmetric."""
    return np.stack([kernel_spectrum(shell, shape, stride).real for shell in descriptor_layout(size).shells])


@lru_cache(maxsize=2 * DEGREES)
def harmonic_spectra(size: int, shape: tuple[int, ...], stride: int, degree: int) -> NDArray[np.float32]:
    """Spectra (shells * orders, ...) of a degree for `fold_spectrum`: real parts, imaginary ones of odd degrees."""
    layout = descriptor_layout(size)
    kernels = layout.harmonics[:, degree**2 : (degree + 1) ** 2].reshape(-1, *layout.harmonics.shape[2:])
    coarse = tuple(edge // layout.step for edge in shape)
    spectra = (kernel_spectrum(kernel, coarse, stride // layout.step) for kernel in kernels)
    return np.stack([part.imag if degree % 2 else part.real for part in spectra])
