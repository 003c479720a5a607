"""Pose search: the most probable rotations and shifts of a reference in noisy subtomograms, as matrix products.

Subtomograms of any size are compared on a grid of `GRID` voxels, which suffices at low SNR, and only at frequencies
that their tilts measured. A reference in many rotations is one matrix of Fourier coefficients, subtomograms under one
shift are another, and their product holds all correlations.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Complex64, Float, Int64
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from tomosift.physics.rotation import rotate
from tomosift.physics.wedge import wedge_mask

GRID = 16
"""Edge of the grid of alignment in voxels."""
MAX_POSES = 8
"""Poses of each subtomogram that are kept, the most probable first; the posterior of further ones is negligible."""

_AXES = (1, 2, 3)
_NEAR_SHIFTS = torch.cat([torch.zeros(1, 3), torch.eye(3), -torch.eye(3)])
_CUBE = torch.cartesian_prod(*[torch.arange(-1.0, 2.0)] * 3)
_FAR_SHIFTS = torch.cat([_CUBE[_CUBE.abs().sum(1) > 1], 2 * torch.eye(3), -2 * torch.eye(3)])
"""Shifts (zyx) in voxels of `GRID`; well recentered particles need the near ones only."""
_BEST_ROTATIONS = 64
_BATCH_SIZE = 64  # subtomograms whose correlations with all rotations are in memory at a time
_MIN_POSTERIOR = 0.05  # of a pose, to take part in an average
_REGULARIZATION = 0.05  # weight of zero, as a share of the subtomograms, for coefficients that few of them measured


@dataclass(frozen=True)
class Poses:
    """The most probable poses of a reference in each of b subtomograms."""

    rotation: Float[Tensor, "b p 3 3"]
    """Takes the reference into the subtomogram (zyx column vectors)."""
    shift_zyx_grid_voxels: Float[Tensor, "b p 3"]
    """Shift of the reference from the center of the box, in voxels of `GRID`."""
    posterior: Float[Tensor, "b p"]
    """Probability of each among those that are kept."""
    log_likelihood: Float[Tensor, " b"]
    """Log likelihood ratio of the reference in any pose, and of any strength, to noise alone."""

    def unbind(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Iterate over the p poses of all subtomograms: rotations, shifts and posterior."""
        fields = (self.rotation, self.shift_zyx_grid_voxels, self.posterior)
        return zip(*(each.unbind(1) for each in fields), strict=True)


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
def _geometry() -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Which coefficients of the rfftn layout are kept, and the frequency (zyx, in 1 / edge) of each."""
    full, half = np.fft.fftfreq(GRID, 1 / GRID), np.arange(GRID // 2 + 1)
    z, y, x = np.meshgrid(full, full, half, indexing="ij")
    first_of_two = (x > 0) | (y > 0) | ((y == 0) & (z > 0))
    kept = first_of_two & (z**2 + y**2 + x**2 < (GRID // 2) ** 2)
    return kept, np.stack([z[kept], y[kept], x[kept]]).astype(np.float32)


COEFFICIENTS = int(_geometry()[0].sum())
"""Number of coefficients of the half sphere, for each subtomogram."""


def _soft_ball() -> Float[Tensor, "g g g"]:
    """One within the sphere that fits the box, zero outside, with a soft edge."""
    axis = torch.arange(GRID) - GRID // 2
    radius = (axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2).sqrt()
    return torch.sigmoid(2 * (GRID // 2 - 1 - radius))


def _coefficients(small: Float[Tensor, "b g g g"]) -> Complex64[Tensor, "b f"]:
    """Fourier coefficients of the half sphere, with the phase origin at the center of the box."""
    kept = torch.from_numpy(_geometry()[0])
    spectrum: Tensor = torch.fft.rfftn(torch.fft.ifftshift(small, dim=_AXES), dim=_AXES)
    return spectrum[:, kept]


def _rotate_reference(
    reference: Float[Tensor, "g g g"], rotations: Float[Tensor, "r 3 3"], frequency_zyx: Float[Tensor, "3 f"]
) -> Complex64[Tensor, "r f"]:
    """Fourier coefficients of a reference in many rotations, interpolated in the spectrum of a padded reference.

    Trilinear interpolation on twice the box; its attenuation toward the border of the box is corrected beforehand.
    """
    padded_size, margin = 2 * GRID, GRID // 2
    attenuation = torch.sinc((torch.arange(GRID) - GRID // 2) / padded_size).square()
    corrected = reference / (attenuation[:, None, None] * attenuation[:, None] * attenuation)
    padded = torch.fft.ifftshift(functional.pad(corrected, (margin,) * 6), dim=(0, 1, 2))
    spectrum = torch.fft.fftshift(torch.fft.fftn(padded), dim=(0, 1, 2))
    # One more plane on each axis, which repeats the first.
    parts = functional.pad(torch.view_as_real(spectrum).permute(3, 0, 1, 2)[None], (0, 1) * 3, mode="circular")
    # The spectrum of a reference rotated by R at k is that of the reference at R^T k; frequency 1 is two voxels there.
    position = frequency_zyx.T @ rotations
    grid = (position.flip(-1) * (2 / GRID))[None, :, :, None]
    values = functional.grid_sample(parts, grid, align_corners=True)[0, ..., 0]
    return torch.complex(values[0], values[1])


def wedge_coefficients(tilt_range_deg: Float[Tensor, "b 2"]) -> Float[Tensor, "b f"]:
    """Return 1 for coefficients that the tilts of each subtomogram measured, and 0 for others."""
    ranges, index = torch.unique(tilt_range_deg, dim=0, return_inverse=True)
    return wedge_mask(GRID, ranges)[:, torch.from_numpy(_geometry()[0])][index]


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
    ball = _soft_ball()
    coefficient = torch.cat([_coefficients(part * ball) for part in torch.split(small, _BATCH_SIZE)])
    measured = wedge_coefficients(tilt_range_deg)
    weight = _whitening_weight(coefficient, measured) if weight is None else weight
    return WhitenedSpectra(coefficient * weight * measured, measured, weight)


def _whitening_weight(coefficient: Complex64[Tensor, "b f"], measured: Float[Tensor, "b f"]) -> Float[Tensor, " f"]:
    """Inverse root of the mean power of measured coefficients, in shells."""
    shell = torch.from_numpy(np.linalg.norm(_geometry()[1], axis=0).round().astype(np.int64))
    zero = torch.zeros(GRID)
    power = zero.index_add(0, shell, (coefficient.abs().square() * measured).sum(0))
    count = zero.index_add(0, shell, measured.sum(0))
    return (count.clamp(min=1) / power.clamp(min=1e-20)).sqrt()[shell]


def search_poses(
    reference: Float[Tensor, "g g g"],
    spectra: WhitenedSpectra,
    rotations: Float[Tensor, "r 3 3"],
    cutoff: float = GRID / 2,
) -> Poses:
    """Find the most probable poses of a reference in each subtomogram.

    All rotations are tried with no shift and with shifts by one voxel along each axis; the `_BEST_ROTATIONS` best of
    them with further shifts. The noise is Gaussian and white after whitening, and the strength of the reference in each
    subtomogram is free. The log likelihood of a pose is then the square of its normalized correlation, if positive.

    Parameters
    ----------
    reference
        Density on the grid of alignment.
    spectra
        Of b recentered subtomograms.
    rotations
        Rotations to try; they take the reference into the subtomogram (zyx column vectors).
    cutoff
        Highest frequency that is compared, in 1 / edge.

    Returns
    -------
    Poses
        The `MAX_POSES` best of each subtomogram. Their posterior is over these.

    Notes
    -----
    Source: constrained cross-correlation after Förster et al. 2008, "Classification of cryo-electron sub-tomograms
    using constrained correlation"; probabilities of poses after Scheres et al. 2009, "Averaging of electron
    subtomograms and random conical tilt reconstructions through likelihood optimization", Structure 17.
    """
    frequency = torch.from_numpy(_geometry()[1])
    is_compared = frequency.square().sum(0) < cutoff**2
    rotated = _rotate_reference(reference * _soft_ball(), rotations, frequency[:, is_compared])
    rotated = rotated * spectra.weight[is_compared]
    shifts = torch.cat([_NEAR_SHIFTS, _FAR_SHIFTS])
    search = _PoseSearch(
        torch.view_as_real(rotated).flatten(1),
        rotated.abs().square().T,
        torch.exp(2j * math.pi / GRID * (shifts @ frequency[:, is_compared])),
    )
    parts = zip(*(torch.split(each, _BATCH_SIZE) for each in (spectra.coefficient, spectra.measured)), strict=True)
    # Selecting columns copies, and most of the time all of them are selected.
    results = [
        search.find_best(*part if is_compared.all() else (each[:, is_compared] for each in part)) for part in parts
    ]
    likelihood, rotation, shift, total = (torch.cat(part) for part in zip(*results, strict=True))
    return Poses(rotations[rotation], shifts[shift], torch.softmax(likelihood, 1), total)


@dataclass(frozen=True)
class _PoseSearch:
    """A reference in all rotations, prepared for comparison with subtomograms."""

    references: Float[Tensor, "r g"]
    """Real and imaginary parts in turn."""
    power: Float[Tensor, "f r"]
    shift_factors: Complex64[Tensor, "t f"]
    """Factors that undo each shift of a subtomogram."""

    def find_best(
        self, coefficient: Complex64[Tensor, "b f"], measured: Float[Tensor, "b f"]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Log likelihood, rotation and shift of the best poses, and the log likelihood of any pose."""
        near, count = len(_NEAR_SHIFTS), len(self.references)
        norm = (measured @ self.power).sqrt().clamp(min=1e-9)
        first = torch.stack(
            [
                _interleave_parts(coefficient * factor) @ self.references.T / norm
                for factor in self.shift_factors[:near]
            ],
            1,
        )
        best_rotations = first.amax(1).topk(min(_BEST_ROTATIONS, count), dim=1).indices
        second = self._correlate_far(coefficient, best_rotations)
        second /= norm.gather(1, best_rotations)[:, None]
        likelihood = torch.cat([first.flatten(1), second.flatten(1)], 1).clamp(min=0).square()
        highest, best = likelihood.topk(MAX_POSES, dim=1)
        later = (best - near * count).clamp(min=0)
        is_near, width = best < near * count, best_rotations.shape[1]
        rotation = torch.where(is_near, best % count, best_rotations.gather(1, later % width))
        shift = torch.where(is_near, best // count, near + later // width)
        return highest, rotation, shift, torch.logsumexp(likelihood, 1) - math.log(likelihood.shape[1])

    def _correlate_far(self, coefficient: Complex64[Tensor, "b f"], rotation: Int64[Tensor, "b l"]) -> Tensor:
        """Correlate subtomograms with some rotations of the reference under the far shifts, not normalized."""
        factors = self.shift_factors[len(_NEAR_SHIFTS) :]
        shifted = _interleave_parts((coefficient[:, None] * factors).flatten(0, 1))
        shifted = shifted.reshape(len(coefficient), len(_FAR_SHIFTS), self.references.shape[1])
        # One by one: the few references of one subtomogram stay in the processor's cache, those of all do not.
        correlation = torch.empty(len(shifted), len(_FAR_SHIFTS), rotation.shape[1])
        for one, rows, out in zip(shifted, rotation, correlation, strict=True):
            torch.mm(one, self.references[rows].T, out=out)
        return correlation


def _interleave_parts(coefficient: Complex64[Tensor, "b f"]) -> Float[Tensor, "b g"]:
    """Real and imaginary parts in turn."""
    return torch.view_as_real(coefficient).flatten(1)


def average_aligned(
    volume: Float[Tensor, "b d d d"], tilt_range_deg: Float[Tensor, "b 2"], poses: Poses
) -> Float[Tensor, "d d d"]:
    """Average subtomograms that are rotated back onto the reference; each coefficient over those that measured it.

    Parameters
    ----------
    volume
        Recentered subtomograms, of any box size.
    tilt_range_deg
        Lowest and highest tilt angle of each.
    poses
        Of the reference in each; those of a posterior below `_MIN_POSTERIOR` take no part.
    """
    size = volume.shape[-1]
    total = torch.zeros(size, size, size // 2 + 1, dtype=torch.complex64)
    weight = torch.zeros(size, size, size // 2 + 1)
    for rotation, shift, posterior in poses.unbind():
        for rows in _split_rows(posterior > _MIN_POSTERIOR):
            back = rotation[rows].mT
            back_shift = -(back @ shift[rows, :, None])[..., 0] * (size / GRID)
            counts = wedge_mask(size, tilt_range_deg[rows], back) * posterior[rows, None, None, None]
            total += (torch.fft.rfftn(rotate(volume[rows], back, back_shift), dim=_AXES) * counts).sum(0)
            weight += counts.sum(0)
    mean: Tensor = torch.fft.irfftn(total / (weight + _REGULARIZATION * len(volume)), s=(size, size, size))
    return mean


def place_in_boxes(density: Float[Tensor, "d d d"], poses: Poses) -> Float[Tensor, "b d d d"]:
    """Place a density in the frame of each box: the mean over its poses, weighted by their posterior."""
    scale = density.shape[-1] / GRID
    placed = torch.zeros(len(poses.posterior), *density.shape)
    for rotation, shift, posterior in poses.unbind():
        for rows in _split_rows(posterior > _MIN_POSTERIOR):
            rotated = rotate(density.expand(len(rows), -1, -1, -1), rotation[rows], shift[rows] * scale)
            placed[rows] += posterior[rows, None, None, None] * rotated
    return placed


def _split_rows(is_member: Bool[Tensor, " b"]) -> tuple[Int64[Tensor, " r"], ...]:
    """Rows of members, in batches."""
    rows = is_member.nonzero()[:, 0]
    return torch.split(rows, _BATCH_SIZE) if len(rows) else ()
