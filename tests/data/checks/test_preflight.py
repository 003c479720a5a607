"""The check before the work: each finding met by an input that is wrong in just that way."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from tomosift.acquisition import Acquisition
from tomosift.data.checks.findings import LEVELS, Finding
from tomosift.data.checks.missing_wedge import estimate_wedge
from tomosift.data.checks.preflight import run_preflight
from tomosift.data.extraction.tomograms import Tomogram
from tomosift.io.volumes import write_volume
from tomosift.particles import Grid, Particles

SHAPE = (48, 96, 104)
SPACING = 10.0
RADIUS_VOXELS = 4.0


def stated(low: float, high: float) -> Acquisition:
    return Acquisition(np.array([low, 0.0, high]), np.zeros(0), np.zeros(0))


def spread_centers(rng: np.random.Generator) -> NDArray[np.float64]:
    """Forty places on a jittered lattice, so that no two balls touch and the volume is filled to its border."""
    places = np.stack(np.meshgrid([16, 31], np.linspace(9, 86, 4), np.linspace(9, 94, 5), indexing="ij"), axis=-1)
    return places.reshape(-1, 3) + rng.uniform(-2, 2, size=(40, 3))


def imaged(volume: NDArray[np.float64], low: float, high: float) -> NDArray[np.float32]:
    """The volume without what tilts from low to high about y do not measure."""
    kz = np.fft.fftfreq(volume.shape[0])[:, None, None]
    kx = np.fft.fftfreq(volume.shape[2])[None, None, :]
    tilt = np.rad2deg(np.arctan2(kz * np.where(kx < 0, -1, 1), np.abs(kx)))
    kept = ((tilt >= low) & (tilt <= high)) | ((kx == 0) & (kz == 0))
    return np.fft.ifftn(np.fft.fftn(volume) * kept).real.astype(np.float32)


def ball_world(seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Noise with bright balls of 80 A, and where they are in voxels."""
    rng = np.random.default_rng(seed)
    centers = spread_centers(rng)
    volume = rng.standard_normal(SHAPE)
    grid = np.indices(SHAPE)
    for center in centers:
        distance = np.sqrt(((grid - center[:, None, None, None]) ** 2).sum(axis=0))
        volume += 2.0 / (1 + np.exp((distance - RADIUS_VOXELS) / 0.4))
    return volume, centers


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Particles, dict[str, Tomogram]]:
    """Two tomograms of balls, tilts of -50 to 60 degrees, and picks with two classes."""
    folder = tmp_path_factory.mktemp("world")
    tomograms, names, positions = {}, [], []
    for seed, name in enumerate(("TS_1", "TS_2")):
        volume, centers = ball_world(seed)
        write_volume(folder / f"{name}.mrc", imaged(volume, -50, 60), SPACING)
        tomograms[name] = Tomogram(name, folder / f"{name}.mrc", Grid(SHAPE, SPACING), stated(-50, 60))
        names += [name] * len(centers)
        positions.append(centers * SPACING)
    classes = ["ball", "sphere"] * (len(names) // 2)
    return Particles.create(names, np.concatenate(positions), class_name=classes), tomograms


def check(
    particles: Particles, tomograms: dict[str, Tomogram], box_size: int = 16, diameter: float | None = None
) -> dict[str, Finding]:
    found = run_preflight(
        particles, tomograms, box_size=box_size, voxel_spacing_angstrom=SPACING, particle_diameter_angstrom=diameter
    )
    assert len({finding.about for finding in found}) == len(found)
    assert all(finding.level in LEVELS and finding.sentence for finding in found)
    return {finding.about: finding for finding in found}


def moved(particles: Particles, voxel_zyx: NDArray[np.float64], source: str = "") -> Particles:
    return replace(particles, position_zyx_angstrom=voxel_zyx * SPACING, source=source)


def voxels(particles: Particles) -> NDArray[np.float64]:
    return particles.position_zyx_angstrom / SPACING


def test_a_good_input_gives_no_warning(world: tuple[Particles, dict[str, Tomogram]]) -> None:
    found = check(*world)
    assert {one.about: one.sentence for one in found.values() if one.level in ("warning", "error")} == {}
    for about in ("names", "picks", "voxel spacing", "values", "tilt range", "tilt axis", "contrast", "centering"):
        assert found[about].level == "ok", found[about].sentence
    assert found["positions"].measured["outside"] == 0


def test_the_diameter_is_read_off_the_mean_box(world: tuple[Particles, dict[str, Tomogram]]) -> None:
    seen = check(*world)["box size"].measured["diameter_seen_angstrom"]
    assert 60 < seen < 105


def test_nothing_to_look_at_is_an_error_with_a_reason(world: tuple[Particles, dict[str, Tomogram]]) -> None:
    particles, tomograms = world
    assert check(particles.select(np.zeros(0, int)), tomograms)["picks"].level == "error"
    assert check(particles, {})["names"].level == "error"


def test_names_without_tomogram_are_an_error_and_the_rest_is_looked_at(
    world: tuple[Particles, dict[str, Tomogram]],
) -> None:
    particles, tomograms = world
    found = check(particles, {"TS_1": tomograms["TS_1"]})
    assert found["names"].level == "error"
    assert "'TS_2'" in found["names"].sentence
    assert found["tilt axis"].level == "ok"
    none = check(particles, {"other": tomograms["TS_1"].__class__("other", Path("other.mrc"), Grid(SHAPE, SPACING))})
    assert none["picks per tomogram"].level == "error"


def test_a_tomogram_without_picks_is_noted(world: tuple[Particles, dict[str, Tomogram]]) -> None:
    particles, tomograms = world
    found = check(particles.select(particles.tomogram == "TS_1"), tomograms)
    assert "TS_2" in found["names"].sentence
    assert found["names"].level == "note"
    assert found["picks per tomogram"].level == "note"


def test_positions_that_are_no_numbers_are_named(world: tuple[Particles, dict[str, Tomogram]]) -> None:
    particles, tomograms = world
    position = particles.position_zyx_angstrom.copy()
    position[3, 1] = np.nan
    found = check(replace(particles, position_zyx_angstrom=position), tomograms)["picks"]
    assert found.level == "error"
    assert "TS_1/000004" in found.sentence


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
    world: tuple[Particles, dict[str, Tomogram]], mistake: object, hypothesis: str
) -> None:
    particles, tomograms = world
    table = pd.DataFrame({"rlnPixelSize": np.full(len(particles), SPACING)})
    wrong = replace(moved(particles, mistake(voxels(particles))), columns=table)  # type: ignore[operator]
    found = check(wrong, tomograms)["positions"]
    assert found.level == "error"
    assert found.measured["hypotheses"][0] in (hypothesis, "10 times too large"), found.sentence
    assert hypothesis in found.measured["hypotheses"]


