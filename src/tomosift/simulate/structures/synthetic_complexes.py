"""Complexes that do not exist: random subunits in random point groups, as Gaussian beads.

They teach what complexes in general look like, in any number, with no structure file and no chance that one of them is
a homologue of what is asked for later.
"""

import math
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation
from torch import Tensor

from tomosift.data.subtomograms import Subtomograms
from tomosift.physics.imaging import ImagingRanges
from tomosift.simulate.structures.bead_templates import BeadTemplates, prepare_beads
from tomosift.simulate.subtomograms import Progress, SubtomogramSetConfig, simulate_subtomograms

SMALLEST_KDA, LARGEST_KDA = 60.0, 2500.0
"""Masses of the complexes; their logarithm is drawn uniformly."""
LARGEST_RADIUS_ANGSTROM = 150.0

_KDA_PER_BEAD = 3.0
_VOLT_ANGSTROM3_PER_KDA = 3500.0  # 1.23 A^3 per dalton at 2.9 V against ice
_STEP_ANGSTROM = 16.0  # beads of 3 kDa are about this far apart in a protein
_CONTACT_ANGSTROM = 13.0
_NUCLEIC = 0.15  # share of complexes that hold denser subunits
_SMALLEST_SUBUNIT_KDA = 10.0
_GROUPS: tuple[tuple[str, float], ...] = (
    ("C1", 0.3),
    *((f"C{n}", 0.25 / 7) for n in range(2, 9)),
    *((f"D{n}", 0.3 / 7) for n in range(2, 9)),
    ("T", 0.05),
    ("O", 0.05),
    ("I", 0.05),
)
_ORDERS = {name: {"T": 12, "O": 24, "I": 60}.get(name) or int(name[1:]) * (1 + (name[0] == "D")) for name, _ in _GROUPS}


def synthetic_complex(rng: np.random.Generator) -> Float[Tensor, "n 5"]:
    """Beads (z, y, x, width, weight) of one complex, centered by mass; the same for the same state of ``rng``.

    Subunits are compact random walks. One of them is copied by a point group, its copies as near as they get without
    cutting each other; an asymmetric complex is of one to six different ones. All shares and sizes are ours.
    """
    names, shares = zip(*_GROUPS, strict=True)
    while True:
        mass_kda = float(np.exp(rng.uniform(math.log(SMALLEST_KDA), math.log(LARGEST_KDA))))
        group = str(rng.choice(names, p=np.array(shares) / sum(shares)))
        subunit_kda = mass_kda / _ORDERS[group]
        if subunit_kda < _SMALLEST_SUBUNIT_KDA:
            continue
        position = _assembled(mass_kda, rng) if group == "C1" else _symmetric(_walk(subunit_kda, rng), group, rng)
        position -= position.mean(axis=0)
        if np.linalg.norm(position, axis=1).max() <= LARGEST_RADIUS_ANGSTROM:
            break
    weight = np.full(len(position), mass_kda / len(position) * _VOLT_ANGSTROM3_PER_KDA)
    if rng.random() < _NUCLEIC:
        weight *= rng.uniform(1.2, 1.9)
    width = np.full(len(position), rng.uniform(5.0, 7.0))
    return torch.tensor(np.column_stack((position, width, weight)), dtype=torch.float32)


def subunit(mass_kda: float, rng: np.random.Generator) -> tuple[NDArray[np.float64], float]:
    """Places (n, 3) of the beads of a protein of this mass about its middle, in Angstrom, and the weight of each."""
    position = _walk(mass_kda, rng)
    return position, mass_kda / len(position) * _VOLT_ANGSTROM3_PER_KDA


def synthetic_names(count: int, seed: int) -> tuple[str, ...]:
    """Names of the complexes that `random_complexes` makes of the same arguments."""
    return tuple(f"random-{seed}-{index:04d}" for index in range(count))


def synthetic_complexes(count: int, seed: int, voxel_spacing_angstrom: float) -> BeadTemplates:
    """``count`` random complexes, ready to be drawn; those of another seed have none in common with them."""
    beads = [synthetic_complex(np.random.default_rng([seed, index])) for index in range(count)]
    return prepare_beads(beads, voxel_spacing_angstrom)


