"""The image formation model: from the density of a particle to a subtomogram.

:class:`ImagingRanges` states how conditions vary, ``sample`` draws one set per particle, :func:`image` applies them.
Simulation, augmentation and domain randomization are three uses of this pair.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tomosift.physics.conditions import ImagingParameters, ImagingRanges
from tomosift.physics.ctf import ctf_3d
from tomosift.physics.fourier import low_pass, power_gain, variance
from tomosift.physics.rotation import rotate, rotate_upsampled
from tomosift.physics.wedge import wedge_mask

__all__ = ["ImagedParts", "ImagingParameters", "ImagingRanges", "image", "image_parts", "lab_protocol"]

_AXES = (-3, -2, -1)


@dataclass(frozen=True)
class ImagedParts:
    """Signal and noise of imaged particles, kept apart."""

    posed: Float[Tensor, "b d d d"]
    """Density in its pose, before CTF, noise and missing wedge; a threshold on it gives the mask of the particle."""
    signal: Float[Tensor, "b d d d"]
    """Density as imaged, without noise."""
    noise: Float[Tensor, "b v d d d"]
    """Independent noise of each view."""
    mask: Float[Tensor, "b d d h"]
    """Missing wedge (rfftn layout): 1 for measured coefficients, 0 for missing ones."""

    @property
    def views(self) -> Float[Tensor, "b v d d d"]:
        """Signal plus the noise of each view."""
        return self.signal[:, None] + self.noise

    @property
    def volume(self) -> Float[Tensor, "b d d d"]:
        """Mean of the views; its SNR is the stated one."""
        return self.signal + self.noise.mean(dim=1)


def image(
    density: Float[Tensor, "b e e e"],
    parameters: ImagingParameters,
    generator: torch.Generator,
    upsampling: int = 1,
) -> Float[Tensor, "b d d d"]:
    """Return subtomograms of densities: pose, CTF, noise, low-pass, missing wedge.

    The result is in the tomogram frame: beam z, tilt axis y. Density stays positive. The function is differentiable in
    the density, including the strength of the noise.

    Parameters
    ----------
    density
        One density per particle in the reference frame, positive, its center at voxel ``e // 2``.
    parameters
        One set of conditions per particle. ``snr`` is the variance of the returned signal over the expected variance
        of the returned noise, exactly; infinity adds no noise.
    generator
        Source of the noise.
    upsampling
        Factor by which ``density`` is sampled finer than the result (see `tomosift.physics.rotation.upsample`). Finer
        sources lose less to interpolation.

    Source: the order follows the public subtomogram simulator of the aitom project. Deviations: each share of the noise
    is scaled by its own transfer function, so the SNR holds exactly. The two shares are Gaussian and independent, so
    they are drawn as one field with the sum of their spectra, which has the same distribution at half the cost. Voxels
    beyond the box are vacuum.

    Examples
    --------
    >>> import torch
    >>> from tomosift.physics.imaging import ImagingRanges, image
    >>> generator = torch.Generator().manual_seed(0)
    >>> density = torch.zeros(2, 16, 16, 16)
    >>> density[:, 6:10, 7:9, 7:9] = 1.0
    >>> image(density, ImagingRanges(snr=(0.1, 0.1)).sample(2, generator), generator).shape
    torch.Size([2, 16, 16, 16])
    """
    size = density.shape[-1] // upsampling
    _, signal, noise, _ = _spectra(density, parameters, generator, views=1, upsampling=upsampling)
    volume: Tensor = torch.fft.irfftn(signal + noise[:, 0], s=(size, size, size), dim=_AXES)
    return volume


def image_parts(
    density: Float[Tensor, "b e e e"],
    parameters: ImagingParameters,
    generator: torch.Generator,
    views: int = 1,
    upsampling: int = 1,
    is_posed: bool = False,
) -> ImagedParts:
    """Do what :func:`image` does, and return signal and noise apart, with independent noise for each view.

    Two views correspond to the even and odd halves of a data set: the same signal, and independent noise of twice the
    variance each, so that their mean has the stated SNR. With one view, ``volume`` equals :func:`image`.

    Parameters
    ----------
    density, parameters, generator, upsampling
        As for :func:`image`.
    views
        Number of noise realizations per particle.
    is_posed
        Whether ``density`` has its pose already; the pose of the parameters is then ignored.

    Raises
    ------
    ValueError
        When ``views`` is below 1.
    """
    if views < 1:
        raise ValueError(f"views is {views}, expected at least 1")
    size = density.shape[-1] // upsampling
    posed, signal, noise, mask = _spectra(density, parameters, generator, views, upsampling, is_posed)
    shape = (size, size, size)
    return ImagedParts(
        posed, torch.fft.irfftn(signal, s=shape, dim=_AXES), torch.fft.irfftn(noise, s=shape, dim=_AXES), mask
    )


def lab_protocol() -> ImagingRanges:
    """Return the published simulation protocol of the field: 10 A voxels, 5 um underfocus, +-60 degrees, SNR 0.1.

    Cs 2.0 mm, 300 kV, envelope at 0.4 Nyquist, half of the noise before the CTF, final low-pass at half Nyquist with
    an edge of an eighth. The particle lies up to 8 whole voxels off center along each axis (for a box size of 32).
    Crowding is not part of imaging: neighbors belong into the density. The amplitude contrast (0.07) and the cutoff of
    the noise after the CTF (half Nyquist) are choices of this project, as the protocol does not state them.
    """
    return ImagingRanges(
        spherical_aberration_mm=(2.0, 2.0),
        envelope_nyquist=(0.4, 0.4),
        cutoff_nyquist=(0.5, 0.5),
        shift_voxels=(-8.0, 8.0),
        shifts_whole_voxels=True,
    )


def _spectra(
    density: Tensor,
    parameters: ImagingParameters,
    generator: torch.Generator,
    views: int,
    upsampling: int,
    is_posed: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the posed density, spectra of signal (b, ...) and noise (b, views, ...), and the missing wedge."""
    if len(parameters) != density.shape[0]:
        raise ValueError(f"got {density.shape[0]} densities but conditions of {len(parameters)}; expected one each")
    p = parameters.to(density.device, density.dtype)
    pose = (p.rotation, p.shift_zyx_voxels, p.scale)
    if is_posed:
        posed = density
    else:
        posed = rotate(density, *pose) if upsampling == 1 else rotate_upsampled(density, upsampling, *pose)
    size = posed.shape[-1]
    mask = wedge_mask(size, p.tilt_range_deg, dual_axis=p.is_dual_axis)
    last = mask * _low_pass(size, p.cutoff_nyquist)
    first = last * _contrast_transfer(size, p) if p.has_ctf else last
    signal = torch.fft.rfftn(posed, dim=_AXES) * first
    if bool(torch.isinf(p.snr).all()):
        return posed, signal, torch.zeros_like(signal)[:, None].expand(-1, views, -1, -1, -1), mask
    strength = views * variance(signal) / p.snr
    late = last * _low_pass(size, p.noise_cutoff_nyquist)
    power = _scaled_power(first, strength * p.noise_before_ctf)
    power = power + _scaled_power(late, strength * (1 - p.noise_before_ctf))
    white = _white_noise((len(p), views, size, size, size), generator, density)
    noise = torch.fft.rfftn(white, dim=_AXES) * _root(power)[:, None]
    return posed, signal, noise, mask


