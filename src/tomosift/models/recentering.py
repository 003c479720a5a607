"""Recentering: estimation of a particle's center without knowing its class, and subtomograms shifted to it."""

import math
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from tomosift.models.center_finder import CENTER_GRID, SMOOTHING, center_finder, fourier_crop

MAX_SHIFT = 1 / 4
"""Largest shift along each axis, as a share of the box edge."""
SUBTOMOGRAMS_TO_FIT = 500
"""Subtomograms of a set from which its picking error is estimated."""
_SHELLS = 5  # out to a quarter of the edge: density farther off belongs to neighbors as often as to the particle
_SHELL_SPACING = 1 / 16
_POWER_WEIGHT = 0.4  # of the shell power, in standard deviations over all candidates, beside the network's output
_MIN_ERROR_VOXELS = 0.5
_EM_ITERATIONS = 15
_BATCH_SIZE = 16  # subtomograms whose spectra and feature maps stay in the processor's cache


@lru_cache(maxsize=16)
def _shell_spectra(size: int) -> NDArray[np.complex64]:
    """(shells, d, d, d // 2 + 1) spectra of overlapping shells of unit norm about voxel 0."""
    axis = np.fft.ifftshift(np.arange(size) - size // 2)
    radius = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)
    width = max(size * _SHELL_SPACING, 1.0)
    shells = [np.clip(1 - np.abs(radius - width * k) / width, 0, None) for k in range(_SHELLS)]
    return np.stack([np.fft.rfftn(shell / np.linalg.norm(shell)) for shell in shells]).astype(np.complex64)


def _shell_power(volume: Float[Tensor, "b d d d"]) -> Float[Tensor, "b d d d"]:
    """Power of averages over shells about each voxel.

    Noise adds the same everywhere. A compact particle adds most about its own center, whatever its radial profile.
    """
    size = volume.shape[-1]
    spectrum = torch.fft.rfftn(volume.float(), dim=(1, 2, 3))
    power = volume.new_zeros(volume.shape, dtype=torch.float32)
    for shell in torch.from_numpy(_shell_spectra(size)).to(volume.device):
        power += torch.fft.irfftn(spectrum * shell.conj(), s=(size, size, size), dim=(1, 2, 3)).square_()
    return power


