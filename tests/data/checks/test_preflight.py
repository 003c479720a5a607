"""All checks together."""

from collections.abc import Callable

import numpy as np

from tomosift.data.checks.findings import Finding
from tomosift.data.extraction.tomograms import Tomogram
from tomosift.particles import Particles

World = tuple[Particles, dict[str, Tomogram]]
Check = Callable[..., dict[str, Finding]]


def test_a_good_input_gives_no_warning(world: World, check: Check) -> None:
    found = check(*world)
    assert {one.about: one.sentence for one in found.values() if one.level in ("warning", "error")} == {}
    for about in ("names", "picks", "voxel spacing", "values", "tilt range", "tilt axis", "contrast", "centering"):
        assert found[about].level == "ok", found[about].sentence
    assert found["positions"].measured["outside"] == 0


def test_empty_input_is_an_error_with_a_reason(world: World, check: Check) -> None:
    particles, tomograms = world
    assert check(particles.select(np.zeros(0, int)), tomograms)["picks"].level == "error"
    assert check(particles, {})["names"].level == "error"


def test_findings_are_json_values(world: World, check: Check) -> None:
    import json

    for finding in check(*world).values():
        assert json.loads(json.dumps(finding.as_json()))["level"] == finding.level
