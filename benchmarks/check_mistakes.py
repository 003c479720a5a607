"""Measure which mistakes of users `tomosift check` names, and how often it raises a false alarm.

    ./dev bench check_mistakes --work FOLDER

Tomograms of atlas structures are simulated at SNR 0.1 (`snr_box_size` 32: the variance of the signal over that of the
noise in boxes of 32 voxels around particles). Thresholds of `tomosift.data.checks.hypotheses` were chosen on the worlds
"tuning"; numbers to report are of the worlds "report", which have other structures, seeds and densities of particles.
One rule was made after cases of "report" had been read; the worlds "fresh" were drawn after it. A case draws a world,
some of its tomograms and picks, and the size of the mistake. Simulations are kept below --work.
"""

import csv
import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from numpy.typing import NDArray

from tomosift.data.checks.contrast import decide_contrast
from tomosift.data.checks.findings import Finding
from tomosift.data.checks.hypotheses import weigh_hypotheses
from tomosift.data.checks.mistakes import PickGeometry, is_inside
from tomosift.data.checks.positions import check_positions
from tomosift.data.extraction.tomogram_sources import collect_grids, open_tomograms
from tomosift.data.extraction.tomograms import Tomogram
from tomosift.io.particles import read_particles
from tomosift.io.volumes import write_volume
from tomosift.particles import Particles
from tomosift.workflows.simulate import simulate

BOX_ANGSTROM = 320.0
WORLDS: dict[str, tuple[tuple[tuple[str, ...], int, tuple[int, int, int], int], ...]] = {
    "tuning": (
        (("ribosome-70s", "apoferritin"), 12, (40, 192, 192), 11),
        (("proteasome-20s",), 20, (40, 192, 192), 12),
        (("hsp90-sba1", "cpn60-single-ring"), 12, (40, 192, 192), 13),
        (("rubisco", "clpb"), 14, (64, 160, 160), 14),
        (("apoferritin",), 40, (64, 192, 192), 15),
    ),
    "report": (
        (("groel", "rubisco"), 12, (40, 192, 192), 21),
        (("stnv-capsid",), 20, (40, 192, 192), 22),
        (("cav1-1", "igg"), 12, (40, 192, 192), 23),
        (("ribosome-30s", "apoferritin"), 14, (64, 160, 160), 24),
        (("proteasome-20s",), 40, (64, 192, 192), 25),
    ),
    "fresh": (
        (("ribosome-70s", "rubisco"), 12, (40, 192, 192), 31),
        (("groel",), 20, (40, 192, 192), 32),
        (("clpb", "stnv-capsid"), 12, (48, 176, 176), 33),
        (("proteasome-20s", "hsp90-sba1"), 14, (64, 160, 160), 34),
        (("ribosome-30s",), 30, (48, 192, 192), 35),
    ),
}
"""Structures, particles of each in a tomogram, shape and seed."""
TOMOGRAMS = 3


@dataclass(frozen=True)
class Options:
    """Where to keep simulations, and what to measure."""

    work: Path
    """Folder for the simulated tomograms."""
    worlds: Literal["tuning", "report", "fresh"] = "report"
    cases: int = 100
    """Cases of each mistake."""
    snr: float = 0.1
    only: tuple[str, ...] = ()
    """Names of mistakes; all by default."""
    seed: int = 0


@dataclass(frozen=True)
class Case:
    """Picks and tomograms with a mistake, and what a right answer is."""

    particles: Particles
    tomograms: dict[str, Tomogram]
    is_named: Callable[[Finding, Finding], bool]
    """Of the findings on positions and on contrast."""
    is_stated_inverted: bool = False


def build_worlds(options: Options) -> list[tuple[Particles, dict[str, Tomogram]]]:
    """Simulate what is not there yet, with a dark copy of every tomogram beside it."""
    worlds = []
    for structures, count, shape, seed in WORLDS[options.worlds]:
        folder = options.work / f"{options.worlds}-{seed}-snr{options.snr:g}"
        made = simulate(
            structures, folder, seed=seed, snr=options.snr, tomograms=TOMOGRAMS, particles_per_class=count,
            shape_zyx=shape, halves=False, labels=False,
        )  # fmt: skip
        tomograms = open_tomograms(made.tomograms)
        for name, one in tomograms.items():
            if not (folder / f"dark_{name}.mrc").exists():
                volume = one.open()
                write_volume(folder / f"dark_{name}.mrc", -volume.read(), one.grid.voxel_spacing_angstrom)
        worlds.append((replace(read_particles(made.picks, grids=collect_grids(tomograms)), source=""), tomograms))
    return worlds


def draw_input(
    worlds: list[tuple[Particles, dict[str, Tomogram]]], rng: np.random.Generator, fewest: int = 1
) -> tuple[Particles, dict[str, Tomogram]]:
    """Some tomograms of one world with half to all of their picks."""
    particles, tomograms = worlds[rng.integers(len(worlds))]
    names = sorted(rng.choice(sorted(tomograms), size=rng.integers(fewest, TOMOGRAMS + 1), replace=False).tolist())
    rows = np.flatnonzero(np.isin(particles.tomogram.astype(str), names))
    kept = np.sort(rng.choice(rows, size=round(len(rows) * rng.uniform(0.5, 1)), replace=False))
    return particles.select(kept), {name: tomograms[name] for name in names}


