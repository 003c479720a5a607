"""Distractors: objects that pickers mistake for particles, as Gaussian beads.

These are gold, membranes, filaments and fragments of complexes. None is a copy of a real object; sizes and shares are
ours. In training each is a class.
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch import Tensor

from tomosift.simulation.structures.synthetic_complexes import (
    LARGEST_RADIUS_ANGSTROM,
    random_subunit,
    synthetic_complex,
)

_GOLD_VOLT = 20.0  # against ice
_GOLD_DIAMETERS_ANGSTROM = (50.0, 150.0)
_GOLD_STEP_ANGSTROM = 12.0
_HEAD_GROUP_VOLT, _HEAD_GROUP_THICKNESS_ANGSTROM = 2.0, 12.0
_LEAFLET_DISTANCE_ANGSTROM = (34.0, 42.0)
_LEAST_CURVATURE_RADIUS_ANGSTROM = 200.0
_LIPID_STEP_ANGSTROM = 16.0
_FILAMENT_SUBUNIT_KDA = (10.0, 50.0)
_FILAMENT_STRANDS = 13
_FILAMENT_RISE_ANGSTROM = (25.0, 80.0)


def random_distractor(rng: np.random.Generator) -> Float[Tensor, "n 5"]:
    """Draw the beads (z, y, x, width, weight) of a distractor of one of the four kinds.

    Examples
    --------
    >>> import numpy as np
    >>> from tomosift.simulation.structures.distractors import random_distractor
    >>> random_distractor(np.random.default_rng(0)).shape[1]
    5
    """
    kinds: tuple[Callable[[np.random.Generator], NDArray[np.float64]], ...] = (_gold, _membrane, _filament, _fragment)
    return torch.tensor(kinds[rng.integers(len(kinds))](rng), dtype=torch.float32)


def _gold(rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw a gold bead as a lattice of beads."""
    low, high = np.log(_GOLD_DIAMETERS_ANGSTROM)
    radius = float(np.exp(rng.uniform(low, high))) / 2
    axis = np.arange(-radius, radius + _GOLD_STEP_ANGSTROM, _GOLD_STEP_ANGSTROM)
    axis -= axis.mean()
    position = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    position = position[np.linalg.norm(position, axis=1) <= radius]
    return _beads(position, _GOLD_STEP_ANGSTROM / 2, _GOLD_VOLT * _GOLD_STEP_ANGSTROM**3)


def _membrane(rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw a round patch of two leaflets, flat or curved like a vesicle."""
    curvature = rng.uniform(0, 1 / _LEAST_CURVATURE_RADIUS_ANGSTROM)
    distance = rng.uniform(*_LEAFLET_DISTANCE_ANGSTROM)
    axis = np.arange(-LARGEST_RADIUS_ANGSTROM, LARGEST_RADIUS_ANGSTROM + 1, _LIPID_STEP_ANGSTROM)
    y, x = (part.ravel() for part in np.meshgrid(axis, axis, indexing="ij"))
    inside = np.hypot(y, x) < LARGEST_RADIUS_ANGSTROM - distance
    y, x = y[inside], x[inside]
    height = -0.5 * curvature * (y**2 + x**2)
    position = np.concatenate([np.stack((height + side * distance / 2, y, x), axis=1) for side in (-1, 1)])
    volume = _LIPID_STEP_ANGSTROM**2 * _HEAD_GROUP_THICKNESS_ANGSTROM
    return _beads(position, 7.0, _HEAD_GROUP_VOLT * volume)


def _filament(rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw a filament: rings of one to thirteen subunits, stacked with a random twist."""
    position, weight = random_subunit(float(rng.uniform(*_FILAMENT_SUBUNIT_KDA)), rng)
    strands = int(rng.integers(1, _FILAMENT_STRANDS + 1))
    reach = float(np.linalg.norm(position, axis=1).max())
    outward = reach * (0.5 if strands == 1 else 1.2 / (2 * np.sin(np.pi / max(strands, 2))))
    outer = position + np.array([0.0, 0.0, outward])
    angles = 2 * np.pi * np.arange(strands) / strands
    ring = np.concatenate([Rotation.from_euler("x", angle).apply(outer) for angle in angles])
    rise, twist = max(float(rng.uniform(*_FILAMENT_RISE_ANGSTROM)), 1.2 * reach), rng.uniform(0, 2 * np.pi)
    count = int(LARGEST_RADIUS_ANGSTROM // rise)
    rings = [Rotation.from_euler("x", k * twist).apply(ring) for k in range(-count, count + 1)]
    along = np.repeat(np.arange(-count, count + 1) * rise, len(ring))
    stacked = np.concatenate(rings) + np.column_stack((along, np.zeros((len(along), 2))))
    inside = np.linalg.norm(stacked, axis=1) <= LARGEST_RADIUS_ANGSTROM
    return _beads(stacked[inside], 6.0, weight)


def _fragment(rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw a synthetic complex and return the part on one side of a plane, centered."""
    beads = synthetic_complex(rng).double().numpy()
    height = beads[:, :3] @ Rotation.random(random_state=int(rng.integers(2**31))).as_matrix()[0]
    part = beads[height <= np.quantile(height, rng.uniform(0.3, 0.7))]
    part[:, :3] -= part[:, :3].mean(axis=0)
    return np.asarray(part)


def _beads(position: NDArray[np.float64], width: float, weight: float) -> NDArray[np.float64]:
    return np.column_stack((position, np.full(len(position), width), np.full(len(position), weight)))
