"""Volumes taken apart by the tilts that measured them."""

import torch
from jaxtyping import Float
from torch import Tensor


def split_sectors(
    volume: Float[Tensor, "b d d d"], sector_deg: float, phase: Float[Tensor, " b"]
) -> tuple[Float[Tensor, "b d d d"], Float[Tensor, "b d d d"]]:
    """Two volumes with disjoint Fourier coefficients: alternating sectors about the tilt axis y.

    For noise-independent views of particles without half tomograms: each tilt contributes to one of the two only, so
    white noise in them is independent, at the price of half the spectrum each. ``phase`` in [0, 1) turns the sectors.
    Their sum is the input.
    """
    size = volume.shape[-1]
    along = torch.fft.fftfreq(size, device=volume.device)
    half = torch.fft.rfftfreq(size, device=volume.device)
    # The angle of the tilt plane that holds a coefficient, modulo 180 degrees: the same for k and -k.
    angle = torch.rad2deg(torch.atan2(along[:, None], half[None, :])) % 180.0
    if size % 2 == 0:
        # The last plane holds k and -k both; they must fall into one sector.
        angle[:, -1] = torch.rad2deg(torch.atan2(along.abs(), half[-1]))
    even = ((angle / sector_deg + 2 * phase.to(volume.device)[:, None, None]).floor() % 2 == 0)[:, :, None, :]
    spectrum = torch.fft.rfftn(volume, dim=(1, 2, 3))
    first = torch.fft.irfftn(spectrum * even, s=volume.shape[1:], dim=(1, 2, 3))
    return first, volume - first