def test_picks_outside_that_nothing_explains_say_so(world: tuple[Particles, dict[str, Tomogram]]) -> None:
    particles, tomograms = world
    wrong = moved(particles, np.random.default_rng(0).uniform(-5000, 5000, size=(len(particles), 3)))
    found = check(wrong, tomograms)["positions"]
    assert found.level == "error"
    assert "no other scale" in found.sentence


def test_a_single_pick_outside_is_a_warning_with_its_distance(world: tuple[Particles, dict[str, Tomogram]]) -> None:
    particles, tomograms = world
    place = voxels(particles)
    place[7] = (20, 20, SHAPE[2] + 29.5)
    found = check(moved(particles, place), tomograms)["positions"]
    assert found.level == "warning"
    assert (found.measured["outside"], found.measured["worst_voxels"]) == (1, 30.0)


def test_picks_crammed_into_a_corner_look_binned(world: tuple[Particles, dict[str, Tomogram]]) -> None:
    particles, tomograms = world
    found = check(moved(particles, voxels(particles) / 4), tomograms)["positions"]
    assert found.level == "warning"
    assert found.measured["hypotheses"][0] == "4 times too small"


def test_copies_and_near_copies_are_counted(world: tuple[Particles, dict[str, Tomogram]]) -> None:
    particles, tomograms = world
    for offset, same, level in ((0.2, 2, "warning"), (2.0, 0, "note")):
        place = voxels(particles)
        place[1] = place[0] + np.array([0, 0, offset])
        found = check(moved(particles, place), tomograms, diameter=80.0)["duplicates"]
        assert (found.level, found.measured["same_place"]) == (level, same)


def test_centered_tables_state_their_convention(world: tuple[Particles, dict[str, Tomogram]]) -> None:
    particles, tomograms = world
    optics = pd.DataFrame({"rlnTomoTiltSeriesPixelSize": [2.5]})
    table = pd.DataFrame({"rlnTomoName": particles.tomogram})
    found = check(replace(particles, source="relion5", columns=table, tables={"optics": optics}), tomograms)
    assert found["center"].measured == {"convention": "size/2", "difference_voxels": 0.25}
    assert found["pixel size"].measured["binning"] == 4
    assert "center" not in check(particles, tomograms)


