"""Pose search: the most probable rotations and shifts of a reference in noisy subtomograms, as matrix products.

Subtomograms of any size are compared on a grid of `GRID` voxels, which suffices at low SNR, and only at frequencies
that their tilts measured. A reference in many rotations is one matrix of Fourier coefficients, subtomograms under one
shift are another, and their product holds all correlations.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Complex64, Float, Int64
from torch import Tensor
from torch.nn import functional

from tomosift.averaging.whitened_spectra import GRID, WhitenedSpectra, half_sphere, soft_ball
from tomosift.physics.rotation import rotate
from tomosift.physics.wedge import wedge_mask

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
    frequency = torch.from_numpy(half_sphere()[1])
    is_compared = frequency.square().sum(0) < cutoff**2
    rotated = _rotate_reference(reference * soft_ball(), rotations, frequency[:, is_compared])
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
