"""Electrostatic potential of atoms on a voxel grid, as contrast against the ice that the molecule displaces."""

import math

import gemmi
import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from tomosift.io.structures import Structure

VOLT_CUBIC_ANGSTROM_PER_SCATTERING_ANGSTROM = 47.878
"""h^2 / (2 pi m e): converts an electron scattering factor (A) to a potential integrated over space (V A^3)."""

ICE_VOLT = 3.6
"""Mean inner potential of vitreous ice."""

EDGE_START = 0.75
"""Share of Nyquist where the soft edge of every density begins; it ends at Nyquist. Sharper ones ring."""

# Fraser, MacRae and Suzuki 1978, J. Appl. Cryst. 11, 693, cubic Angstrom; files rarely hold hydrogens, so each heavy
# atom also displaces the water of the hydrogens that it carries on average in protein (1.3 on C, 1.0 on N, 0.2 on O).
_DISPLACED_CUBIC_ANGSTROM = {"C": 16.44 + 1.3 * 5.15, "N": 2.49 + 5.15, "O": 9.13 + 0.2 * 5.15, "P": 5.73, "S": 19.86}

OUTSIDE_TOLERANCE = 0.02
"""Share of a molecule that may lie outside its box without an error."""


def displaced_volume(atomic_number: int) -> float:
    """Return the volume of ice that one atom and its hydrogens displace, cubic Angstrom.

    Other elements than C, N, O, P, S (mostly ions) have the volume of their van der Waals sphere.
    """
    element = gemmi.Element(atomic_number)
    fallback = 4 / 3 * math.pi * float(element.vdw_r) ** 3
    return _DISPLACED_CUBIC_ANGSTROM.get(element.name, fallback)


def atom_contrast(atomic_number: int, solvent_volt: float = ICE_VOLT) -> float:
    """Return the potential of an atom minus that of the displaced ice, integrated over space, V A^3; 0 for H."""
    if atomic_number == 1:
        return 0.0
    scattering = float(gemmi.Element(atomic_number).c4322.calculate_sf(0.0))
    return VOLT_CUBIC_ANGSTROM_PER_SCATTERING_ANGSTROM * scattering - solvent_volt * displaced_volume(atomic_number)


def centered_atoms(structure: Structure) -> tuple[Float64[np.ndarray, "n 3"], Int64[np.ndarray, " n"]]:
    """Return the positions about the center of mass (zyx, Angstrom) and the atomic numbers of a structure."""
    number = structure.atomic_number.astype(np.int64)
    mass = np.zeros(len(number))
    for element in np.unique(number):
        mass[number == element] = gemmi.Element(int(element)).weight
    position = structure.position_zyx_angstrom.astype(np.float64)
    return position - mass @ position / mass.sum(), number


def frequency_squared(size: int, voxel_spacing_angstrom: float) -> Float[Tensor, "d d h"]:
    """Return the squared spatial frequency on the rfftn layout, 1/A^2."""
    full = torch.fft.fftfreq(size, voxel_spacing_angstrom) ** 2
    half = torch.fft.rfftfreq(size, voxel_spacing_angstrom) ** 2
    squared: Tensor = full[:, None, None] + full[None, :, None] + half[None, None, :]
    return squared


def soft_nyquist(
    frequency_squared: Float[Tensor, "*grid"], voxel_spacing_angstrom: float, resolution_angstrom: float | None = None
) -> Float[Tensor, "*grid"]:
    """Return the filter that keeps the sphere inside Nyquist (raised-cosine edge) and optionally blurs.

    Without it the corners of the Fourier cube, which reach 1.7 times Nyquist, would depend on the pose. The blur is a
    Gaussian that falls to 1/e at the frequency ``1 / resolution_angstrom``.
    """
    share = frequency_squared.sqrt() * 2 * voxel_spacing_angstrom
    edge = ((share - EDGE_START) / (1 - EDGE_START)).clamp(0, 1)
    transfer = 0.5 + 0.5 * torch.cos(math.pi * edge)
    if resolution_angstrom is not None:
        transfer = transfer * torch.exp(-frequency_squared * resolution_angstrom**2)
    return transfer


def margin_voxels(voxel_spacing_angstrom: float, resolution_angstrom: float | None) -> int:
    """Return the margin around a box for filters in Fourier space, so that nothing wraps around its faces."""
    return 2 + math.ceil(max(10.0, resolution_angstrom or 0.0) / voxel_spacing_angstrom)