def _move(particles: Particles, position_zyx_angstrom: NDArray[np.float64]) -> Particles:
    return replace(particles, position_zyx_angstrom=position_zyx_angstrom)


def _first(finding: Finding) -> str:
    named = finding.measured.get("hypotheses") if finding.level in ("warning", "error") else None
    return str((named or [""])[0])


def _sizes(particles: Particles, tomograms: dict[str, Tomogram]) -> NDArray[np.float64]:
    grids = [tomograms[str(name)].grid for name in particles.tomogram]
    return np.array([np.array(grid.shape_zyx) * grid.voxel_spacing_angstrom for grid in grids])


def scaled(particles: Particles, tomograms: dict[str, Tomogram], rng: np.random.Generator) -> Case:
    """Coordinates at another scale: a factor of 0.5 to 2 that differs from 1 by more than a tenth."""
    factor = float(np.exp(rng.choice([-1, 1]) * rng.uniform(np.log(1.1), np.log(2))))

    def is_named(positions: Finding, _: Finding) -> bool:
        found = _first(positions)
        if " times too " not in found:
            return False
        value = float(found.split()[0])
        return abs((value if "large" in found else 1 / value) / factor - 1) < 0.03

    return Case(_move(particles, particles.position_zyx_angstrom * factor), tomograms, is_named)


def mirrored(axes: str) -> Callable[[Particles, dict[str, Tomogram], np.random.Generator], Case]:
    """Mirrored axes."""

    def make(particles: Particles, tomograms: dict[str, Tomogram], _: np.random.Generator) -> Case:
        spacing = next(iter(tomograms.values())).grid.voxel_spacing_angstrom
        far = _sizes(particles, tomograms) - spacing
        is_mirrored = np.array([axis in axes for axis in "zyx"])
        position = np.where(is_mirrored, far - particles.position_zyx_angstrom, particles.position_zyx_angstrom)
        return Case(_move(particles, position), tomograms, lambda found, _: _first(found) == f"mirrored {axes}")

    return make


def exchanged_axes(particles: Particles, tomograms: dict[str, Tomogram], rng: np.random.Generator) -> Case:
    """Axes in another order."""
    orders = [order for order in itertools.permutations(range(3)) if order != (0, 1, 2)]
    order = orders[rng.integers(len(orders))]
    back = "".join("zyx"[k] for k in np.argsort(order))
    moved = _move(particles, particles.position_zyx_angstrom[:, list(order)])
    return Case(moved, tomograms, lambda found, _: _first(found) == f"axes {back}")


def offset(particles: Particles, tomograms: dict[str, Tomogram], rng: np.random.Generator) -> Case:
    """All picks moved by half a box along one, two or three axes."""
    sign = rng.choice([-1, 1], size=3) * (rng.permutation(3) < rng.integers(1, 4))
    by = 0.5 * BOX_ANGSTROM * sign
    spacing = next(iter(tomograms.values())).grid.voxel_spacing_angstrom

    def is_named(positions: Finding, _: Finding) -> bool:
        found = _first(positions)
        if not found.startswith("offset"):
            return False
        value = np.array([float(part) for part in found.removeprefix("offset").split(",")]) * spacing
        return float(np.linalg.norm(value + by)) < 60.0

    return Case(_move(particles, particles.position_zyx_angstrom + by), tomograms, is_named)


def other_origin(particles: Particles, tomograms: dict[str, Tomogram], rng: np.random.Generator) -> Case:
    """Positions from the center taken from the corner, or the other way round."""
    half, is_centered = _sizes(particles, tomograms) / 2, bool(rng.integers(2))
    moved = particles.position_zyx_angstrom + (-half if is_centered else half)
    right = "centered" if is_centered else "corner"
    return Case(_move(particles, moved), tomograms, lambda found, _: _first(found) == right)


def other_tomogram(particles: Particles, tomograms: dict[str, Tomogram], _: np.random.Generator) -> Case:
    """Every tomogram has the picks of the next one."""
    names = sorted(tomograms)
    following = dict(zip(names, names[1:] + names[:1], strict=True))
    renamed = np.array([following[str(name)] for name in particles.tomogram], dtype=object)
    moved = replace(particles, tomogram=renamed)
    return Case(moved, tomograms, lambda found, _: found.level == "error" and _first(found) == "another tomogram")


def as_dark(tomograms: dict[str, Tomogram]) -> dict[str, Tomogram]:
    """The same tomograms with dark density."""
    return {name: replace(one, path=one.path.parents[1] / f"dark_{name}.mrc") for name, one in tomograms.items()}


def contrast(particles: Particles, tomograms: dict[str, Tomogram], rng: np.random.Generator) -> Case:
    """Dark density that is not stated, or bright density that is stated to be dark."""
    if rng.integers(2):
        return Case(particles, tomograms, lambda _, found: found.level == "error", is_stated_inverted=True)
    return Case(particles, as_dark(tomograms), lambda _, found: found.measured["sign_in_files"] < 0)


