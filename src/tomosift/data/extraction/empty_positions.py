"""Places in tomograms where no particle was picked: noise and surroundings to learn from."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from tomosift.data.extraction.tomograms import Tomogram, match_tomograms
from tomosift.particles import Grid, Particles

_TRIES = 200  # candidates drawn for every place that is asked for


def sample_empty_positions(
    particles: Particles,
    tomograms: Mapping[str, Tomogram],
    count: int,
    distance_angstrom: float,
    margin_angstrom: float,
    seed: int,
) -> Particles:
    """Random places, evenly from all tomograms that have picks, at least so far from every pick and from the border.

    Where a box is thicker than the tomogram, its middle is taken along that axis. Membranes, gold and particles that
    nobody picked are there as well.

    Raises
    ------
    ValueError
        When ``count`` is below 1 or a tomogram has no such place.
    """
    if count < 1:
        raise ValueError(f"empty is {count}, expected at least 1 place")
    key_of = match_tomograms([str(name) for name in particles.tomogram], tomograms)
    keys = np.asarray([key_of[str(name)] for name in particles.tomogram], dtype=object)
    names = list(dict.fromkeys(keys))
    shares = np.diff(np.linspace(0, count, len(names) + 1).round().astype(int))
    rng = np.random.default_rng([seed, len(names)])
    places = []
    for name, share in zip(names, shares, strict=True):
        if not share:
            continue
        picked = particles.position_zyx_angstrom[keys == name]
        drawn = _drawn(tomograms[name].grid, margin_angstrom, _TRIES * int(share), rng)
        away = drawn[cKDTree(picked).query(drawn)[0] >= distance_angstrom][:share]
        if not len(away):
            raise ValueError(
                f"tomogram {name} has no place {distance_angstrom:g} A away from all picks; ask for a smaller distance"
            )
        places.append(away)
    tomogram = np.repeat(np.array(names, dtype=object)[shares > 0], [len(part) for part in places])
    return Particles.create(
        tomogram=tomogram,
        position_zyx_angstrom=np.concatenate(places),
        particle_id=[f"{name}/empty_{row:06d}" for row, name in enumerate(tomogram)],
    )


def _drawn(grid: Grid, margin_angstrom: float, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    extent = (np.array(grid.shape_zyx) - 1) * grid.voxel_spacing_angstrom
    low = np.minimum(margin_angstrom, extent / 2)
    return rng.uniform(low, extent - low, (count, 3))
