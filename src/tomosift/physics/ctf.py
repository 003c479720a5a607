"""The contrast transfer function (CTF), by torch-ctf; units and sign are converted here and nowhere else.

CTF(f) = sin(chi + asin(w) + phase shift) with chi = pi lambda dz f^2 - pi/2 Cs lambda^3 f^4, defocus dz positive for
underfocus and w the amplitude contrast. A dense object stays positive at low frequency: CTF(0) = w.
"""

import torch
import torch_ctf
from jaxtyping import Float
from torch import Tensor

from tomosift.physics.fourier import squared_indices

PerItem = float | int | Float[Tensor, "b"]
"""One number for the whole batch, or one per image or volume."""


def ctf_2d(
    shape_yx: tuple[int, int],
    pixel_size_angstrom: PerItem,
    defocus_um: Float[Tensor, "b"],
    astigmatism_um: PerItem = 0.0,
    astigmatism_angle_deg: PerItem = 0.0,
    voltage_kv: PerItem = 300.0,
    spherical_aberration_mm: PerItem = 2.7,
    amplitude_contrast: PerItem = 0.07,
    phase_shift_deg: PerItem = 0.0,
    b_factor_angstrom2: PerItem = 0.0,
    envelope_nyquist: PerItem = 0.0,
) -> Float[Tensor, "b y h"]:
    """Return the CTFs of images on the rfftn layout ``(y, x // 2 + 1)``.

    Parameters
    ----------
    shape_yx
        Size of the images in pixels.
    defocus_um
        Mean of the two principal defoci, positive for underfocus.
    astigmatism_um, astigmatism_angle_deg
        Half the difference (U - V) / 2, and the direction of U from the x axis towards y. A negative value means V > U.
    phase_shift_deg
        Phase shift of a phase plate.
    b_factor_angstrom2
        Multiplies the CTF by exp(-B f^2 / 4).
    envelope_nyquist
        Multiplies the CTF by exp(-(f / (envelope * Nyquist))^2); 0 for no envelope.

    Source: torch-ctf (phase), with astigmatism as dz + a cos 2(alpha - angle) instead of its square-root form, which
    has no gradient at zero astigmatism.

    Examples
    --------
    >>> import torch
    >>> from tomosift.physics.ctf import ctf_2d
    >>> ctf_2d((64, 48), pixel_size_angstrom=3.0, defocus_um=torch.tensor([2.0, 4.0])).shape
    torch.Size([2, 64, 25])
    """
    size_y, size_x = shape_yx
    like = {"dtype": defocus_um.dtype, "device": defocus_um.device}
    fy = torch.fft.fftfreq(size_y, **like)[:, None]
    fx = torch.fft.rfftfreq(size_x, **like)
    squared = fy**2 + fx**2
    twice = 2 * (torch.atan2(fy, fx) - torch.deg2rad(_column(astigmatism_angle_deg, defocus_um, 2)))
    local_defocus = defocus_um[:, None, None] + _column(astigmatism_um, defocus_um, 2) * torch.cos(twice)
    return _ctf(
        squared,
        local_defocus,
        pixel_size_angstrom,
        voltage_kv,
        spherical_aberration_mm,
        amplitude_contrast,
        phase_shift_deg,
        b_factor_angstrom2,
        envelope_nyquist,
    )


def ctf_3d(
    box_size: int,
    voxel_spacing_angstrom: PerItem,
    defocus_um: Float[Tensor, "b"],
    voltage_kv: PerItem = 300.0,
    spherical_aberration_mm: PerItem = 2.7,
    amplitude_contrast: PerItem = 0.07,
    phase_shift_deg: PerItem = 0.0,
    b_factor_angstrom2: PerItem = 0.0,
    envelope_nyquist: PerItem = 0.0,
) -> Float[Tensor, "b d d h"]:
    """Return isotropic CTFs of volumes on the rfftn layout ``(d, d, d // 2 + 1)``; parameters as in :func:`ctf_2d`.

    One function stands for the CTFs of a whole tilt series: one defocus, no astigmatism, the same in every direction.
    """
    index = squared_indices(box_size, defocus_um.device)
    # A function of |k|^2, an integer up to 3 (d/2)^2: computed once per value, then indexed.
    squared = torch.arange(3 * (box_size // 2) ** 2 + 1, dtype=defocus_um.dtype, device=defocus_um.device)
    curve = _ctf(
        (squared / box_size**2)[None],
        defocus_um[:, None, None],
        voxel_spacing_angstrom,
        voltage_kv,
        spherical_aberration_mm,
        amplitude_contrast,
        phase_shift_deg,
        b_factor_angstrom2,
        envelope_nyquist,
    )
    return curve[:, 0].index_select(1, index.flatten()).reshape(-1, *index.shape)


def _ctf(
    squared_per_pixel: Tensor,
    defocus_um: Tensor,
    pixel_size_angstrom: PerItem,
    voltage_kv: PerItem,
    spherical_aberration_mm: PerItem,
    amplitude_contrast: PerItem,
    phase_shift_deg: PerItem,
    b_factor_angstrom2: PerItem,
    envelope_nyquist: PerItem,
) -> Tensor:
    """Return the CTF at squared frequencies (n, m) in cycles per pixel, for defoci (b, n or 1, m or 1)."""
    squared = squared_per_pixel / _column(pixel_size_angstrom, defocus_um, 2) ** 2
    phase = torch_ctf.calculate_total_phase_shift(
        defocus_um=defocus_um,
        voltage_kv=_column(voltage_kv, defocus_um, 2),
        spherical_aberration_mm=_column(spherical_aberration_mm, defocus_um, 2),
        phase_shift_degrees=_column(phase_shift_deg, defocus_um, 2),
        amplitude_contrast_fraction=_column(amplitude_contrast, defocus_um, 2),
        fftfreq_grid_angstrom_squared=squared,
    )
    damping = -_column(b_factor_angstrom2, defocus_um, 2) / 4 * squared
    width = _column(envelope_nyquist, defocus_um, 2)
    safe = torch.where(width > 0, width, torch.ones_like(width))
    damping = damping - torch.where(width > 0, 4 * squared_per_pixel / safe**2, torch.zeros_like(damping))
    # torch-ctf has the opposite sign of phase: its underfocus is negative.
    ctf: Tensor = torch.sin(-phase) * torch.exp(damping)
    return ctf


def _column(value: PerItem, like: Tensor, trailing: int) -> Tensor:
    """Return one number, or one per item, as (1 or b, 1, 1) with the dtype and device of ``like``."""
    column = torch.as_tensor(value, dtype=like.dtype, device=like.device)
    return column.reshape(-1, *(1,) * trailing)