def potential_of_atoms(
    position_zyx_angstrom: Float[Tensor, "n 3"],
    atomic_number: Int64[Tensor, " n"],
    voxel_spacing_angstrom: float,
    box_size: int,
    resolution_angstrom: float | None = None,
    solvent_volt: float = ICE_VOLT,
) -> Float[Tensor, "d d d"]:
    """Return the electrostatic potential of atoms minus that of the displaced ice, in volts.

    Position (0, 0, 0) is at voxel ``box_size // 2``. The density is band-limited to the sphere inside Nyquist.
    Hydrogens are ignored, so that files with and without them agree. B-factors are ignored, because they describe a
    crystal or the fit to a map and not a molecule in ice. Atoms outside the box do not contribute.

    Parameters
    ----------
    solvent_volt
        Potential of the surroundings. Each atom displaces its volume (Fraser 1978, hydrogens included) as a Gaussian
        ``exp(-pi r^2 / v^(2/3))`` of that volume; 0 gives the molecule in vacuum.

    Source
    ------
    International Tables C 4.3.2.2, electron scattering factors (five Gaussians each, as gemmi tabulates them). Atoms
    are splatted with cubic B-splines on a grid twice as fine; the transform of the spline is divided out.
    """
    margin = margin_voxels(voxel_spacing_angstrom, resolution_angstrom)
    size = box_size + 2 * margin
    fine_spacing = voxel_spacing_angstrom / 2
    position = position_zyx_angstrom.to(torch.float64) / fine_spacing + 2 * (box_size // 2 + margin)
    inside = ((position > 1) & (position < 2 * size - 3)).all(dim=1) & (atomic_number > 1)
    squared = frequency_squared(size, voxel_spacing_angstrom).to(position.device)
    spectrum = torch.zeros(size, size, size // 2 + 1, dtype=torch.complex64, device=position.device)
    for number in torch.unique(atomic_number[inside]).tolist():
        points = splat(position[inside & (atomic_number == number)], 2 * size)
        spectrum += _crop_spectrum(points, size) * _atom_transfer(int(number), squared, solvent_volt)
    spline = _spline_transfer(size).to(position.device)
    spectrum *= soft_nyquist(squared, voxel_spacing_angstrom, resolution_angstrom) / (
        spline[:, None, None] * spline[None, :, None] * spline[None, None, : size // 2 + 1]
    )
    box: Tensor = torch.fft.irfftn(spectrum, s=(size, size, size)) / voxel_spacing_angstrom**3
    return box[margin : margin + box_size, margin : margin + box_size, margin : margin + box_size].contiguous()


def splat(position_zyx_voxels: Float[Tensor, "n 3"], size: int) -> Float[Tensor, "m m m"]:
    """Splat unit points onto 4^3 voxels each with cubic B-spline weights; the sum is the number of points."""
    grid = torch.zeros(size**3, dtype=torch.float32, device=position_zyx_voxels.device)
    for block in torch.split(position_zyx_voxels, 65536):
        corner = block.floor()
        t = (block - corner).to(torch.float32)
        weight = torch.stack(
            ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3), dim=1
        ).div(6)
        index = corner.long()[:, None, :] + torch.arange(-1, 3, device=block.device)[None, :, None]
        z, y, x = index.unbind(dim=2)
        flat = (z[:, :, None, None] * size + y[:, None, :, None]) * size + x[:, None, None, :]
        value = weight[:, :, None, None, 0] * weight[:, None, :, None, 1] * weight[:, None, None, :, 2]
        grid.index_add_(0, flat.reshape(-1), value.reshape(-1))
    return grid.reshape(size, size, size)


def _spline_transfer(size: int) -> Float[Tensor, " d"]:
    """Return the transform of the cubic B-spline on the grid twice as fine, at the kept frequencies: sinc^4."""
    transfer: Tensor = torch.sinc(torch.fft.fftfreq(size) / 2) ** 4
    return transfer


def _crop_spectrum(fine: Float[Tensor, "m m m"], size: int) -> Tensor:
    spectrum = torch.fft.rfftn(fine)
    kept = torch.fft.fftfreq(size, 1 / size, device=fine.device).round().long() % fine.shape[0]
    cropped: Tensor = spectrum[kept][:, kept][:, :, : size // 2 + 1]
    return cropped


def _atom_transfer(atomic_number: int, squared: Float[Tensor, "d d h"], solvent_volt: float) -> Float[Tensor, "d d h"]:
    coefficients = gemmi.Element(atomic_number).c4322
    scattering = torch.zeros_like(squared)
    for amplitude, width in zip(coefficients.a, coefficients.b, strict=True):
        scattering += amplitude * torch.exp(-width / 4 * squared)
    volume = displaced_volume(atomic_number)
    ice = solvent_volt * volume * torch.exp(-math.pi * volume ** (2 / 3) * squared)
    contrast: Tensor = VOLT_CUBIC_ANGSTROM_PER_SCATTERING_ANGSTROM * scattering - ice
    return contrast


def require_fit(outside: float, reach_angstrom: float, voxel_spacing_angstrom: float, box_size: int) -> None:
    """Raise ValueError if a share of more than `OUTSIDE_TOLERANCE` of a molecule lies outside its box."""
    if outside > OUTSIDE_TOLERANCE:
        needed = 2 * math.ceil(reach_angstrom / voxel_spacing_angstrom) + 2
        raise ValueError(
            f"{outside:.0%} of the molecule lies outside a box of {box_size} voxels of {voxel_spacing_angstrom:g} A; "
            f"use at least {needed} voxels"
        )