@torch.no_grad()
def _center_log_likelihood(volume: Float[Tensor, "b d d d"]) -> tuple[Float[Tensor, "b p"], Float[Tensor, "p 3"]]:
    """Log likelihood of each candidate to be the particle's center, and the candidates' offsets in voxels (zyx)."""
    if len(volume) > _BATCH_SIZE:
        parts = [_center_log_likelihood(part) for part in torch.split(volume, _BATCH_SIZE)]
        return torch.cat([likelihood for likelihood, _ in parts]), parts[0][1]
    finder, size = center_finder(volume.device), volume.shape[-1]
    offset = torch.arange(CENTER_GRID, device=volume.device) * (size / CENTER_GRID) - size // 2
    offset = offset[offset.abs() <= MAX_SHIFT * size]
    near = ((offset + size // 2) * (CENTER_GRID / size)).round().long()
    voxel = (offset + size // 2).round().long()
    logits = finder(fourier_crop(volume))[:, near][:, :, near][:, :, :, near]
    power = _shell_power(volume)[:, voxel][:, :, voxel][:, :, :, voxel].flatten(1)
    # Unscaled power would outweigh the network where there is little noise.
    power = power / power.std(1, keepdim=True).clamp(min=1e-6)
    return logits.flatten(1) + _POWER_WEIGHT * power, torch.cartesian_prod(offset, offset, offset)


def estimate_picking_error(volume: Float[Tensor, "b d d d"]) -> float:
    """Estimate the picking error of a set: the standard deviation of centers along each axis, in box edges.

    Expectation maximization of a normal distribution about the box center, in which each candidate counts by its
    likelihood. Good picks give a small error, which keeps the search away from neighbors; bad picks give a large one.
    The network smooths its output by `SMOOTHING`; the maximization removes that from the estimate, and it is added
    back in the end. For picking errors of up to 2, 4 and 8 voxels along each axis the estimate was 1.3, 2.3 and 4.2
    voxels of 32 at SNR 0.1, where 1.2, 2.3 and 4.6 were true.

    Parameters
    ----------
    volume
        Subtomograms of one set, zero mean and unit variance; some hundred are enough.
    """
    likelihood, offsets = _center_log_likelihood(volume)
    squared, size = offsets.square().sum(1), volume.shape[-1]
    error = size / 8
    for _ in range(_EM_ITERATIONS):
        posterior = torch.softmax(likelihood - squared / (2 * error**2), dim=1)
        error = max(float((posterior @ squared).mean().div(3).sqrt()), _MIN_ERROR_VOXELS)
    return math.hypot(error / size, SMOOTHING)


@torch.no_grad()
def center_candidates(
    volume: Float[Tensor, "b d d d"], picking_error: float, count: int
) -> tuple[Int64[Tensor, "b m 3"], Float[Tensor, "b m"]]:
    """Find the most probable centers of each particle, the best first, and their posterior.

    With real structures up to 8 voxels off center in crowded boxes of 32 voxels, the median error of the first
    candidate was 1.0 voxel at SNR 0.1 and 2.5 voxels at SNR 0.03.

    Parameters
    ----------
    volume
        Subtomograms.
    picking_error
        Standard deviation of the expected offsets, in box edges (`estimate_picking_error`). Where the likelihood is
        flat, this prior keeps the search away from neighbors.
    count
        Number m of candidates.

    Returns
    -------
    offset_zyx_voxels
        From voxel ``d // 2``, in whole voxels. Candidates lie a thirty-second of the edge apart, so that two may round
        to one voxel of a smaller box.
    posterior
        Over these candidates. The network was trained to give smoothed likelihoods (`SMOOTHING`), so the posterior is
        flatter than the truth; a sharper one did not classify better.

    Notes
    -----
    Source: ours. The likelihood is that of `tomosift.models.center_finder` and, with a smaller weight, the matched
    filter for an unknown radial profile; compare Sigworth 2004, "Classical detection theory and the cryo-EM particle
    selection problem". At SNR 0.1 the first finds more particles, at SNR 0.03 both together classify better.
    """
    likelihood, offsets = _center_log_likelihood(volume)
    prior = offsets.square().sum(1) / (2 * (max(picking_error, 1e-6) * volume.shape[-1]) ** 2)
    log_posterior, best = (likelihood - prior).topk(count, dim=1)
    return offsets[best].round().long(), torch.softmax(log_posterior, dim=1)


class Recentering(nn.Module):
    """The center search of one model, with the picking error that it expects; part of the model's weights.

    Parameters
    ----------
    picking_error
        Standard deviation of the expected offsets along each axis, in box edges.

    Examples
    --------
    >>> import torch
    >>> recentering = Recentering.fit(torch.randn(4, 16, 16, 16))
    >>> recentering.estimate_offsets(torch.randn(2, 16, 16, 16)).shape
    torch.Size([2, 3])
    """

    picking_error: Tensor

    def __init__(self, picking_error: float = MAX_SHIFT) -> None:
        super().__init__()
        self.register_buffer("picking_error", torch.tensor(picking_error))

    @classmethod
    def fit(cls, volume: Float[Tensor, "b d d d"]) -> "Recentering":
        """Estimate the picking error from subtomograms of the set that is to be recentered."""
        return cls(estimate_picking_error(volume))

    def find_candidates(
        self, volume: Float[Tensor, "b d d d"], count: int
    ) -> tuple[Int64[Tensor, "b m 3"], Float[Tensor, "b m"]]:
        """Find the most probable centers; see `center_candidates`."""
        return center_candidates(volume, float(self.picking_error), count)

    def estimate_offsets(self, volume: Float[Tensor, "b d d d"]) -> Int64[Tensor, "b 3"]:
        """Offset (zyx, whole voxels) of the most probable center from voxel ``d // 2`` of each box."""
        return self.find_candidates(volume, 1)[0][:, 0]


def recenter(volume: Float[Tensor, "b d d d"], offset_zyx_voxels: Int64[Tensor, "b 3"]) -> Float[Tensor, "b d d d"]:
    """Shift each subtomogram by whole voxels so that the voxel at the offset comes to ``d // 2``; zeros fill up."""
    size = volume.shape[-1]
    shifted = []
    # One by one: blocks are copied as they are, three times as fast as indexing every voxel.
    for box, offset in zip(volume, offset_zyx_voxels.clamp(-size, size).tolist(), strict=True):
        kept = box[tuple(slice(max(step, 0), size + min(step, 0)) for step in offset)]
        margins = [edge for step in reversed(offset) for edge in (max(-step, 0), max(step, 0))]
        shifted.append(functional.pad(kept, margins))
    return torch.stack(shifted) if shifted else volume
