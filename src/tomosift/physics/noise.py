"""Noise of a stated strength: white, colored by a transfer function, and the counting of electrons."""

import torch
from jaxtyping import Float
from torch import Tensor

from tomosift.physics.fourier import frequency_radius, power_gain
from tomosift.physics.wedge import apply_mask


def white_noise(
    shape: tuple[int, ...],
    generator: torch.Generator,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "..."]:
    """Independent Gaussian values of mean 0 and variance 1, drawn on the generator's device."""
    drawn = torch.randn(shape, generator=generator, device=generator.device, dtype=dtype)
    return drawn.to(device or generator.device)


def noise_at_snr(
    signal: Float[Tensor, "b d d d"],
    snr: Float[Tensor, "b"],
    generator: torch.Generator,
    transfer: Float[Tensor, "#b d d h"] | None = None,
) -> Float[Tensor, "b d d d"]:
    """Noise to be added to ``signal`` so that their ratio of variances over the whole box is ``snr``.

    ``signal`` is the signal as imaged: if the noise goes through a CTF and a wedge (``transfer``, rfftn layout), the
    signal has been through them already. The noise returned has been through ``transfer`` and the loss of power there
    is made good, so variance(signal) divided by the *expected* variance of the noise is exactly ``snr``; one draw
    scatters about it. Infinite SNR gives zeros.

    Raises
    ------
    ValueError
        When an SNR is not positive.
    """
    if bool((snr <= 0).any()):
        raise ValueError(f"snr is {snr.tolist()}, expected positive ratios of variances (infinity for no noise)")
    noise = white_noise(tuple(signal.shape), generator, signal.device, signal.dtype)
    count = signal[0].numel()
    gain = signal.new_full((1,), (count - 1) / count)  # the mean's own share does not show in a variance
    if transfer is not None:
        noise = apply_mask(noise, transfer)
        gain = power_gain(transfer)
    wanted = signal.var(dim=(-3, -2, -1), correction=0) / snr
    scale = (wanted / gain.clamp_min(torch.finfo(gain.dtype).tiny)).sqrt()
    return noise * scale[:, None, None, None]


def detector_mtf(
    box_size: int, at_nyquist: Float[Tensor, "b"], dtype: torch.dtype = torch.float32
) -> Float[Tensor, "b d d h"]:
    """Modulation transfer of a detector with a Gaussian point spread, given by its value at Nyquist (0 to 1).

    1 at zero frequency, ``at_nyquist ** (f / f_Nyquist)^2`` at f: 0.5 or so for direct electron counting at full
    sampling, nearer 1 for binned data.

    Source: the Gaussian model of a point spread; real detectors have heavier tails.
    """
    radius = 2 * frequency_radius(box_size, at_nyquist.device, dtype)
    transfer: Tensor = at_nyquist.to(dtype)[:, None, None, None] ** radius**2
    return transfer


def poisson_counts(
    intensity: Float[Tensor, "t y x"],
    dose_e_per_A2: Float[Tensor, "t"],
    pixel_size_angstrom: float,
    generator: torch.Generator,
) -> Float[Tensor, "t y x"]:
    """Electrons counted in each pixel of images whose ``intensity`` is relative to the empty beam (1).

    The expected count is ``dose * pixel_size^2 * intensity``; negative intensities, which a strong phase contrast can
    produce, count as zero. Drawing is not differentiable. Dense matter is *dark* here: turn the contrast afterwards.

    Raises
    ------
    ValueError
        When a dose is negative or the pixel size not positive.
    """
    if pixel_size_angstrom <= 0 or bool((dose_e_per_A2 < 0).any()):
        raise ValueError(
            f"dose {dose_e_per_A2.tolist()} e/A^2 at pixel size {pixel_size_angstrom} A; expected a dose of 0 or more "
            "and a positive pixel size"
        )
    per_pixel = dose_e_per_A2.to(intensity.dtype)[:, None, None] * pixel_size_angstrom**2
    expected = (per_pixel * intensity.detach().clamp_min(0)).to(generator.device)
    return torch.poisson(expected, generator=generator).to(intensity.device)