def as_given(particles: Particles, tomograms: dict[str, Tomogram], rng: np.random.Generator) -> Case:
    """Nothing is wrong, in bright or in stated dark density; what is named here is a false alarm."""
    is_dark = bool(rng.integers(2))
    used = as_dark(tomograms) if is_dark else tomograms
    return Case(particles, used, _is_alarm, is_stated_inverted=is_dark)


def with_false_picks(particles: Particles, tomograms: dict[str, Tomogram], rng: np.random.Generator) -> Case:
    """Half of the picks are random positions; what is named here is a false alarm."""
    position = particles.position_zyx_angstrom.copy()
    false = rng.random(len(position)) < 0.5
    position[false] = rng.uniform(0, 1, size=(int(false.sum()), 3)) * (_sizes(particles, tomograms)[false] - 10)
    return Case(_move(particles, position), tomograms, _is_alarm)


def random_positions(particles: Particles, tomograms: dict[str, Tomogram], rng: np.random.Generator) -> Case:
    """All picks are random positions: no mistake of the list explains them, and none must be named."""
    position = rng.uniform(0, 1, size=(len(particles), 3)) * (_sizes(particles, tomograms) - 10)
    return Case(_move(particles, position), tomograms, _is_alarm)


def few_picks(particles: Particles, tomograms: dict[str, Tomogram], rng: np.random.Generator) -> Case:
    """Ten right picks in all; what is named here is a false alarm."""
    some = particles.select(np.sort(rng.permutation(len(particles))[:10]))
    return Case(some, {name: tomograms[name] for name in set(some.tomogram.astype(str))}, _is_alarm)


def _is_alarm(positions: Finding, contrast: Finding) -> bool:
    return positions.level in ("warning", "error") or contrast.level == "error"


MISTAKES: dict[str, Callable[[Particles, dict[str, Tomogram], np.random.Generator], Case]] = {
    "scale 0.5 to 2": scaled,
    "contrast": contrast,
    "mirrored z": mirrored("z"),
    **{f"mirrored {axes}": mirrored(axes) for axes in ("y", "x", "yx", "zy")},
    "exchanged axes": exchanged_axes,
    "offset by half a box": offset,
    "other origin": other_origin,
    "other tomogram": other_tomogram,
    "none (false alarms)": as_given,
    "half of the picks false (false alarms)": with_false_picks,
    "ten picks (false alarms)": few_picks,
    "random positions (false alarms)": random_positions,
}


def find(case: Case) -> tuple[Finding, Finding]:
    """Check positions and contrast as `run_preflight` does."""
    grids = [case.tomograms[str(name)].grid for name in case.particles.tomogram]
    picks = PickGeometry(
        position_zyx_angstrom=case.particles.position_zyx_angstrom,
        shape_zyx=np.array([grid.shape_zyx for grid in grids], dtype=np.float64),
        voxel_spacing_angstrom=np.array([grid.voxel_spacing_angstrom for grid in grids]),
        tomogram=case.particles.tomogram,
        pixel_angstrom=None,
        source="",
    )
    verdict = weigh_hypotheses(picks, case.tomograms, BOX_ANGSTROM / 2)
    positions = check_positions(picks, BOX_ANGSTROM / float(picks.voxel_spacing_angstrom[0]), verdict)
    within = is_inside(picks.voxel_zyx, picks.shape_zyx)
    inside = {
        name: picks.position_zyx_angstrom[within & (picks.tomogram == name)]
        for name in case.tomograms
        if (within & (picks.tomogram == name)).any()
    }
    _, contrast = decide_contrast(case.tomograms, inside, BOX_ANGSTROM, case.is_stated_inverted)
    return positions, contrast


def measure(name: str, worlds: list[tuple[Particles, dict[str, Tomogram]]], options: Options) -> dict[str, Any]:
    """Count the cases of a mistake that are named right."""
    named, failed = 0, []
    for k in range(options.cases):
        rng = np.random.default_rng([options.seed, list(MISTAKES).index(name), k])
        particles, tomograms = draw_input(worlds, rng, fewest=2 if name == "other tomogram" else 1)
        case = MISTAKES[name](particles, tomograms, rng)
        positions, contrast = find(case)
        is_named = case.is_named(positions, contrast)
        named += is_named
        if is_named == ("false alarms" in name):
            failed.append(f"{k}: n {len(particles)}: {positions.level}: {positions.sentence} | {contrast.sentence}")
    print(f"{name:42s} {named:4d} of {options.cases}", flush=True)
    print(*(f"    {line}\n" for line in failed[:6]), sep="", end="", flush=True)
    return {"mistake": name, "worlds": options.worlds, "snr": options.snr, "cases": options.cases, "named": named}


def main(options: Options) -> None:
    """Simulate, make the mistakes, and write the table."""
    worlds = build_worlds(options)
    rows = [measure(name, worlds, options) for name in MISTAKES if not options.only or name in options.only]
    with (options.work / f"check_mistakes_{options.worlds}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main(tyro.cli(Options))
