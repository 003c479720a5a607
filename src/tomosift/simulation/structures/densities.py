"""Templates: the density of one complex, centered in a cubic box, from an atlas entry, a structure or a map.

Densities are contrast against ice in volts, positive where there is molecule, with the center of mass on voxel
``box_size // 2`` and the orientation of the file. They are band-limited to the sphere inside Nyquist (soft edge).
"""

import math
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from tomosift.errors import FormatError
from tomosift.io.structures import SUFFIXES as STRUCTURE_SUFFIXES
from tomosift.io.structures import Structure, read_structure
from tomosift.io.volumes import open_volume
from tomosift.simulation.structures.atlas import atlas_names, entry_density, load_atlas_entry
from tomosift.simulation.structures.potential import (
    ICE_VOLT,
    centered_atoms,
    potential_of_atoms,
    require_fit,
    soft_nyquist,
)

PROTEIN_CONTRAST_VOLT = 2.9
"""Mean contrast of protein without hydrogens against ice; maps, whose units are arbitrary, are scaled to it."""

CLEAN_BACKGROUND = 1e-3
"""A map whose background varies by less than this share of its maximum is taken for computed, not measured."""

MASK_THRESHOLD = 0.15
"""Share of a density's maximum from which a voxel belongs to the molecule: near half height at 10 A spacing."""

NOISE_FLOOR_SIGMAS = 3.0
"""An experimental map is lowered by this many standard deviations of its background and cut at zero."""


def template(
    source: str | Path,
    voxel_spacing_angstrom: float,
    box_size: int,
    *,
    assembly: str | int | None = None,
    resolution_angstrom: float | None = None,
    dark_protein: bool = False,
    map_voxel_spacing_angstrom: float | None = None,
) -> Float[Tensor, "d d d"]:
    """Load the density of an atlas entry (by name), a structure file (PDB, mmCIF) or a map file, in volts.

    Parameters
    ----------
    source
        Name in the atlas, or path of a file.
    voxel_spacing_angstrom, box_size
        Grid of the density; the center of mass is on voxel ``box_size // 2``.
    assembly
        Biological assembly of a structure file, as for `read_structure`; ignored otherwise.
    resolution_angstrom
        Optional Gaussian blur, 1/e at ``1 / resolution_angstrom``.
    dark_protein, map_voxel_spacing_angstrom
        Properties of a map that only the user can know; see `density_from_map`.

    Raises
    ------
    ValueError
        If ``source`` is none of these, or the molecule does not fit the box.
    FormatError
        If the file is broken, or a map is dark where the molecule is.

    Examples
    --------
    >>> from tomosift.simulation.structures.densities import template
    >>> template("apoferritin", voxel_spacing_angstrom=16.0, box_size=24).shape
    torch.Size([24, 24, 24])
    """
    if str(source) in atlas_names():
        return entry_density(load_atlas_entry(str(source)), voxel_spacing_angstrom, box_size, resolution_angstrom)
    path = Path(source)
    if not path.exists():
        names = ", ".join(atlas_names())
        raise ValueError(f"{source} is neither a file nor a name of the atlas; the atlas has {names}")
    if path.name.lower().removesuffix(".gz").endswith((*STRUCTURE_SUFFIXES, ".mmtf")):
        structure = read_structure(path, assembly=assembly)
        return potential(structure, voxel_spacing_angstrom, box_size, resolution_angstrom)
    return density_from_map(
        path,
        voxel_spacing_angstrom,
        box_size,
        resolution_angstrom,
        dark_protein=dark_protein,
        map_voxel_spacing_angstrom=map_voxel_spacing_angstrom,
    )


