"""Checks of tilt range and tilt axis."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tomosift.acquisition import Acquisition
from tomosift.data.checks.findings import Finding
from tomosift.data.extraction.tomograms import Tomogram
from tomosift.io.volumes import write_volume
from tomosift.particles import Grid, Particles

World = tuple[Particles, dict[str, Tomogram]]
Check = Callable[..., dict[str, Finding]]
Move = Callable[[Particles, NDArray[np.float64]], Particles]
SPACING = 10.0
SimulateBalls = Callable[[int], tuple[NDArray[np.float64], NDArray[np.float64]]]


def stated(low: float, high: float) -> Acquisition:
    return Acquisition(np.array([low, 0.0, high]), np.zeros(0), np.zeros(0))


@pytest.mark.parametrize(
    ("acquisition", "level", "word"),
    [
        (stated(-60, 60), "warning", "--tilt-range -5"),
        (stated(-60, 50), "warning", "reversed"),
        (stated(-48, 63), "ok", "agrees"),
        (Acquisition(np.zeros(0), np.zeros(0), np.zeros(0)), "warning", "assumed"),
    ],
)
def test_the_stated_tilt_range_is_compared_with_the_spectrum(
    world: World, acquisition: Acquisition, level: str, word: str, check: Check
) -> None:
    particles, tomograms = world
    found = check(particles, {name: replace(one, acquisition=acquisition) for name, one in tomograms.items()})
    assert found["tilt range"].level == level, found["tilt range"].sentence
    assert word in found["tilt range"].sentence


def test_exchanged_axes_are_an_error_and_a_rotated_tilt_axis_a_warning(
    world: World, tmp_path: Path, check: Check, move: Move
) -> None:
    particles, tomograms = world
    for order, level, word in (((1, 0, 2), "error", "around y"), ((0, 2, 1), "warning", "along x")):
        turned = {}
        for name, one in tomograms.items():
            volume = np.ascontiguousarray(one.open().read().transpose(order))
            write_volume(tmp_path / f"{name}.mrc", volume, SPACING)
            turned[name] = replace(one, path=tmp_path / f"{name}.mrc", grid=Grid(volume.shape, SPACING))
        found = check(move(particles, particles.position_zyx_angstrom[:, list(order)] / SPACING), turned)["tilt axis"]
        assert found.level == level, found.sentence
        assert word in found.sentence


def test_a_wedge_that_cannot_be_compared_is_noted(
    world: World,
    tmp_path: Path,
    check: Check,
    simulate_balls: SimulateBalls,
) -> None:
    particles, tomograms = world
    volume, _ = simulate_balls(0)
    write_volume(tmp_path / "TS_1.mrc", volume.astype(np.float32), SPACING)
    found = check(
        particles.select(particles.tomogram == "TS_1"), {"TS_1": replace(tomograms["TS_1"], path=tmp_path / "TS_1.mrc")}
    )
    assert (found["tilt axis"].level, found["tilt range"].level) == ("note", "note")
