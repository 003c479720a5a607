"""Splits of a volume by the tilts that measured its Fourier coefficients."""

import torch
from jaxtyping import Float
from torch import Tensor


def split_sectors(
    volume: Float[Tensor, "b d d d"], sector_deg: float, phase: Float[Tensor, " b"]
) -> tuple[Float[Tensor, "b d d d"], Float[Tensor, "b d d d"]]:
    """Split volumes into two with disjoint Fourier coefficients: alternating sectors about the tilt axis y.

    The two have independent noise even without half tomograms, because each tilt contributes to one of them only. Each
    holds half of the spectrum, and their sum is the input.

    Parameters
    ----------
    volume
        Subtomograms in the tomogram frame.
    sector_deg
        Width of a sector.
    phase
        Rotates the sectors: a share, in [0, 1), of the period of two sectors.

    Examples
    --------
    >>> import torch
    >>> from tomosift.physics.sectors import split_sectors
    >>> volume = torch.randn(2, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    >>> first, second = split_sectors(volume, 9.0, torch.zeros(2))
    >>> torch.allclose(first + second, volume, atol=1e-5)
    True
    """
    size = volume.shape[-1]
    along = torch.fft.fftfreq(size, device=volume.device)
    half = torch.fft.rfftfreq(size, device=volume.device)
    # The angle of the tilt plane that holds a coefficient, modulo 180 degrees; it is the same for k and -k.
    angle = torch.rad2deg(torch.atan2(along[:, None], half[None, :])) % 180.0
    if size % 2 == 0:
        # The Nyquist plane holds both k and -k, which must fall into one sector.
        angle[:, -1] = torch.rad2deg(torch.atan2(along.abs(), half[-1]))
    even = ((angle / sector_deg + 2 * phase.to(volume.device)[:, None, None]).floor() % 2 == 0)[:, :, None, :]
    spectrum = torch.fft.rfftn(volume, dim=(1, 2, 3))
    first = torch.fft.irfftn(spectrum * even, s=volume.shape[1:], dim=(1, 2, 3))
    return first, volume - first