def potential(
    structure: Structure,
    voxel_spacing_angstrom: float,
    box_size: int,
    resolution_angstrom: float | None = None,
    solvent_volt: float = ICE_VOLT,
) -> Float[Tensor, "d d d"]:
    """Return the potential of a structure against ice, volts, its center of mass on voxel ``box_size // 2``.

    Raises
    ------
    ValueError
        If the molecule does not fit the box.
    """
    position, number = centered_atoms(structure)
    half = (box_size // 2) * voxel_spacing_angstrom
    outside = (np.abs(position) > half).any(axis=1).mean() if len(position) else 0.0
    require_fit(float(outside), float(np.abs(position).max(initial=0.0)), voxel_spacing_angstrom, box_size)
    return potential_of_atoms(
        torch.from_numpy(position).float(),
        torch.from_numpy(number),
        voxel_spacing_angstrom,
        box_size,
        resolution_angstrom,
        solvent_volt,
    )


def density_from_map(
    path: Path,
    voxel_spacing_angstrom: float,
    box_size: int,
    resolution_angstrom: float | None = None,
    *,
    dark_protein: bool = False,
    map_voxel_spacing_angstrom: float | None = None,
) -> Float[Tensor, "d d d"]:
    """Return the density of a map file on another grid, scaled to protein contrast, centered by mass.

    The background (median outside the inscribed ellipsoid) is subtracted. If the background is noisy, the map is
    lowered by `NOISE_FLOOR_SIGMAS` of that noise and clipped at zero. Values are scaled so that the mean inside `mask`
    is `PROTEIN_CONTRAST_VOLT`, because map units are arbitrary. The map is resampled by its Fourier series, which is
    exact for any ratio of spacings; beyond its faces the density is zero.

    Parameters
    ----------
    dark_protein
        Whether the map is dark where the molecule is; it is then inverted.
    map_voxel_spacing_angstrom
        Voxel spacing of the file, if its header has none or a wrong one.

    Raises
    ------
    FormatError
        If the spacing is unknown, the map is constant or not finite, or it is dark without ``dark_protein``.
    ValueError
        If the molecule does not fit the box.
    """
    volume = open_volume(path)
    spacing = map_voxel_spacing_angstrom or volume.voxel_spacing_angstrom
    if spacing is None:
        raise FormatError(
            path, "voxel spacing", "0 or missing", "Angstrom per voxel", "give map_voxel_spacing_angstrom"
        )
    data = volume.read().astype(np.float32)
    if not np.isfinite(data).all():
        raise FormatError(path, "density", "NaN or infinite in some voxels", "finite values", "write the map again")
    molecule = _molecule_of_map(path, -data if dark_protein else data)
    center = _center_of_mass(molecule)
    half = (box_size // 2) * voxel_spacing_angstrom / spacing
    require_fit(*_measure_outside(molecule, center, half, spacing), voxel_spacing_angstrom, box_size)
    resampled = _resample(molecule, spacing, center, voxel_spacing_angstrom, box_size, resolution_angstrom)
    return resampled * (PROTEIN_CONTRAST_VOLT / resampled[mask(resampled)].mean())


def mask(density: Float[Tensor, "*batch d d d"], threshold: float = MASK_THRESHOLD) -> Bool[Tensor, "*batch d d d"]:
    """Return the mask of the molecule: density above ``threshold`` times the maximum of its own box."""
    return density > threshold * density.amax(dim=(-3, -2, -1), keepdim=True)


def template_radius_angstrom(
    density: Float[Tensor, "d d d"], voxel_spacing_angstrom: float, threshold: float = MASK_THRESHOLD
) -> float:
    """Return the radius of the sphere about voxel ``d // 2`` that holds every voxel of `mask` completely."""
    size = density.shape[-1]
    offset = torch.nonzero(mask(density, threshold)).float() - size // 2
    if len(offset) == 0:
        return 0.0
    return (float(offset.norm(dim=1).max()) + 0.5) * voxel_spacing_angstrom


def _molecule_of_map(path: Path, data: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the map above its background, positive where the molecule is."""
    axes = [(np.arange(n) - (n - 1) / 2) / (n / 2) for n in data.shape]
    outside = data[sum(np.ix_(*(axis**2 for axis in axes))) > 1]
    background = np.median(outside)
    above_background: NDArray[np.float32] = data - background
    scale = float(np.sqrt(np.mean(above_background.astype(np.float64) ** 2)))
    if scale == 0:
        raise FormatError(path, "density", "the same everywhere", "a molecule", "choose another map")
    if float(np.mean((above_background / scale).astype(np.float64) ** 3)) < 0:
        raise FormatError(
            path,
            "density",
            "dark where the molecule is (its values lie mostly below the background)",
            "bright molecule",
            "set dark_protein=True",
        )
    noise = 1.4826 * float(np.median(np.abs(outside - background)))
    if noise < CLEAN_BACKGROUND * above_background.max():
        return above_background
    molecule: NDArray[np.float32] = np.clip(above_background - np.float32(NOISE_FLOOR_SIGMAS * noise), 0, None)
    if not molecule.any():
        got = f"nowhere {NOISE_FLOOR_SIGMAS:g} standard deviations above the map's corners"
        raise FormatError(path, "density", got, "a molecule with background around it", "pad the map")
    return molecule


def _center_of_mass(density: NDArray[np.float32]) -> NDArray[np.float64]:
    positive = density.clip(0).astype(np.float64)
    center = np.zeros(3)
    for axis in range(3):
        profile = positive.sum(axis=tuple(other for other in range(3) if other != axis))
        center[axis] = profile @ np.arange(len(profile)) / profile.sum()
    return center


def _measure_outside(
    density: NDArray[np.float32], center: NDArray[np.float64], half_voxels: float, spacing: float
) -> tuple[float, float]:
    """Return the share of the density outside a box of this half width, and the half width of the molecule (A)."""
    inside = np.where(density > MASK_THRESHOLD * density.max(), density, 0)
    index = np.argwhere(inside)
    distance = np.abs(index - center).max(axis=1)
    value = inside[tuple(index.T)]
    return float(value[distance > half_voxels].sum() / value.sum()), float(distance.max()) * spacing


def _resample(
    data: NDArray[np.float32],
    spacing: float,
    center: NDArray[np.float64],
    voxel_spacing_angstrom: float,
    box_size: int,
    resolution_angstrom: float | None,
) -> Float[Tensor, "d d d"]:
    """Evaluate the Fourier series of ``data`` on the output grid about ``center`` (voxels of ``data``)."""
    coarse = max(spacing, voxel_spacing_angstrom)
    spectrum = torch.fft.rfftn(torch.from_numpy(np.ascontiguousarray(data)))
    waves, frequencies = [], []
    for axis, length in enumerate(data.shape):
        order = torch.fft.fftfreq(length, 1 / length).round() if axis < 2 else torch.arange(length // 2 + 1).float()
        kept = (order.abs() / (length * spacing) < 1 / (2 * coarse)).nonzero()[:, 0]
        spectrum = spectrum.index_select(axis, kept)
        position = float(center[axis]) + (torch.arange(box_size) - box_size // 2) * (voxel_spacing_angstrom / spacing)
        within = (position > -0.5) & (position < length - 0.5)
        phase = 2 * math.pi / length * position[:, None].double() * order[kept]
        waves.append(torch.polar(within[:, None].double().expand_as(phase), phase).to(spectrum.dtype))
        frequencies.append(order[kept] / (length * spacing))
    # The half of the spectrum that rfftn omits is the conjugate of the half that it keeps, except for the plane x = 0.
    waves[2] = waves[2] * torch.where(torch.arange(waves[2].shape[1]) == 0, 1.0, 2.0)
    z, y, x = (frequency**2 for frequency in frequencies)
    spectrum = spectrum * soft_nyquist(z[:, None, None] + y[:, None] + x, coarse, resolution_angstrom)
    for axis in (2, 1, 0):
        spectrum = torch.tensordot(spectrum, waves[axis].T, dims=([axis], [0])).movedim(-1, axis)
    resampled: Tensor = (spectrum.real / data.size).float().contiguous()
    return resampled
