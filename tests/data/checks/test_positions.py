"""Checks of positions: each mistake is found."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from tomosift.data.checks.findings import Finding
from tomosift.data.extraction.tomograms import Tomogram
from tomosift.particles import Particles

World = tuple[Particles, dict[str, Tomogram]]
Check = Callable[..., dict[str, Finding]]
Move = Callable[[Particles, NDArray[np.float64]], Particles]
SHAPE, SPACING = (48, 96, 104), 10.0


@pytest.mark.parametrize(
    ("mistake", "hypothesis"),
    [
        (lambda v: v - np.array(SHAPE) / 2, "centered"),
        (lambda v: v + np.array(SHAPE) / 2, "corner"),
        (lambda v: v * 4, "4 times too large"),
        (lambda v: v * SPACING, "Angstrom rather than pixels"),
        (lambda v: v[:, ::-1], "axes xyz"),
        (lambda v: v[:, [1, 0, 2]], "axes yzx"),
    ],
)
def test_the_mistake_behind_picks_outside_is_found(
    world: World, mistake: object, hypothesis: str, check: Check, move: Move
) -> None:
    particles, tomograms = world
    table = pd.DataFrame({"rlnPixelSize": np.full(len(particles), SPACING)})
    wrong = replace(move(particles, mistake(particles.position_zyx_angstrom / SPACING)), columns=table)  # type: ignore[operator]
    found = check(wrong, tomograms)["positions"]
    assert found.level == "error"
    assert found.measured["hypotheses"][0] in (hypothesis, "10 times too large"), found.sentence
    assert hypothesis in found.measured["hypotheses"]


def test_picks_outside_without_an_explanation_are_an_error(world: World, check: Check, move: Move) -> None:
    particles, tomograms = world
    wrong = move(particles, np.random.default_rng(0).uniform(-5000, 5000, size=(len(particles), 3)))
    found = check(wrong, tomograms)["positions"]
    assert found.level == "error"
    assert "no other scale" in found.sentence


def test_a_single_pick_outside_is_a_warning_with_its_distance(world: World, check: Check, move: Move) -> None:
    particles, tomograms = world
    position = particles.position_zyx_angstrom / SPACING
    position[7] = (20, 20, SHAPE[2] + 29.5)
    found = check(move(particles, position), tomograms)["positions"]
    assert found.level == "warning"
    assert (found.measured["outside"], found.measured["worst_voxels"]) == (1, 30.0)


def test_picks_in_a_corner_are_reported_as_binned(world: World, check: Check, move: Move) -> None:
    particles, tomograms = world
    found = check(move(particles, particles.position_zyx_angstrom / SPACING / 4), tomograms)["positions"]
    assert found.level == "error"
    assert found.measured["hypotheses"][0] == "4 times too small"


def test_copies_and_near_copies_are_counted(world: World, check: Check, move: Move) -> None:
    particles, tomograms = world
    for offset, same, level in ((0.2, 2, "warning"), (2.0, 0, "note")):
        position = particles.position_zyx_angstrom / SPACING
        position[1] = position[0] + np.array([0, 0, offset])
        found = check(move(particles, position), tomograms, diameter=80.0)["duplicates"]
        assert (found.level, found.measured["same_place"]) == (level, same)


def test_centered_tables_state_their_convention(world: World, check: Check) -> None:
    particles, tomograms = world
    optics = pd.DataFrame({"rlnTomoTiltSeriesPixelSize": [2.5]})
    table = pd.DataFrame({"rlnTomoName": particles.tomogram})
    found = check(replace(particles, source="relion5", columns=table, tables={"optics": optics}), tomograms)
    assert found["center"].measured == {"convention": "size/2", "difference_voxels": 0.25}
    assert found["pixel size"].measured["binning"] == 4
    assert "center" not in check(particles, tomograms)
