"""Positions in tomograms without picks: examples of background."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from tomosift.data.extraction.tomograms import Tomogram, match_tomograms
from tomosift.particles import Grid, Particles

_TRIES = 200  # candidates per requested position


def sample_empty_positions(
    particles: Particles,
    tomograms: Mapping[str, Tomogram],
    count: int,
    distance_angstrom: float,
    margin_angstrom: float,
    seed: int,
) -> Particles:
    """Draw random positions away from all picks, evenly from all tomograms that have picks.

    Where a box is thicker than the tomogram, positions lie in the central plane of that axis. Membranes, gold and
    particles without a pick occur there as well.

    Parameters
    ----------
    particles
        The picks.
    tomograms
        By name, as of `open_tomograms`.
    count
        Number of positions.
    distance_angstrom
        Smallest distance from every pick.
    margin_angstrom
        Smallest distance from the border of the tomogram.
    seed
        Of the draws.

    Raises
    ------
    ValueError
        ``count`` is below 1, or a tomogram has no such position.
    """
    if count < 1:
        raise ValueError(f"empty is {count}, expected at least 1 position")
    key_of = match_tomograms([str(name) for name in particles.tomogram], tomograms)
    keys = np.asarray([key_of[str(name)] for name in particles.tomogram], dtype=object)
    names = list(dict.fromkeys(keys))
    shares = np.diff(np.linspace(0, count, len(names) + 1).round().astype(int))
    rng = np.random.default_rng([seed, len(names)])
    positions = []
    for name, share in zip(names, shares, strict=True):
        if not share:
            continue
        picked = particles.position_zyx_angstrom[keys == name]
        candidates = _draw(tomograms[name].grid, margin_angstrom, _TRIES * int(share), rng)
        away = candidates[cKDTree(picked).query(candidates)[0] >= distance_angstrom][:share]
        if not len(away):
            raise ValueError(
                f"tomogram {name} has no position {distance_angstrom:g} A away from all picks; lower the distance"
            )
        positions.append(away)
    tomogram = np.repeat(np.array(names, dtype=object)[shares > 0], [len(part) for part in positions])
    return Particles.create(
        tomogram=tomogram,
        position_zyx_angstrom=np.concatenate(positions),
        particle_id=[f"{name}/empty_{row:06d}" for row, name in enumerate(tomogram)],
    )


def _draw(grid: Grid, margin_angstrom: float, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    extent = (np.array(grid.shape_zyx) - 1) * grid.voxel_spacing_angstrom
    low = np.minimum(margin_angstrom, extent / 2)
    return rng.uniform(low, extent - low, (count, 3))
