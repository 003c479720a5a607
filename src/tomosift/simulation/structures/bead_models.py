"""Gaussian bead models of structures: initialized by clustering atoms, refined against the density of all atoms."""

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy.typing import NDArray
from torch import Tensor

from tomosift.simulation.structures.potential import (
    atom_contrast,
    frequency_squared,
    margin_voxels,
    potential_of_atoms,
    soft_nyquist,
)

FIT_SPACING_ANGSTROM = 5.0
"""Spacing of the density that beads are refined against: its soft edge begins beyond `FIT_RESOLUTION_ANGSTROM`."""

FIT_RESOLUTION_ANGSTROM = 14.0
"""Resolution to which beads are fitted."""

WIDTH_RANGE_ANGSTROM = (3.0, 20.0)
"""Limits of bead widths: narrower beads would fit noise, wider ones would hide the shape."""


def beads_density(
    beads: Float[Tensor, "n 5"],
    voxel_spacing_angstrom: float,
    box_size: int,
    resolution_angstrom: float | None = None,
) -> Float[Tensor, "d d d"]:
    """Return the density of beads (z, y, x, width, weight), volts; differentiable in the beads.

    Gaussians are summed in Fourier space, where each is a product of three one-dimensional ones and is band-limited
    exactly: nothing aliases on a coarse grid, and the integral is the sum of the weights at any spacing.

    Parameters
    ----------
    beads
        Positions and widths in Angstrom about the center, weights in V A^3.
    voxel_spacing_angstrom, box_size
        Grid of the density; the origin of the beads is at voxel ``box_size // 2``.
    resolution_angstrom
        Optional Gaussian blur, 1/e at ``1 / resolution_angstrom``.
    """
    size = box_size + 2 * margin_voxels(voxel_spacing_angstrom, resolution_angstrom)
    squared = frequency_squared(size, voxel_spacing_angstrom).to(beads.device)
    spectrum = beads_spectrum(beads, voxel_spacing_angstrom, size)
    spectrum = spectrum * soft_nyquist(squared, voxel_spacing_angstrom, resolution_angstrom)
    # The center of the box is voxel size // 2, the phase origin of the spectrum voxel 0.
    box: Tensor = torch.fft.fftshift(torch.fft.irfftn(spectrum, s=(size, size, size))) / voxel_spacing_angstrom**3
    start = size // 2 - box_size // 2
    return box[start : start + box_size, start : start + box_size, start : start + box_size].contiguous()


def beads_spectrum(beads: Float[Tensor, "n 5"], voxel_spacing_angstrom: float, size: int) -> Tensor:
    """Return the Fourier transform of the beads about their origin on the rfftn layout, V A^3; complex64."""
    full = torch.fft.fftfreq(size, voxel_spacing_angstrom, device=beads.device)
    half = torch.fft.rfftfreq(size, voxel_spacing_angstrom, device=beads.device)
    z, y, x = (
        torch.polar(
            torch.exp(-2 * torch.pi**2 * beads[:, 3:4] ** 2 * frequency**2),
            -2 * torch.pi * beads[:, axis : axis + 1] * frequency,
        )
        for axis, frequency in enumerate((full, full, half))
    )
    zy = (z * beads[:, 4:5])[:, :, None] * y[:, None, :]
    return (zy.reshape(len(beads), -1).T @ x).reshape(size, size, -1)


def default_bead_number(mass_kda: float) -> int:
    """Return the number of beads for a mass: one per 1.7 kDa, at least 120 and at most 400."""
    return int(np.clip(mass_kda / 1.7, 120, 400))


def fit_beads(
    position_zyx_angstrom: NDArray[np.float64],
    atomic_number: NDArray[np.int64],
    beads: int,
    steps: int = 250,
    seed: int = 0,
) -> Float[Tensor, "n 5"]:
    """Fit beads (z, y, x, width, weight) to the density of atoms, to about `FIT_RESOLUTION_ANGSTROM`.

    k-means on the atoms gives the initial beads. Adam then minimizes the difference of the two Fourier transforms, with
    each shell divided by the power of the atoms in it, so that all shells count equally, as in the Fourier shell
    correlation.

    Parameters
    ----------
    position_zyx_angstrom
        Positions of the atoms about the center of mass.
    atomic_number
        Element of each atom.
    beads
        Number of beads.
    steps
        Steps of Adam.
    seed
        Seed of the clustering.
    """
    start = torch.tensor(_cluster_atoms(position_zyx_angstrom, atomic_number, beads, seed), dtype=torch.float32)
    reach = float(np.abs(position_zyx_angstrom).max()) + 20.0
    size = 2 * int(np.ceil(reach / FIT_SPACING_ANGSTROM))
    position, number = torch.from_numpy(position_zyx_angstrom).float(), torch.from_numpy(atomic_number)
    density = potential_of_atoms(position, number, FIT_SPACING_ANGSTROM, size)
    target = torch.fft.rfftn(torch.fft.ifftshift(density)) * FIT_SPACING_ANGSTROM**3
    frequency = frequency_squared(size, FIT_SPACING_ANGSTROM).sqrt()
    shell = (frequency * size * FIT_SPACING_ANGSTROM).round().long()
    weight = (frequency < 1 / FIT_RESOLUTION_ANGSTROM) / _shell_sum(target.abs() ** 2, shell)[shell]

    # Scale of the free parameters: 1 A of position, 0.3 A of width, a tenth of the mean weight.
    unit = torch.tensor([1.0, 1.0, 1.0, 0.3, 0.1 * float(start[:, 4].mean())])
    free = torch.zeros_like(start, requires_grad=True)
    optimizer = torch.optim.Adam([free], betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.5, total_steps=steps)
    for _ in range(steps):
        optimizer.zero_grad()
        difference = beads_spectrum(_clamp_widths(start + free * unit), FIT_SPACING_ANGSTROM, size) - target
        (weight * (difference.real**2 + difference.imag**2)).sum().backward()
        optimizer.step()
        schedule.step()
    return _clamp_widths(start + free.detach() * unit)


