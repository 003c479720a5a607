"""Membranes and gold beads of a specimen, drawn directly onto the voxel grid."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class MembranesAndGold:
    """Number, size and density of the membranes and gold beads of a specimen. All counts zero give plain ice."""

    vesicles: int = 0
    """Closed membranes of ``vesicle_radius_angstrom``, slightly deformed; they may leave the slab."""
    sheets: int = 0
    """Membranes so large that they cross the whole slab."""
    gold_beads: int = 0
    """Fiducials, completely inside the volume."""
    vesicle_radius_angstrom: tuple[float, float] = (200.0, 500.0)
    sheet_radius_angstrom: tuple[float, float] = (1500.0, 5000.0)
    leaflet_distance_angstrom: float = 36.0
    """Distance of the two planes of head groups; with their width the membrane is 40 to 50 A thick."""
    leaflet_width_angstrom: float = 12.0
    """Full width at half maximum of one plane of head groups."""
    membrane_strength: float = 0.8
    """Density of the head groups, in units of a typical particle's interior."""
    gold_diameter_angstrom: float = 100.0
    gold_strength: float = 10.0
    """Density of gold, in units of a typical particle's interior (about 24 V against 2 V above the ice)."""

    def __post_init__(self) -> None:
        for name in ("vesicles", "sheets", "gold_beads"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 0 or more")
        if self.leaflet_width_angstrom <= 0 or self.gold_diameter_angstrom <= 0:
            raise ValueError("leaflet_width_angstrom and gold_diameter_angstrom must be positive")


def _coordinates(shape_zyx: tuple[int, int, int], center: NDArray[np.float64]) -> list[NDArray[np.float32]]:
    """Return offsets from ``center`` along each axis, in voxels, shaped for broadcasting."""
    z, y, x = (np.arange(size, dtype=np.float32) - np.float32(c) for size, c in zip(shape_zyx, center, strict=True))
    return [z[:, None, None], y[None, :, None], x[None, None, :]]


def draw_membrane(
    shape_zyx: tuple[int, int, int],
    voxel_spacing_angstrom: float,
    center_voxel: NDArray[np.float64],
    radius_angstrom: float,
    settings: MembranesAndGold,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the density of one spherical membrane and the mask of the voxels that it occupies.

    The membrane is two Gaussian leaflets with a dip between them: head groups peak near 1, tails lie slightly below the
    ice. The radius varies with direction by some percent, so that no two vesicles are alike. Distances are measured
    along the radius, which is exact to second order in that variation.
    """
    z, y, x = _coordinates(shape_zyx, center_voxel)
    distance = np.sqrt(z * z + y * y + x * x)
    axes = rng.normal(size=(3, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    strength = rng.uniform(-0.06, 0.06, size=3)
    deformation = np.zeros(shape_zyx, dtype=np.float32)
    inverse = 1.0 / np.maximum(distance, 1.0)
    for (az, ay, ax), amount, power in zip(axes.astype(np.float32), strength, (2, 2, 3), strict=True):
        deformation += np.float32(amount) * ((az * z + ay * y + ax * x) * inverse) ** power
    depth = (
        distance - np.float32(radius_angstrom / voxel_spacing_angstrom) * (1 + deformation)
    ) * voxel_spacing_angstrom
    half = settings.leaflet_distance_angstrom / 2
    # A leaflet thinner than a voxel would alias: its width is at least 1.2 voxels.
    sigma = max(settings.leaflet_width_angstrom, 1.2 * voxel_spacing_angstrom) / 2.3548
    heads = np.exp(-0.5 * ((depth - half) / sigma) ** 2) + np.exp(-0.5 * ((depth + half) / sigma) ** 2)
    tails = np.exp(-0.5 * (depth / (0.4 * half)) ** 2)
    mask = np.abs(depth) < half + settings.leaflet_width_angstrom
    return (heads - 0.2 * tails).astype(np.float32), mask


def draw_gold_bead(
    shape_zyx: tuple[int, int, int],
    voxel_spacing_angstrom: float,
    center_voxel: NDArray[np.float64],
    diameter_angstrom: float,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return a ball of density 1 with an edge of one voxel, and the mask of the voxels that it occupies."""
    z, y, x = _coordinates(shape_zyx, center_voxel)
    depth = np.sqrt(z * z + y * y + x * x) - np.float32(0.5 * diameter_angstrom / voxel_spacing_angstrom)
    return np.clip(0.5 - depth, 0, 1).astype(np.float32), depth < 0.5


def draw_membrane_position(
    shape_zyx: tuple[int, int, int],
    voxel_spacing_angstrom: float,
    settings: MembranesAndGold,
    is_sheet: bool,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float64], float]:
    """Draw the center (voxels) and the radius (Angstrom) of a membrane.

    A sheet passes through a random point of the volume. Its normal is within 35 degrees of the plane of the slab,
    because membranes that lie flat in the ice vanish in the missing wedge.
    """
    size = np.asarray(shape_zyx, dtype=np.float64)
    point = rng.uniform(0.15, 0.85, size=3) * (size - 1)
    if not is_sheet:
        return point, float(rng.uniform(*settings.vesicle_radius_angstrom))
    radius = float(rng.uniform(*settings.sheet_radius_angstrom))
    azimuth, elevation = rng.uniform(0, 2 * np.pi), rng.uniform(-1, 1) * np.deg2rad(35)
    direction = np.asarray(
        [np.sin(elevation), np.cos(elevation) * np.sin(azimuth), np.cos(elevation) * np.cos(azimuth)]
    )
    return point - direction * radius / voxel_spacing_angstrom, radius
