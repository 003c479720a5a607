"""Checks of the particle table against the tomograms."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tomosift.data.checks.findings import Finding
from tomosift.data.extraction.tomograms import Tomogram
from tomosift.particles import Grid, Particles

World = tuple[Particles, dict[str, Tomogram]]
Check = Callable[..., dict[str, Finding]]
SHAPE, SPACING = (48, 96, 104), 10.0


def test_names_without_tomogram_are_an_error_and_the_rest_is_checked(world: World, check: Check) -> None:
    particles, tomograms = world
    found = check(particles, {"TS_1": tomograms["TS_1"]})
    assert found["names"].level == "error"
    assert "'TS_2'" in found["names"].sentence
    assert found["tilt axis"].level == "ok"
    none = check(particles, {"other": tomograms["TS_1"].__class__("other", Path("other.mrc"), Grid(SHAPE, SPACING))})
    assert none["picks per tomogram"].level == "error"


def test_a_tomogram_without_picks_is_noted(world: World, check: Check) -> None:
    particles, tomograms = world
    found = check(particles.select(particles.tomogram == "TS_1"), tomograms)
    assert "TS_2" in found["names"].sentence
    assert found["names"].level == "note"
    assert found["picks per tomogram"].level == "note"


def test_positions_that_are_no_numbers_are_named(world: World, check: Check) -> None:
    particles, tomograms = world
    position = particles.position_zyx_angstrom.copy()
    position[3, 1] = np.nan
    found = check(replace(particles, position_zyx_angstrom=position), tomograms)["picks"]
    assert found.level == "error"
    assert "TS_1/000004" in found.sentence


@pytest.mark.parametrize(
    ("classes", "level"),
    [(("", ""), "note"), (("ball", "ball"), "warning"), (("ball", "sphere"), "ok")],
)
def test_classes_are_counted(world: World, classes: tuple[str, str], level: str, check: Check) -> None:
    particles, tomograms = world
    names = np.array(list(classes) * (len(particles) // 2), dtype=object)
    assert check(replace(particles, class_name=names), tomograms)["classes"].level == level
    names[:-2] = ""
    assert check(replace(particles, class_name=names), tomograms)["classes"].level in ("note", "warning")


def test_halves_are_for_all_or_none(world: World, check: Check) -> None:
    particles, tomograms = world
    halved = {name: replace(one, half_paths=(one.path, one.path)) for name, one in tomograms.items()}
    assert check(particles, halved)["halves"].level == "ok"
    some = check(particles, {**halved, "TS_2": tomograms["TS_2"]})["halves"]
    assert some.level == "note"
    assert "1 of 2" in some.sentence