@pytest.mark.parametrize(
    ("table_pixel", "level"), [(10.0, "ok"), (2.5, "note"), (40.0, "warning")], ids=["equal", "binned", "coarser"]
)
def test_the_pixel_size_of_the_table_is_compared(
    world: tuple[Particles, dict[str, Tomogram]], table_pixel: float, level: str
) -> None:
    particles, tomograms = world
    table = pd.DataFrame({"rlnPixelSize": np.full(len(particles), table_pixel)})
    assert check(replace(particles, columns=table), tomograms)["pixel size"].level == level


def test_spacings_unlike_the_header_or_unlike_any_tomogram_are_warned_of(
    world: tuple[Particles, dict[str, Tomogram]], tmp_path: Path
) -> None:
    particles, tomograms = world
    for spacing, word in ((13.0, "header says 10 A"), (0.1, "check the unit")):
        wrong = {name: replace(one, grid=Grid(SHAPE, spacing)) for name, one in tomograms.items()}
        scaled = replace(particles, position_zyx_angstrom=particles.position_zyx_angstrom * spacing / SPACING)
        found = check(scaled, wrong)["voxel spacing"]
        assert found.level == "warning"
        assert word in found.sentence
    write_volume(tmp_path / "TS_1.mrc", tomograms["TS_1"].open().read(), None)
    silent = {**tomograms, "TS_1": replace(tomograms["TS_1"], path=tmp_path / "TS_1.mrc")}
    assert check(particles, silent)["voxel spacing"].level == "note"


def test_values_that_are_no_numbers_or_never_vary_are_errors(
    world: tuple[Particles, dict[str, Tomogram]], tmp_path: Path
) -> None:
    particles, tomograms = world
    for name, value, word in (("broken", np.nan, "not numbers"), ("flat", 1.0, "the same")):
        write_volume(tmp_path / f"{name}.mrc", tomograms["TS_1"].open().read(), SPACING)
        # No careful program writes such values, so they are put into the file behind its header.
        values = np.memmap(tmp_path / f"{name}.mrc", dtype="<f4", mode="r+", offset=1024)
        values[: len(values) if name == "flat" else 9 * SHAPE[1] * SHAPE[2]] = value
        values.flush()
        found = check(particles, {**tomograms, "TS_1": replace(tomograms["TS_1"], path=tmp_path / f"{name}.mrc")})
        assert found["values"].level == "error"
        assert word in found["values"].sentence
        assert name in found["values"].sentence


def test_contrast_is_detected_and_never_changed(world: tuple[Particles, dict[str, Tomogram]]) -> None:
    particles, tomograms = world
    wrong = check(particles, {name: replace(one, is_inverted=True) for name, one in tomograms.items()})["contrast"]
    assert wrong.level == "warning"
    assert "leave out --inverted" in wrong.sentence


def test_dark_tomograms_ask_for_the_option(world: tuple[Particles, dict[str, Tomogram]], tmp_path: Path) -> None:
    particles, tomograms = world
    dark = {}
    for name, one in tomograms.items():
        write_volume(tmp_path / f"{name}.mrc", -one.open().read(), SPACING)
        dark[name] = replace(one, path=tmp_path / f"{name}.mrc")
    assert "add --inverted" in check(particles, dark)["contrast"].sentence
    mixed = check(particles, {**tomograms, "TS_2": dark["TS_2"]})["contrast"]
    assert mixed.level == "warning"
    assert "one contrast" in mixed.sentence


def test_contrast_that_cannot_be_told_is_said(world: tuple[Particles, dict[str, Tomogram]]) -> None:
    particles, tomograms = world
    rng = np.random.default_rng(5)
    random = moved(particles, rng.uniform(0, 1, size=(len(particles), 3)) * (np.array(SHAPE) - 1))
    found = check(random, tomograms)
    assert found["contrast"].level == "note"
    assert found["box size"].level == "note"


@pytest.mark.parametrize(
    ("box_size", "diameter", "level"),
    [(12, 80.0, "ok"), (9, 80.0, "warning"), (6, 80.0, "error"), (40, 80.0, "warning"), (12, None, "ok")],
)
def test_boxes_are_compared_with_the_particle(
    world: tuple[Particles, dict[str, Tomogram]], box_size: int, diameter: float | None, level: str
) -> None:
    assert check(*world, box_size=box_size, diameter=diameter)["box size"].level == level


def test_a_stated_diameter_unlike_the_mean_box_is_warned_of(world: tuple[Particles, dict[str, Tomogram]]) -> None:
    found = check(*world, box_size=48, diameter=300.0)["box size"]
    assert found.level == "warning"
    assert "300 A" in found.sentence


