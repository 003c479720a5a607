"""Whitened spectra: Fourier coefficients of subtomograms on the grid of alignment, weighted by the noise."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Complex64, Float
from numpy.typing import NDArray
from torch import Tensor

from tomosift.physics.wedge import wedge_mask

GRID = 16
"""Edge of the grid of alignment in voxels."""

_AXES = (1, 2, 3)
_BATCH_SIZE = 64


@dataclass(frozen=True)
class WhitenedSpectra:
    """Whitened Fourier coefficients of b subtomograms on `GRID`, half of the sphere that they fill."""

    coefficient: Complex64[Tensor, "b f"]
    """Of unit mean power, zero where not measured."""
    measured: Float[Tensor, "b f"]
    """1 where the tilts measured a coefficient, else 0."""
    weight: Float[Tensor, " f"]
    """Factors of the whitening: the inverse root of the mean power in shells."""

    def __len__(self) -> int:
        return len(self.coefficient)

    def select(self, rows: Tensor) -> "WhitenedSpectra":
        """Return the spectra of these rows."""
        return WhitenedSpectra(self.coefficient[rows], self.measured[rows], self.weight)


@lru_cache(maxsize=1)
def half_sphere() -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Return which coefficients of the rfftn layout are kept, and the frequency (zyx, in 1 / edge) of each."""
    full, half = np.fft.fftfreq(GRID, 1 / GRID), np.arange(GRID // 2 + 1)
    z, y, x = np.meshgrid(full, full, half, indexing="ij")
    first_of_two = (x > 0) | (y > 0) | ((y == 0) & (z > 0))
    kept = first_of_two & (z**2 + y**2 + x**2 < (GRID // 2) ** 2)
    return kept, np.stack([z[kept], y[kept], x[kept]]).astype(np.float32)


COEFFICIENTS = int(half_sphere()[0].sum())
"""Number of coefficients of the half sphere, for each subtomogram."""


def soft_ball() -> Float[Tensor, "g g g"]:
    """Return a mask that is one within the sphere that fits the box, zero outside, with a soft edge."""
    axis = torch.arange(GRID) - GRID // 2
    radius = (axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2).sqrt()
    return torch.sigmoid(2 * (GRID // 2 - 1 - radius))


def _coefficients(small: Float[Tensor, "b g g g"]) -> Complex64[Tensor, "b f"]:
    """Fourier coefficients of the half sphere, with the phase origin at the center of the box."""
    kept = torch.from_numpy(half_sphere()[0])
    spectrum: Tensor = torch.fft.rfftn(torch.fft.ifftshift(small, dim=_AXES), dim=_AXES)
    return spectrum[:, kept]


def wedge_coefficients(tilt_range_deg: Float[Tensor, "b 2"]) -> Float[Tensor, "b f"]:
    """Return 1 for coefficients that the tilts of each subtomogram measured, and 0 for others."""
    ranges, index = torch.unique(tilt_range_deg, dim=0, return_inverse=True)
    return wedge_mask(GRID, ranges)[:, torch.from_numpy(half_sphere()[0])][index]


def whiten_spectra(
    small: Float[Tensor, "b g g g"], tilt_range_deg: Float[Tensor, "b 2"], weight: Float[Tensor, " f"] | None = None
) -> WhitenedSpectra:
    """Compute the whitened spectra of subtomograms.

    Parameters
    ----------
    small
        Recentered subtomograms on the grid of alignment.
    tilt_range_deg
        Lowest and highest tilt angle of each.
    weight
        Factors of the whitening; None computes them from the mean power in shells, which is mostly noise.
    """
    ball = soft_ball()
    coefficient = torch.cat([_coefficients(part * ball) for part in torch.split(small, _BATCH_SIZE)])
    measured = wedge_coefficients(tilt_range_deg)
    weight = _whitening_weight(coefficient, measured) if weight is None else weight
    return WhitenedSpectra(coefficient * weight * measured, measured, weight)


def _whitening_weight(coefficient: Complex64[Tensor, "b f"], measured: Float[Tensor, "b f"]) -> Float[Tensor, " f"]:
    """Inverse root of the mean power of measured coefficients, in shells."""
    shell = torch.from_numpy(np.linalg.norm(half_sphere()[1], axis=0).round().astype(np.int64))
    zero = torch.zeros(GRID)
    power = zero.index_add(0, shell, (coefficient.abs().square() * measured).sum(0))
    count = zero.index_add(0, shell, measured.sum(0))
    return (count.clamp(min=1) / power.clamp(min=1e-20)).sqrt()[shell]
