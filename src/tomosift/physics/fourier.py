"""Radial geometry of the rfftn layout ``(d, d, d // 2 + 1)``: frequencies, shells, filters and power."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def squared_indices(box_size: int, device: torch.device | str | None = None) -> Int[Tensor, "d d h"]:
    """Squared distance of every coefficient from the zero frequency, in Fourier voxels; whole numbers."""
    k = torch.fft.fftfreq(box_size, 1 / box_size, device=device).round().to(torch.int64) ** 2
    squared: Tensor = k[:, None, None] + k[:, None] + k[: box_size // 2 + 1]
    return squared


def frequency_radius(
    box_size: int, device: torch.device | str | None = None, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "d d h"]:
    """Spatial frequency of every coefficient in cycles per voxel; the Nyquist sphere lies at 0.5."""
    return squared_indices(box_size, device).to(dtype).sqrt() / box_size


def fourier_shell_indices(box_size: int, device: torch.device | str | None = None) -> Int[Tensor, "d d h"]:
    """Number of the Fourier shell of every coefficient: its radius in Fourier voxels, rounded."""
    return squared_indices(box_size, device).to(torch.float64).sqrt().round().to(torch.int64)


def low_pass(
    box_size: int, cutoff_nyquist: Float[Tensor, "b"], edge_nyquist: float = 0.125
) -> Float[Tensor, "b d d h"]:
    """Filters that pass everything up to the cutoff and fall to zero, as a cosine, over the edge behind it.

    Both are shares of the Nyquist frequency. From sqrt(3) on a cutoff removes nothing at all, corners included.

    Raises
    ------
    ValueError
        When ``edge_nyquist`` is negative.
    """
    if edge_nyquist < 0:
        raise ValueError(f"edge_nyquist is {edge_nyquist}, expected 0 or more")
    radius = 2 * frequency_radius(box_size, cutoff_nyquist.device, cutoff_nyquist.dtype)
    beyond = radius - cutoff_nyquist[:, None, None, None]
    if edge_nyquist == 0:
        return (beyond <= 1e-6).to(beyond.dtype)
    passed: Tensor = 0.5 + 0.5 * torch.cos(torch.pi * (beyond / edge_nyquist).clamp(0, 1))
    return passed


def band_pass(
    box_size: int, low_nyquist: Float[Tensor, "b"], high_nyquist: Float[Tensor, "b"], edge_nyquist: float = 0.125
) -> Float[Tensor, "b d d h"]:
    """Filters that pass what lies above ``low_nyquist`` and below ``high_nyquist``, with cosine edges outside.

    The low side is a low-pass taken away, its edge ending at ``low_nyquist``; 0 keeps the zero frequency too.
    """
    removed = low_pass(box_size, low_nyquist - edge_nyquist, edge_nyquist)
    removed = torch.where((low_nyquist > 0)[:, None, None, None], removed, torch.zeros_like(removed))
    return low_pass(box_size, high_nyquist, edge_nyquist) * (1 - removed)


def power_gain(transfer: Float[Tensor, "b d d h"]) -> Float[Tensor, "b"]:
    """Factor by which a transfer function changes the expected variance of white noise over the box.

    The mean of ``|transfer|^2`` over the whole spectrum, the zero frequency left out because a variance does not see
    the mean.
    """
    size = transfer.shape[-2]
    return _summed_power(transfer) / size**3


def variance(spectrum: Tensor) -> Float[Tensor, "b"]:
    """Variance over the box (divided by the number of voxels) of the real volumes with these rfftn spectra.

    Source: Parseval's theorem.
    """
    size = spectrum.shape[-2]
    return _summed_power(spectrum) / size**6


def mean_power(volume: Float[Tensor, "n d d d"]) -> Float[Tensor, "d d h"]:
    """Mean power of every coefficient over some boxes, the same for those that mirrors take into one another."""
    axes = (-3, -2, -1)
    sums = torch.stack([torch.fft.rfftn(part, dim=axes).abs().square().sum(dim=0) for part in torch.split(volume, 64)])
    mean = sums.sum(dim=0) / len(volume)
    for axis in (0, 1):
        mean = 0.5 * (mean + mean.flip(axis).roll(1, axis))
    return mean


def _summed_power(spectrum: Tensor) -> Tensor:
    """Sum of |.|^2 over the whole spectrum except the zero frequency; stored columns with a twin count twice."""
    power = spectrum.real**2 + spectrum.imag**2 if spectrum.is_complex() else spectrum**2
    columns = power.sum(dim=(-3, -2))
    single = columns[:, 0] - power[:, 0, 0, 0]
    if spectrum.shape[-2] % 2 == 0:
        return single + 2 * columns[:, 1:-1].sum(-1) + columns[:, -1]
    return single + 2 * columns[:, 1:].sum(-1)
