"""What else is in the ice: membranes and gold beads, drawn straight onto the voxel grid."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Surroundings:
    """How many membranes and gold beads a specimen holds and what they look like. All counts zero: plain ice."""

    vesicles: int = 0
    """Closed membranes of ``vesicle_radius_angstrom``, slightly out of round; they may leave the slab."""
    sheets: int = 0
    """Patches of membranes so large that they cross the whole slab."""
    gold_beads: int = 0
    """Fiducials, wholly inside the volume."""
    vesicle_radius_angstrom: tuple[float, float] = (200.0, 500.0)
    sheet_radius_angstrom: tuple[float, float] = (1500.0, 5000.0)
    leaflet_distance_angstrom: float = 36.0
    """Between the two planes of head groups; with their width the membrane is 40 to 50 A thick."""
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
    """Offsets from ``center`` along each axis, in voxels, shaped for broadcasting."""
    z, y, x = (np.arange(size, dtype=np.float32) - np.float32(c) for size, c in zip(shape_zyx, center, strict=True))
    return [z[:, None, None], y[None, :, None], x[None, None, :]]


def membrane(
    shape_zyx: tuple[int, int, int],
    voxel_spacing_angstrom: float,
    center_voxel: NDArray[np.float64],
    radius_angstrom: float,
    surroundings: Surroundings,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """One spherical membrane: two Gaussian leaflets with a dip between them.

    Returns the density (head groups peak near 1; the tails lie slightly below the ice) and the voxels it claims.
    The radius varies with direction by some percent, so that no two vesicles are alike; distances are measured along
    the radius, which is exact to second order in that variation.
    """
    z, y, x = _coordinates(shape_zyx, center_voxel)
    distance = np.sqrt(z * z + y * y + x * x)
    axes = rng.normal(size=(3, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    strength = rng.uniform(-0.06, 0.06, size=3)
    wobble = np.zeros(shape_zyx, dtype=np.float32)
    inverse = 1.0 / np.maximum(distance, 1.0)
    for (az, ay, ax), amount, power in zip(axes.astype(np.float32), strength, (2, 2, 3), strict=True):
        wobble += np.float32(amount) * ((az * z + ay * y + ax * x) * inverse) ** power
    depth = (distance - np.float32(radius_angstrom / voxel_spacing_angstrom) * (1 + wobble)) * voxel_spacing_angstrom
    half = surroundings.leaflet_distance_angstrom / 2
    # A leaflet thinner than the voxel would alias: its width is never taken below 1.2 voxels.
    sigma = max(surroundings.leaflet_width_angstrom, 1.2 * voxel_spacing_angstrom) / 2.3548
    heads = np.exp(-0.5 * ((depth - half) / sigma) ** 2) + np.exp(-0.5 * ((depth + half) / sigma) ** 2)
    tails = np.exp(-0.5 * (depth / (0.4 * half)) ** 2)
    claimed = np.abs(depth) < half + surroundings.leaflet_width_angstrom
    return (heads - 0.2 * tails).astype(np.float32), claimed


def gold_bead(
    shape_zyx: tuple[int, int, int],
    voxel_spacing_angstrom: float,
    center_voxel: NDArray[np.float64],
    diameter_angstrom: float,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """A ball of density 1 whose edge is one voxel soft, and the voxels it claims."""
    z, y, x = _coordinates(shape_zyx, center_voxel)
    depth = np.sqrt(z * z + y * y + x * x) - np.float32(0.5 * diameter_angstrom / voxel_spacing_angstrom)
    return np.clip(0.5 - depth, 0, 1).astype(np.float32), depth < 0.5


def draw_membrane_position(
    shape_zyx: tuple[int, int, int],
    voxel_spacing_angstrom: float,
    surroundings: Surroundings,
    sheet: bool,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float64], float]:
    """Center (voxels) and radius (Angstrom) of a membrane.

    A sheet passes through a point of the volume, with its normal within 35 degrees of the plane of the slab, as far
    as tomography shows membranes at all: those that lie flat vanish in the missing wedge.
    """
    size = np.asarray(shape_zyx, dtype=np.float64)
    point = rng.uniform(0.15, 0.85, size=3) * (size - 1)
    if not sheet:
        return point, float(rng.uniform(*surroundings.vesicle_radius_angstrom))
    radius = float(rng.uniform(*surroundings.sheet_radius_angstrom))
    azimuth, elevation = rng.uniform(0, 2 * np.pi), rng.uniform(-1, 1) * np.deg2rad(35)
    direction = np.asarray(
        [np.sin(elevation), np.cos(elevation) * np.sin(azimuth), np.cos(elevation) * np.cos(azimuth)]
    )
    return point - direction * radius / voxel_spacing_angstrom, radius
