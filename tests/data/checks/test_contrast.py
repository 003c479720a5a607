"""The sign of the density: measured over all tomograms, turned where that is clear."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tomosift.data.checks.contrast import decide_contrast, decide_contrast_of_boxes
from tomosift.data.extraction.tomograms import Tomogram
from tomosift.io.volumes import write_volume
from tomosift.particles import Grid, Particles

World = tuple[Particles, dict[str, Tomogram]]
Positions = dict[str, NDArray[np.float64]]


@pytest.fixture
def dark(world: World, tmp_path: Path) -> dict[str, Tomogram]:
    """The tomograms with dark balls."""
    tomograms = {}
    for name, one in world[1].items():
        write_volume(tmp_path / f"{name}.mrc", -one.open().read(), 10.0)
        tomograms[name] = replace(one, path=tmp_path / f"{name}.mrc")
    return tomograms


@pytest.fixture
def positions(world: World) -> Positions:
    particles, tomograms = world
    return {name: particles.position_zyx_angstrom[particles.tomogram == name] for name in tomograms}


def test_bright_density_is_left_as_it_is(world: World, positions: Positions) -> None:
    tomograms, finding = decide_contrast(world[1], positions, 160.0, False)
    assert not any(one.is_inverted for one in tomograms.values())
    assert finding.level == "ok"


def test_the_sign_of_dark_density_is_turned_and_reported(dark: dict[str, Tomogram], positions: Positions) -> None:
    tomograms, finding = decide_contrast(dark, positions, 160.0, False)
    assert all(one.is_inverted for one in tomograms.values())
    assert finding.level == "note"
    assert "darker than their surroundings by" in finding.sentence
    tomograms, finding = decide_contrast(dark, positions, 160.0, True)
    assert all(one.is_inverted for one in tomograms.values())
    assert finding.level == "ok"


def test_a_statement_against_clear_evidence_is_an_error(world: World, positions: Positions) -> None:
    finding = decide_contrast(world[1], positions, 160.0, True)[1]
    assert finding.level == "error"
    assert "leave out --inverted" in finding.sentence


def test_tomograms_of_two_contrasts_are_an_error(world: World, dark: dict[str, Tomogram], positions: Positions) -> None:
    finding = decide_contrast({**world[1], "TS_2": dark["TS_2"]}, positions, 160.0, False)[1]
    assert finding.level == "error"
    assert "one contrast" in finding.sentence


@pytest.mark.parametrize("is_stated", [False, True])
def test_the_statement_holds_where_nothing_is_clear(world: World, is_stated: bool) -> None:
    rng = np.random.default_rng(5)
    random = {name: rng.uniform(100, 380, size=(20, 3)) for name in world[1]}
    tomograms, finding = decide_contrast(world[1], random, 160.0, is_stated)
    assert {one.is_inverted for one in tomograms.values()} == {is_stated}
    assert finding.level == "note"


def test_weak_evidence_of_many_tomograms_adds_up(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tomograms, positions = {}, {}
    for k in range(10):
        volume = rng.standard_normal((20, 40, 60)).astype(np.float32)
        for x in (10, 30, 50):
            volume[7:14, 17:24, x - 3 : x + 4] -= 0.25
        write_volume(tmp_path / f"{k}.mrc", volume, 10.0)
        tomograms[str(k)] = Tomogram(str(k), tmp_path / f"{k}.mrc", Grid((20, 40, 60), 10.0))
        positions[str(k)] = np.array([[100.0, 200.0, x * 10.0] for x in (10, 30, 50)])
    assert all(one.is_inverted for one in decide_contrast(tomograms, positions, 160.0, False)[0].values())
    few = {"0": positions["0"]}
    assert not decide_contrast({"0": tomograms["0"]}, few, 160.0, False)[0]["0"].is_inverted


def test_subtomograms_of_another_program_are_measured_alike() -> None:
    boxes = np.random.default_rng(0).standard_normal((30, 16, 16, 16)).astype(np.float32)
    boxes[:, 5:11, 5:11, 5:11] -= 1.0
    assert decide_contrast_of_boxes(boxes, False)[0]
    assert not decide_contrast_of_boxes(-boxes, False)[0]
    assert decide_contrast_of_boxes(-boxes, True)[1].level == "error"


@pytest.mark.parametrize("distance", [0.25, 0.5])
def test_picks_beside_their_particles_never_turn_the_sign(world: World, positions: Positions, distance: float) -> None:
    for direction in np.eye(3):
        moved = {name: position + distance * 160.0 * direction for name, position in positions.items()}
        tomograms = decide_contrast(world[1], moved, 160.0, False)[0]
        assert not any(one.is_inverted for one in tomograms.values())


def test_false_picks_weaken_the_evidence_and_do_not_turn_it(dark: dict[str, Tomogram], positions: Positions) -> None:
    rng = np.random.default_rng(0)
    mixed = {
        name: np.concatenate([position, rng.uniform(0, (470, 950, 1030), size=position.shape)])
        for name, position in positions.items()
    }
    assert all(one.is_inverted for one in decide_contrast(dark, mixed, 160.0, False)[0].values())


def test_boxes_wider_than_the_tomogram_decide_nothing(world: World, positions: Positions) -> None:
    finding = decide_contrast(world[1], positions, 4000.0, False)[1]
    assert finding.level == "note"
    assert finding.measured["boxes"] == 0