def _white_noise(shape: tuple[int, ...], generator: torch.Generator, like: Tensor) -> Tensor:
    """Draw Gaussian values of mean 0 and variance 1 on the generator's device, and move them to that of ``like``."""
    return torch.randn(shape, generator=generator, device=generator.device, dtype=like.dtype).to(like.device)


def _low_pass(size: int, cutoff_nyquist: Tensor) -> Tensor:
    if bool((cutoff_nyquist >= math.sqrt(3)).all()):
        return cutoff_nyquist.new_ones(1, 1, 1, 1)
    return low_pass(size, cutoff_nyquist)


def _contrast_transfer(size: int, p: ImagingParameters) -> Tensor:
    return ctf_3d(
        size,
        p.voxel_spacing_angstrom,
        p.defocus_um,
        p.voltage_kv,
        p.spherical_aberration_mm,
        p.amplitude_contrast,
        p.phase_shift_deg,
        p.b_factor_angstrom2,
        p.envelope_nyquist,
    )


def _scaled_power(transfer: Tensor, target_variance: Tensor) -> Tensor:
    """Return the power spectrum of noise with the shape of ``transfer`` and this variance over the box."""
    per_power = target_variance / power_gain(transfer).clamp_min(torch.finfo(transfer.dtype).tiny)
    return transfer**2 * per_power[:, None, None, None]


def _root(power: Tensor) -> Tensor:
    """Return the square root, with a gradient of zero instead of infinity where the power is zero."""
    is_positive = power > 0
    return torch.where(
        is_positive, torch.where(is_positive, power, torch.ones_like(power)).sqrt(), torch.zeros_like(power)
    )
