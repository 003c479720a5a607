"""Checks of the box against the mean particle."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from tomosift.data.checks.findings import Finding
from tomosift.data.extraction.tomograms import Tomogram
from tomosift.particles import Particles

World = tuple[Particles, dict[str, Tomogram]]
Check = Callable[..., dict[str, Finding]]
Move = Callable[[Particles, NDArray[np.float64]], Particles]
SPACING = 10.0


def test_the_diameter_is_measured_in_the_mean_box(world: World, check: Check) -> None:
    diameter = check(*world)["box size"].measured["diameter_seen_angstrom"]
    assert 60 < diameter < 105


@pytest.mark.parametrize(
    ("box_size", "diameter", "level"),
    [(12, 80.0, "ok"), (9, 80.0, "warning"), (6, 80.0, "error"), (40, 80.0, "warning"), (12, None, "ok")],
)
def test_boxes_are_compared_with_the_particle(
    world: World, box_size: int, diameter: float | None, level: str, check: Check
) -> None:
    assert check(*world, box_size=box_size, diameter=diameter)["box size"].level == level


def test_a_stated_diameter_unlike_the_mean_box_is_a_warning(world: World, check: Check) -> None:
    found = check(*world, box_size=48, diameter=300.0)["box size"]
    assert found.level == "warning"
    assert "300 A" in found.sentence


def test_picks_beside_their_particles_are_found(world: World, check: Check, move: Move) -> None:
    particles, tomograms = world
    found = check(move(particles, particles.position_zyx_angstrom / SPACING + np.array([0.0, 2.0, 0.0])), tomograms)[
        "centering"
    ]
    assert found.level == "warning"
    np.testing.assert_allclose(found.measured["offset_zyx_voxels"], [0, -2, 0], atol=0.6)
