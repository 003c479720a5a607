"""Tomograms cut one by one make the set that all of them together make, also after an interruption."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tomosift.data.extraction import parallel_extraction
from tomosift.data.extraction.extract import extract
from tomosift.data.extraction.parallel_extraction import PARTS, CropTask, crop_tomogram, extract_in_parallel
from tomosift.data.extraction.tomogram_sources import open_tomograms
from tomosift.data.extraction.tomograms import Tomogram
from tomosift.data.subtomogram_set import Subtomograms, open_subtomograms
from tomosift.io.volumes import write_volume
from tomosift.particles import Particles

OPTIONS: dict[str, Any] = {"voxel_spacing_angstrom": 10.0, "box_size": 12}
NAMES = ("TS_01", "TS_02", "TS_03")


@pytest.fixture
def tomograms(tmp_path: Path) -> dict[str, Tomogram]:
    """Three of noise with half tomograms, of which the last holds no particle that is inside."""
    rng = np.random.default_rng(0)
    for name in NAMES:
        for folder in ("full", "even", "odd"):
            (tmp_path / folder).mkdir(exist_ok=True)
            volume = rng.standard_normal((40, 40, 40), dtype=np.float32)
            write_volume(tmp_path / folder / f"{name}.mrc", volume, 10.0)
    halves = {name: (tmp_path / "even" / f"{name}.mrc", tmp_path / "odd" / f"{name}.mrc") for name in NAMES}
    return {k: replace(v, half_paths=halves[k]) for k, v in open_tomograms(tmp_path / "full").items()}


@pytest.fixture
def particles() -> Particles:
    rng = np.random.default_rng(1)
    voxels = rng.uniform(0, 40, size=(31, 3))
    names = [NAMES[k % 3] for k in range(31)]
    voxels[np.array(names) == NAMES[2]] += 100
    voxels[4] = -50
    return Particles.create(
        names,
        voxels * 10.0,
        rotation=rng.normal(size=(31, 3, 3)),
        class_name=np.asarray([["", "a", "b"][k % 3] for k in range(31)], dtype=object),
        columns=pd.DataFrame({"rlnMicrographName": names, "rlnCoordinateX": voxels[:, 2]}),
        source="relion4",
    )


def one_by_one(tasks: Sequence[CropTask]) -> list[dict[int, str]]:
    return [crop_tomogram(task) for task in tasks]


def assert_same(made: Subtomograms, expected: Subtomograms) -> None:
    every = np.arange(len(expected))
    assert len(made) == len(expected)
    np.testing.assert_array_equal(made.volumes(every), expected.volumes(every))
    np.testing.assert_array_equal(made.halves(every), expected.halves(every))
    np.testing.assert_array_equal(made.label, expected.label)
    np.testing.assert_array_equal(made.tilt_range_deg, expected.tilt_range_deg)
    np.testing.assert_array_equal(made.particles.rotation, expected.particles.rotation)
    assert made.particles.particle_id.tolist() == expected.particles.particle_id.tolist()
    pd.testing.assert_frame_equal(made.particles.columns, expected.particles.columns)
    assert made.class_names == expected.class_names
    assert made.provenance == expected.provenance


@pytest.mark.parametrize("borders", ["pad", "drop"])
def test_joined_parts_equal_a_single_extraction(
    borders: str, tomograms: dict[str, Tomogram], particles: Particles, tmp_path: Path
) -> None:
    options = {**OPTIONS, "borders": borders}
    made = extract_in_parallel(particles, tomograms, tmp_path / "parts", one_by_one, **options)
    expected = extract(particles, tomograms, tmp_path / "whole", **options)
    assert expected.has_halves
    assert 0 < len(expected) < 21
    assert_same(made, expected)
    listed = [pd.read_csv(tmp_path / folder / "dropped.csv") for folder in ("parts", "whole")]
    pd.testing.assert_frame_equal(*listed)
    assert not (tmp_path / "parts" / PARTS).exists()
    # Either way asks for the same set.
    assert len(extract(particles, tomograms, tmp_path / "parts", **options)) == len(made)
    assert len(extract_in_parallel(particles, tomograms, tmp_path / "whole", one_by_one, **options)) == len(made)


def test_parts_finished_before_an_interruption_are_kept(
    tomograms: dict[str, Tomogram], particles: Particles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "parts"

    def first_only(tasks: Sequence[CropTask]) -> list[dict[int, str]]:
        crop_tomogram(tasks[0])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract_in_parallel(particles, tomograms, out, first_only, **OPTIONS)
    boxes = out / PARTS / "00000" / "boxes-00000.npy"
    cut_at = boxes.stat().st_mtime_ns
    # Killed again, when all is there but the last word.
    with monkeypatch.context() as patch:
        patch.setattr(parallel_extraction, "finish_set", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            extract_in_parallel(particles, tomograms, out, one_by_one, **OPTIONS)
    assert boxes.stat().st_mtime_ns == cut_at
    assert (out / "boxes-00000.npy").stat().st_ino == boxes.stat().st_ino  # not copied
    made = extract_in_parallel(particles, tomograms, out, one_by_one, **OPTIONS)
    assert_same(made, extract(particles, tomograms, tmp_path / "whole", **OPTIONS))
    assert sorted(path.name for path in out.glob("boxes-*")) == ["boxes-00000.npy", "boxes-00001.npy"]


def test_parts_are_copied_where_there_are_no_hard_links(
    tomograms: dict[str, Tomogram], particles: Particles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr("tomosift.data.shard_group.os.link", refused)
    made = extract_in_parallel(particles, tomograms, tmp_path / "parts", one_by_one, **OPTIONS)
    assert_same(open_subtomograms(made.path), extract(particles, tomograms, tmp_path / "whole", **OPTIONS))


def test_no_particle_in_any_tomogram_is_an_error(
    tomograms: dict[str, Tomogram], particles: Particles, tmp_path: Path
) -> None:
    outside = particles.select(np.flatnonzero(particles.tomogram == NAMES[2]))
    with pytest.raises(
        ValueError, match=r"none of 10 particles gave a box: the center lies outside the tomogram \(10\)"
    ):
        extract_in_parallel(outside, tomograms, tmp_path / "parts", one_by_one, **OPTIONS)