def resolution_of_beads(
    beads: Float[Tensor, "n 5"],
    position_zyx_angstrom: NDArray[np.float64],
    atomic_number: NDArray[np.int64],
    voxel_spacing_angstrom: float = 4.0,
) -> float:
    """Return the resolution (A) at which the Fourier shell correlation of beads and atoms first falls below 0.5."""
    reach = float(np.abs(position_zyx_angstrom).max()) + 20.0
    size = 2 * int(np.ceil(reach / voxel_spacing_angstrom))
    position, number = torch.from_numpy(position_zyx_angstrom).float(), torch.from_numpy(atomic_number)
    atoms = potential_of_atoms(position, number, voxel_spacing_angstrom, size)
    curve = shell_correlation(atoms, beads_density(beads, voxel_spacing_angstrom, size))
    below = (curve[1 : int(0.8 * size / 2)] < 0.5).nonzero()
    shell = int(below[0]) + 1 if len(below) else int(0.8 * size / 2)
    return size * voxel_spacing_angstrom / shell


def shell_correlation(first: Float[Tensor, "d d d"], second: Float[Tensor, "d d d"]) -> Float[Tensor, " shell"]:
    """Return the Fourier shell correlation; element k belongs to k periods per box edge."""
    size = first.shape[0]
    shell = (frequency_squared(size, 1.0).sqrt() * size).round().long()
    a, b = torch.fft.rfftn(first), torch.fft.rfftn(second)
    cross = _shell_sum((a * b.conj()).real, shell)
    powers = _shell_sum(a.abs() ** 2, shell) * _shell_sum(b.abs() ** 2, shell)
    return (cross / powers.sqrt().clamp(min=1e-30))[: size // 2 + 1]


def _clamp_widths(beads: Float[Tensor, "n 5"]) -> Float[Tensor, "n 5"]:
    return torch.cat((beads[:, :3], beads[:, 3:4].clamp(*WIDTH_RANGE_ANGSTROM), beads[:, 4:]), dim=1)


def _shell_sum(value: Float[Tensor, "d d h"], shell: Int64[Tensor, "d d h"]) -> Float[Tensor, " shell"]:
    return torch.bincount(shell.reshape(-1), weights=value.reshape(-1).double()).float()


def _cluster_atoms(
    position: NDArray[np.float64], atomic_number: NDArray[np.int64], beads: int, seed: int
) -> NDArray[np.float64]:
    from scipy.spatial import cKDTree
    from sklearn.cluster import KMeans

    contrast = {number: atom_contrast(int(number)) for number in np.unique(atomic_number)}
    weight = np.vectorize(contrast.__getitem__, otypes=[float])(atomic_number)
    heavy = atomic_number > 1
    position, weight = position[heavy], weight[heavy]
    beads = min(beads, len(position))
    # 60 atoms per bead suffice for initial positions; clustering all atoms of a ribosome takes a minute.
    subset = np.random.default_rng(seed).permutation(len(position))[: 60 * beads]
    centers = KMeans(beads, n_init=1, random_state=seed, max_iter=30).fit(position[subset]).cluster_centers_
    nearest = cKDTree(centers).query(position)[1]
    rows = []
    for index in range(beads):
        members = position[nearest == index]
        total = float(weight[nearest == index].sum())
        center = members.mean(0) if len(members) else centers[index]
        width = float(np.sqrt(((members - center) ** 2).mean())) if len(members) > 1 else WIDTH_RANGE_ANGSTROM[0]
        rows.append([*center, max(width, WIDTH_RANGE_ANGSTROM[0]), total])
    return np.array(rows)
