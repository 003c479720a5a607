"""Synthetic complexes: random subunits in random point groups, as Gaussian beads.

They are training data of unlimited number that need no structure files. None of them is a homologue of a complex that a
model is later applied to.
"""

import math

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation
from torch import Tensor

from tomosift.simulation.structures.bead_templates import BeadTemplates, prepare_beads

SMALLEST_KDA, LARGEST_KDA = 60.0, 2500.0
"""Range of the masses; their logarithm is drawn uniformly."""
LARGEST_RADIUS_ANGSTROM = 150.0

_KDA_PER_BEAD = 3.0
_VOLT_ANGSTROM3_PER_KDA = 3500.0  # 1.23 A^3 per dalton at 2.9 V against ice
_STEP_ANGSTROM = 16.0  # beads of 3 kDa are about this far apart in a protein
_CONTACT_ANGSTROM = 13.0
_NUCLEIC_SHARE = 0.15  # of complexes, which are denser
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
    """Draw the beads (z, y, x, width, weight) of one complex, centered by mass, a function of the state of ``rng``.

    Subunits are compact random walks. A symmetric complex is one subunit, copied by a point group, with its copies in
    contact. An asymmetric complex has one to six different subunits. All shares and sizes are ours.

    Examples
    --------
    >>> import numpy as np
    >>> from tomosift.simulation.structures.synthetic_complexes import synthetic_complex
    >>> synthetic_complex(np.random.default_rng(0)).shape[1]
    5
    """
    names, shares = zip(*_GROUPS, strict=True)
    while True:
        mass_kda = float(np.exp(rng.uniform(math.log(SMALLEST_KDA), math.log(LARGEST_KDA))))
        group = str(rng.choice(names, p=np.array(shares) / sum(shares)))
        subunit_kda = mass_kda / _ORDERS[group]
        if subunit_kda < _SMALLEST_SUBUNIT_KDA:
            continue
        position = (
            _assemble(mass_kda, rng) if group == "C1" else _symmetrize(_random_walk(subunit_kda, rng), group, rng)
        )
        position -= position.mean(axis=0)
        if np.linalg.norm(position, axis=1).max() <= LARGEST_RADIUS_ANGSTROM:
            break
    weight = np.full(len(position), mass_kda / len(position) * _VOLT_ANGSTROM3_PER_KDA)
    if rng.random() < _NUCLEIC_SHARE:
        weight *= rng.uniform(1.2, 1.9)
    width = np.full(len(position), rng.uniform(5.0, 7.0))
    return torch.tensor(np.column_stack((position, width, weight)), dtype=torch.float32)


def random_subunit(mass_kda: float, rng: np.random.Generator) -> tuple[NDArray[np.float64], float]:
    """Draw the bead positions (n, 3) of a protein about its center (Angstrom) and the weight of each bead."""
    position = _random_walk(mass_kda, rng)
    return position, mass_kda / len(position) * _VOLT_ANGSTROM3_PER_KDA


def synthetic_names(count: int, seed: int) -> tuple[str, ...]:
    """Return the names of the complexes that `synthetic_complexes` draws for the same arguments."""
    return tuple(f"random-{seed}-{index:04d}" for index in range(count))


def synthetic_complexes(count: int, seed: int, voxel_spacing_angstrom: float) -> BeadTemplates:
    """Draw ``count`` synthetic complexes as templates; those of different seeds have no complex in common."""
    beads = [synthetic_complex(np.random.default_rng([seed, index])) for index in range(count)]
    return prepare_beads(beads, voxel_spacing_angstrom)


def _random_walk(mass_kda: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw a compact, self-avoiding chain of beads with a pull to its own center, scaled along the axes at random."""
    count = max(2, round(mass_kda / _KDA_PER_BEAD))
    pull = rng.uniform(0.0, 0.5)
    position = np.zeros((count, 3))
    for index in range(1, count):
        before = position[:index]
        start = before[-1]
        step = rng.normal(size=(16, 3))
        toward = before.mean(axis=0) - start
        step += pull * toward / max(np.linalg.norm(toward), 1.0) * math.sqrt(3)
        candidates = start + _STEP_ANGSTROM * step / np.linalg.norm(step, axis=1, keepdims=True)
        nearest = np.linalg.norm(candidates[:, None] - before, axis=2).min(axis=1)
        # A little noise decides between positions that are free enough, so that chains fold differently.
        position[index] = candidates[(np.minimum(nearest, 0.8 * _STEP_ANGSTROM) + rng.uniform(0, 2, 16)).argmax()]
    position -= position.mean(axis=0)
    return position * np.exp(rng.normal(0, 0.15, size=3))


def _symmetrize(subunit: NDArray[np.float64], group: str, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return all copies of a subunit by a point group about z, in contact."""
    subunit = Rotation.random(random_state=int(rng.integers(2**31))).apply(subunit)
    kind, order = group[0], int(group[1:] or 0)
    if kind in "CD":
        ring = _copy_in_contact(subunit, _group(f"C{order}"), np.array([1.0, 0.0, 0.0]))
        # One ring upon the other, rotated by a random angle about their axis.
        twist = Rotation.from_euler("z", rng.uniform(0, 360), degrees=True)
        pair = Rotation.concatenate([Rotation.identity(), twist * Rotation.from_euler("x", 180, degrees=True)])
        return _copy_in_contact(ring, pair, np.array([0.0, 0.0, 1.0])) if kind == "D" else ring
    direction = rng.normal(size=3)
    return _copy_in_contact(subunit, _group(kind), direction / np.linalg.norm(direction))


def _group(name: str) -> Rotation:
    return Rotation.create_group(name)  # type: ignore[arg-type]  # SciPy's types know no order of a cyclic group


def _copy_in_contact(
    part: NDArray[np.float64], copies: Rotation, direction: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return copies (the first is the identity) of a part, shifted along a direction until none of them overlap."""
    matrices, tree = copies.as_matrix(), cKDTree(part)
    for distance in np.arange(0.0, 3 * LARGEST_RADIUS_ANGSTROM, 4.0):
        shifted = part + distance * direction
        others = np.concatenate([shifted @ matrix.T for matrix in matrices[1:]]) - distance * direction
        if np.min(tree.query(others)[0]) >= _CONTACT_ANGSTROM:
            break
    return np.concatenate([shifted @ matrix.T for matrix in matrices])


def _assemble(mass_kda: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Assemble one to six different subunits, each shifted from a random direction until it touches the others."""
    shares = rng.dirichlet(np.full(int(rng.integers(1, 7)), 2.0))
    whole = _random_walk(mass_kda * shares[0], rng)
    for share in shares[1:]:
        subunit = _random_walk(mass_kda * share, rng)
        direction = rng.normal(size=3)
        direction /= np.linalg.norm(direction)
        tree = cKDTree(whole)
        distance = 0.0
        while np.min(tree.query(subunit + distance * direction)[0]) < _CONTACT_ANGSTROM:
            distance += 4.0
        whole = np.concatenate((whole, subunit + distance * direction))
    return whole
