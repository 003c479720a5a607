"""Radial geometry of the rfftn layout ``(d, d, d // 2 + 1)``: frequencies, shells, filters and power."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def squared_indices(box_size: int, device: torch.device | str | None = None) -> Int[Tensor, "d d h"]:
    """Return the squared distance of every coefficient from the zero frequency, in Fourier voxels; integers."""
    k = torch.fft.fftfreq(box_size, 1 / box_size, device=device).round().to(torch.int64) ** 2
    squared: Tensor = k[:, None, None] + k[:, None] + k[: box_size // 2 + 1]
    return squared


def frequency_radius(
    box_size: int, device: torch.device | str | None = None, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "d d h"]:
    """Return the spatial frequency of every coefficient in cycles per voxel; the Nyquist sphere lies at 0.5."""
    return squared_indices(box_size, device).to(dtype).sqrt() / box_size


def fourier_shell_indices(box_size: int, device: torch.device | str | None = None) -> Int[Tensor, "d d h"]:
    """Return the Fourier shell of every coefficient: its radius in Fourier voxels, rounded."""
    return squared_indices(box_size, device).to(torch.float64).sqrt().round().to(torch.int64)


def low_pass(
    box_size: int, cutoff_nyquist: Float[Tensor, "b"], edge_nyquist: float = 0.125
) -> Float[Tensor, "b d d h"]:
    """Return low-pass filters with a cosine edge on the rfftn layout.

    Parameters
    ----------
    box_size
        Edge of the volumes in voxels.
    cutoff_nyquist
        Cutoff as a share of the Nyquist frequency. From sqrt(3) on, nothing is removed, corners included.
    edge_nyquist
        Width of the edge beyond the cutoff, over which the filter falls from 1 to 0, as a share of Nyquist.

    Raises
    ------
    ValueError
        When ``edge_nyquist`` is negative.

    Examples
    --------
    >>> import torch
    >>> from tomosift.physics.fourier import low_pass
    >>> low_pass(8, torch.tensor([0.5]))[0, 0, 0].tolist()
    [1.0, 1.0, 1.0, 0.0, 0.0]
    """
    if edge_nyquist < 0:
        raise ValueError(f"edge_nyquist is {edge_nyquist}, expected 0 or more")
    radius = 2 * frequency_radius(box_size, cutoff_nyquist.device, cutoff_nyquist.dtype)
    beyond = radius - cutoff_nyquist[:, None, None, None]
    if edge_nyquist == 0:
        return (beyond <= 1e-6).to(beyond.dtype)
    passed: Tensor = 0.5 + 0.5 * torch.cos(torch.pi * (beyond / edge_nyquist).clamp(0, 1))
    return passed


def power_gain(transfer: Float[Tensor, "b d d h"]) -> Float[Tensor, "b"]:
    """Return the factor by which a transfer function changes the expected variance of white noise over the box.

    It is the mean of ``|transfer|^2`` over the whole spectrum without the zero frequency, which holds the mean and so
    does not contribute to a variance.
    """
    size = transfer.shape[-2]
    return _summed_power(transfer) / size**3


def variance(spectrum: Tensor) -> Float[Tensor, "b"]:
    """Return the variance over the box (divided by the number of voxels) of the real volumes with these rfftn spectra.

    Source: Parseval's theorem.
    """
    size = spectrum.shape[-2]
    return _summed_power(spectrum) / size**6


def mean_power(volume: Float[Tensor, "n d d d"]) -> Float[Tensor, "d d h"]:
    """Return the mean power of every coefficient over n volumes, averaged over mirror-related coefficients."""
    axes = (-3, -2, -1)
    sums = torch.stack([torch.fft.rfftn(part, dim=axes).abs().square().sum(dim=0) for part in torch.split(volume, 64)])
    mean = sums.sum(dim=0) / len(volume)
    for axis in (0, 1):
        mean = 0.5 * (mean + mean.flip(axis).roll(1, axis))
    return mean


def _summed_power(spectrum: Tensor) -> Tensor:
    """Return the sum of |.|^2 over the whole spectrum without the zero frequency."""
    # Columns that stand for two conjugate ones count twice.
    power = spectrum.real**2 + spectrum.imag**2 if spectrum.is_complex() else spectrum**2
    columns = power.sum(dim=(-3, -2))
    single = columns[:, 0] - power[:, 0, 0, 0]
    if spectrum.shape[-2] % 2 == 0:
        return single + 2 * columns[:, 1:-1].sum(-1) + columns[:, -1]
    return single + 2 * columns[:, 1:].sum(-1)