def simulate_synthetic_complexes(
    count: int,
    per_class: int,
    ranges: ImagingRanges,
    seed: int,
    folder: Path,
    *,
    box_size: int = 32,
    voxel_spacing_angstrom: float = 10.0,
    max_neighbors: int = 4,
    masks: bool = False,
    seed_of_particles: int | None = None,
    progress: Progress | None = None,
) -> Subtomograms:
    """Boxes of ``count`` complexes that do not exist, in a set below ``folder``; see `simulate_subtomograms`.

    Sets of different seeds have no complex in common. The seed is that of poses and noise as well, unless
    ``seed_of_particles`` asks for other particles of the same complexes.
    """
    config = SubtomogramSetConfig(
        synthetic_names(count, seed),
        per_class,
        box_size,
        ranges,
        voxel_spacing_angstrom,
        max_neighbors,
        seed=seed if seed_of_particles is None else seed_of_particles,
    )
    templates = partial(synthetic_complexes, count, seed, voxel_spacing_angstrom)
    return simulate_subtomograms(config, folder, templates=templates, masks=masks, progress=progress)


def _walk(mass_kda: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """A compact, self-avoiding chain of beads, drawn towards its own middle and squeezed along random axes."""
    count = max(2, round(mass_kda / _KDA_PER_BEAD))
    pull = rng.uniform(0.0, 0.5)
    position = np.zeros((count, 3))
    for index in range(1, count):
        before = position[:index]
        start = before[-1]
        step = rng.normal(size=(16, 3))
        toward = before.mean(axis=0) - start
        step += pull * toward / max(np.linalg.norm(toward), 1.0) * math.sqrt(3)
        tried = start + _STEP_ANGSTROM * step / np.linalg.norm(step, axis=1, keepdims=True)
        nearest = np.linalg.norm(tried[:, None] - before, axis=2).min(axis=1)
        # A little noise decides between places that are free enough: chains fold differently.
        position[index] = tried[(np.minimum(nearest, 0.8 * _STEP_ANGSTROM) + rng.uniform(0, 2, 16)).argmax()]
    position -= position.mean(axis=0)
    return position * np.exp(rng.normal(0, 0.15, size=3))


def _symmetric(subunit: NDArray[np.float64], group: str, rng: np.random.Generator) -> NDArray[np.float64]:
    """All copies of a subunit by a point group about z, as near each other as they get without cutting."""
    subunit = Rotation.random(random_state=int(rng.integers(2**31))).apply(subunit)
    kind, order = group[0], int(group[1:] or 0)
    if kind in "CD":
        ring = _copied(subunit, _group(f"C{order}"), np.array([1.0, 0.0, 0.0]))
        # Ring upon ring, turned by any angle about their axis.
        turn = Rotation.from_euler("z", rng.uniform(0, 360), degrees=True)
        pair = Rotation.concatenate([Rotation.identity(), turn * Rotation.from_euler("x", 180, degrees=True)])
        return _copied(ring, pair, np.array([0.0, 0.0, 1.0])) if kind == "D" else ring
    direction = rng.normal(size=3)
    return _copied(subunit, _group(kind), direction / np.linalg.norm(direction))


def _group(name: str) -> Rotation:
    return Rotation.create_group(name)  # type: ignore[arg-type]  # SciPy's types know no order of a cyclic group


def _copied(part: NDArray[np.float64], copies: Rotation, direction: NDArray[np.float64]) -> NDArray[np.float64]:
    """Copies (the first is the identity) of a part that was moved along a direction until none of them touch."""
    matrices, tree = copies.as_matrix(), cKDTree(part)
    for distance in np.arange(0.0, 3 * LARGEST_RADIUS_ANGSTROM, 4.0):
        moved = part + distance * direction
        others = np.concatenate([moved @ matrix.T for matrix in matrices[1:]]) - distance * direction
        if np.min(tree.query(others)[0]) >= _CONTACT_ANGSTROM:
            break
    return np.concatenate([moved @ matrix.T for matrix in matrices])


def _assembled(mass_kda: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """One to six different subunits, each pushed against those that are there from a random direction."""
    shares = rng.dirichlet(np.full(int(rng.integers(1, 7)), 2.0))
    whole = _walk(mass_kda * shares[0], rng)
    for share in shares[1:]:
        subunit = _walk(mass_kda * share, rng)
        direction = rng.normal(size=3)
        direction /= np.linalg.norm(direction)
        there = cKDTree(whole)
        distance = 0.0
        while np.min(there.query(subunit + distance * direction)[0]) < _CONTACT_ANGSTROM:
            distance += 4.0
        whole = np.concatenate((whole, subunit + distance * direction))
    return whole
