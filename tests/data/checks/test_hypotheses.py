"""Mistakes in positions that only the density shows: each is named, and right picks raise no alarm."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from tomosift.data.checks.findings import Finding
from tomosift.data.checks.hypotheses import weigh_hypotheses
from tomosift.data.checks.mistakes import PickGeometry
from tomosift.data.checks.positions import check_positions
from tomosift.data.extraction.tomograms import Tomogram
from tomosift.io.volumes import write_volume
from tomosift.particles import Grid

SHAPE, SPACING, DIAMETER, COUNT = (36, 64, 72), 10.0, 60.0, 14
NAMES = ("TS_1", "TS_2")
Voxels = NDArray[np.float64]


@pytest.fixture(scope="module")
def tomograms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tomogram]:
    """Two tomograms of noise with balls of 60 A at `centers`."""
    folder, made = tmp_path_factory.mktemp("blobs"), {}
    for seed, name in enumerate(NAMES):
        volume = np.zeros(SHAPE)
        volume[tuple(np.rint(centers(seed)).astype(int).T)] = 1
        volume = gaussian_filter(volume, 2.0)
        volume = 1.5 * volume / volume.max() + np.random.default_rng(seed).standard_normal(SHAPE)
        write_volume(folder / f"{name}.mrc", volume.astype(np.float32), SPACING)
        made[name] = Tomogram(name, folder / f"{name}.mrc", Grid(SHAPE, SPACING))
    return made


def centers(seed: int) -> Voxels:
    """Random centers that are no mirror images of each other and keep their distance."""
    rng, kept = np.random.default_rng(100 + seed), np.zeros((0, 3))
    while len(kept) < COUNT:
        one = rng.uniform([4, 6, 6], [30, 58, 66])
        if not len(kept) or np.linalg.norm(kept - one, axis=1).min() > 10:
            kept = np.vstack([kept, one])
    return kept


def geometry(voxels: Voxels, source: str = "") -> PickGeometry:
    n = len(voxels)
    names = np.repeat(np.array(NAMES, dtype=object), n // 2)
    return PickGeometry(
        voxels * SPACING, np.tile(np.array(SHAPE, dtype=float), (n, 1)), np.full(n, SPACING), names, None, source
    )


def find(picks: PickGeometry, tomograms: dict[str, Tomogram]) -> Finding:
    return check_positions(picks, 12.0, weigh_hypotheses(picks, tomograms, DIAMETER))


RIGHT = np.concatenate([centers(0), centers(1)])
FAR = np.array(SHAPE) - 1.0


@pytest.mark.parametrize(
    ("mistake", "name"),
    [
        (lambda v: np.where([True, False, False], FAR - v, v), "mirrored z"),
        (lambda v: np.where([False, True, True], FAR - v, v), "mirrored yx"),
        (lambda v: np.where([True, True, False], FAR - v, v), "mirrored zy"),
        (lambda v: v[:, [0, 2, 1]], "axes zxy"),
        (lambda v: v[:, [1, 0, 2]], "axes yzx"),
        (lambda v: v * 0.7, "1.43 times too small"),
        (lambda v: v * 1.3, "1.3 times too large"),
        (lambda v: v / 4, "4 times too small"),
        (lambda v: v - np.array(SHAPE) / 2, "centered"),
        (lambda v: v + np.array([0, 8, 0]), "offset +0, -8, +0"),
        (lambda v: np.roll(v, COUNT, axis=0), "another tomogram"),
    ],
    ids=["z", "yx", "zy", "axes y x", "axes z y", "smaller", "larger", "binned", "center", "offset", "exchanged"],
)
def test_a_mistake_is_named_by_the_density(
    mistake: Callable[[Voxels], Voxels], name: str, tomograms: dict[str, Tomogram]
) -> None:
    found = find(geometry(mistake(RIGHT)), tomograms)
    assert found.level == "error", found.sentence
    kind, _, size = found.measured["hypotheses"][0].partition(" times")
    expected, _, expected_size = name.partition(" times")
    if size and expected_size:
        assert (float(kind), size) == (pytest.approx(float(expected), rel=0.03), expected_size)
    elif name.startswith("offset"):
        measured = [float(part) for part in kind.removeprefix("offset").split(",")]
        np.testing.assert_allclose(measured, [0, -8, 0], atol=1.5)
    else:
        assert kind == expected
    assert found.measured.get("z_score_corrected", 10) > 7
    assert "density stands out" in found.sentence


def test_centered_picks_are_scaled_about_the_center(tomograms: dict[str, Tomogram]) -> None:
    half = np.array(SHAPE) / 2
    found = find(geometry(half + (RIGHT - half) * 0.6, source="relion5"), tomograms)
    assert found.level == "error"
    assert found.measured["hypotheses"][0].startswith("1.6")


@pytest.mark.parametrize("sign", [1, -1], ids=["bright", "dark"])
def test_right_picks_raise_no_alarm_whatever_the_contrast(
    sign: int, tomograms: dict[str, Tomogram], tmp_path: Path
) -> None:
    used = {}
    for name, one in tomograms.items():
        write_volume(tmp_path / f"{name}.mrc", sign * one.open().read(), SPACING)
        used[name] = replace(one, path=tmp_path / f"{name}.mrc")
    rng = np.random.default_rng(0)
    found = find(geometry(RIGHT + rng.normal(scale=1.0, size=RIGHT.shape)), used)
    assert found.level in ("ok", "note")
    assert found.measured["z_score"] > 7
    half_false = np.where(rng.random(len(RIGHT))[:, None] < 0.5, RIGHT, rng.uniform(0, 1, RIGHT.shape) * FAR)
    assert find(geometry(half_false), used).level in ("ok", "note")


@pytest.mark.parametrize("seed", range(4))
def test_random_positions_are_explained_by_no_mistake(seed: int, tomograms: dict[str, Tomogram]) -> None:
    random = np.random.default_rng(seed).uniform(0, 1, size=RIGHT.shape) * FAR
    assert find(geometry(random), tomograms).level in ("ok", "note")


def test_a_lattice_is_not_moved_onto_itself(tmp_path: Path) -> None:
    grid = np.stack(np.meshgrid([12, 24], np.arange(8, 60, 12), np.arange(8, 70, 12), indexing="ij"), axis=-1)
    lattice = grid.reshape(-1, 3).astype(float)
    volume = np.zeros(SHAPE)
    volume[tuple(lattice.astype(int).T)] = 1
    volume = gaussian_filter(volume, 2.0) * 50 + np.random.default_rng(0).standard_normal(SHAPE)
    write_volume(tmp_path / "TS_1.mrc", volume.astype(np.float32), SPACING)
    picks = geometry(lattice)
    picks = replace(picks, tomogram=np.array(["TS_1"] * len(lattice), dtype=object))
    assert find(picks, {"TS_1": Tomogram("TS_1", tmp_path / "TS_1.mrc", Grid(SHAPE, SPACING))}).level in ("ok", "note")


def test_nothing_is_decided_by_few_picks_or_a_tomogram_smaller_than_particles(tomograms: dict[str, Tomogram]) -> None:
    picks = geometry(RIGHT[[0, 1, COUNT, COUNT + 1]])
    assert weigh_hypotheses(picks, tomograms, DIAMETER) is None
    assert weigh_hypotheses(geometry(RIGHT), tomograms, 400.0) is None