def test_picks_beside_their_particles_are_found(world: tuple[Particles, dict[str, Tomogram]]) -> None:
    particles, tomograms = world
    found = check(moved(particles, voxels(particles) + np.array([0.0, 2.0, 0.0])), tomograms)["centering"]
    assert found.level == "warning"
    np.testing.assert_allclose(found.measured["offset_zyx_voxels"], [0, -2, 0], atol=0.6)


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
    world: tuple[Particles, dict[str, Tomogram]], acquisition: Acquisition, level: str, word: str
) -> None:
    particles, tomograms = world
    found = check(particles, {name: replace(one, acquisition=acquisition) for name, one in tomograms.items()})
    assert found["tilt range"].level == level, found["tilt range"].sentence
    assert word in found["tilt range"].sentence


def test_volumes_lying_on_their_side_are_an_error_and_turned_ones_a_warning(
    world: tuple[Particles, dict[str, Tomogram]], tmp_path: Path
) -> None:
    particles, tomograms = world
    for order, level, word in (((1, 0, 2), "error", "around y"), ((0, 2, 1), "warning", "along x")):
        turned = {}
        for name, one in tomograms.items():
            volume = np.ascontiguousarray(one.open().read().transpose(order))
            write_volume(tmp_path / f"{name}.mrc", volume, SPACING)
            turned[name] = replace(one, path=tmp_path / f"{name}.mrc", grid=Grid(volume.shape, SPACING))
        found = check(moved(particles, voxels(particles)[:, list(order)]), turned)["tilt axis"]
        assert found.level == level, found.sentence
        assert word in found.sentence


@pytest.mark.parametrize(("low", "high"), [(-60.0, 60.0), (-40.0, 65.0), (-70.0, 70.0)])
def test_the_tilt_range_is_read_off_noise_alone(low: float, high: float) -> None:
    volume = imaged(np.random.default_rng(2).standard_normal((48, 96, 96)), low, high)
    wedge = estimate_wedge(volume)
    assert wedge.beam_axis == "z"
    assert wedge.tilt_range_deg == pytest.approx((low, high), abs=4)
    assert wedge.tilt_axis_deg == pytest.approx(0, abs=3)


def test_no_wedge_is_seen_where_there_is_none() -> None:
    rng = np.random.default_rng(3)
    assert estimate_wedge(rng.standard_normal((40, 64, 64)).astype(np.float32)).beam_axis is None
    assert estimate_wedge(np.ones((40, 64, 64), dtype=np.float32)).cubes == 0
    assert estimate_wedge(rng.standard_normal((8, 64, 64)).astype(np.float32)).cubes == 0


def test_a_wedge_that_cannot_be_compared_is_noted(world: tuple[Particles, dict[str, Tomogram]], tmp_path: Path) -> None:
    particles, tomograms = world
    volume, _ = ball_world(0)
    write_volume(tmp_path / "TS_1.mrc", volume.astype(np.float32), SPACING)
    found = check(
        particles.select(particles.tomogram == "TS_1"), {"TS_1": replace(tomograms["TS_1"], path=tmp_path / "TS_1.mrc")}
    )
    assert (found["tilt axis"].level, found["tilt range"].level) == ("note", "note")


@pytest.mark.parametrize(
    ("classes", "level"),
    [(("", ""), "note"), (("ball", "ball"), "warning"), (("ball", "sphere"), "ok")],
)
def test_classes_are_counted(
    world: tuple[Particles, dict[str, Tomogram]], classes: tuple[str, str], level: str
) -> None:
    particles, tomograms = world
    names = np.array(list(classes) * (len(particles) // 2), dtype=object)
    assert check(replace(particles, class_name=names), tomograms)["classes"].level == level
    names[:-2] = ""
    assert check(replace(particles, class_name=names), tomograms)["classes"].level in ("note", "warning")


def test_halves_are_for_all_or_none(world: tuple[Particles, dict[str, Tomogram]]) -> None:
    particles, tomograms = world
    halved = {name: replace(one, half_paths=(one.path, one.path)) for name, one in tomograms.items()}
    assert check(particles, halved)["halves"].level == "ok"
    some = check(particles, {**halved, "TS_2": tomograms["TS_2"]})["halves"]
    assert some.level == "note"
    assert "1 of 2" in some.sentence


def test_findings_are_json_values(world: tuple[Particles, dict[str, Tomogram]]) -> None:
    import json

    for finding in check(*world).values():
        assert json.loads(json.dumps(finding.as_json()))["level"] == finding.level
