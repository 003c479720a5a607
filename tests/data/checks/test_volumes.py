"""Checks of voxel spacing and values."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tomosift.data.checks.findings import Finding
from tomosift.data.extraction.tomograms import Tomogram
from tomosift.io.volumes import write_volume
from tomosift.particles import Grid, Particles

World = tuple[Particles, dict[str, Tomogram]]
Check = Callable[..., dict[str, Finding]]
SHAPE, SPACING = (48, 96, 104), 10.0


@pytest.mark.parametrize(
    ("table_pixel", "level"), [(10.0, "ok"), (2.5, "note"), (40.0, "warning")], ids=["equal", "binned", "coarser"]
)
def test_the_pixel_size_of_the_table_is_compared(world: World, table_pixel: float, level: str, check: Check) -> None:
    particles, tomograms = world
    table = pd.DataFrame({"rlnPixelSize": np.full(len(particles), table_pixel)})
    assert check(replace(particles, columns=table), tomograms)["pixel size"].level == level


def test_spacings_unlike_the_header_or_unlike_any_tomogram_are_warnings(
    world: World, tmp_path: Path, check: Check
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


def test_values_that_are_no_numbers_or_never_vary_are_errors(world: World, tmp_path: Path, check: Check) -> None:
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
