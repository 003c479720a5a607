"""Boxes cut from tomograms: where they lie, at which spacing, and what is left out and why."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tomosift.acquisition import Acquisition
from tomosift.data.extraction.crop import crop_box
from tomosift.data.extraction.extract import extract
from tomosift.data.extraction.import_subtomograms import import_subtomograms
from tomosift.data.extraction.tomogram_sources import open_tomograms
from tomosift.data.extraction.tomograms import Tomogram
from tomosift.io.subtomogram_files import open_subtomogram_files
from tomosift.io.volumes import write_volume
from tomosift.particles import Particles

SHAPE = (40, 44, 48)


def noise(shape: tuple[int, ...] = SHAPE, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def gaussian(shape: tuple[int, ...], center: Any, width: float) -> np.ndarray:
    """exp(-r^2 / 2 width^2) about a center, all in voxels."""
    offset = np.stack(np.indices(shape)) - np.reshape(center, (3, 1, 1, 1))
    return np.exp(-(offset**2).sum(axis=0) / (2 * width**2)).astype(np.float32)


def z_score(volume: np.ndarray) -> np.ndarray:
    return (volume - volume.mean((-3, -2, -1), keepdims=True)) / volume.std((-3, -2, -1), keepdims=True)


def written(folder: Path, name: str = "TS_01", seed: int = 0, spacing: float = 10.0, **options: Any) -> np.ndarray:
    volume = options.get("volume", noise(seed=seed))
    write_volume(folder / f"{name}{options.get('suffix', '.mrc')}", volume, spacing)
    return volume


def particles_at(voxels: np.ndarray, spacing: float = 10.0, tomogram: str = "TS_01", **fields: Any) -> Particles:
    return Particles.create([tomogram] * len(voxels), np.asarray(voxels, dtype=float) * spacing, **fields)


@given(st.integers(1, 13), st.tuples(st.integers(0, 39), st.integers(0, 43), st.integers(0, 47)))
@settings(max_examples=60, deadline=None)
def test_boxes_at_whole_voxels_are_slices(size: int, center: tuple[int, int, int]) -> None:
    volume = noise()
    box = crop_box(volume, np.asarray(center, dtype=float), size)
    padded = np.pad(volume, 16, constant_values=np.nan)
    low = np.asarray(center) + 16 - size // 2
    expected = padded[tuple(slice(a, a + size) for a in low)]
    there = np.isfinite(expected)
    np.testing.assert_array_equal(box.volume[there], expected[there])
    np.testing.assert_allclose(box.volume[~there], expected[there].mean(), rtol=1e-5, atol=1e-6)
    assert box.inside == pytest.approx(there.mean())


@settings(max_examples=25, deadline=None)
@given(st.tuples(*[st.floats(-0.5, 0.5)] * 3), st.sampled_from([15, 16]))
@example((9e-4, 9e-4, 9e-4), 16)
def test_a_shift_below_one_voxel_centers_the_particle(shift: tuple[float, float, float], size: int) -> None:
    center = np.array([20, 22, 24]) + np.asarray(shift)
    box = crop_box(gaussian(SHAPE, center, 1.5), center, size).volume
    # Shifts below a thousandth of a voxel are not made; along a diagonal that is 0.0017 voxels of slope 0.4.
    np.testing.assert_allclose(box, gaussian((size,) * 3, [size // 2] * 3, 1.5), atol=7e-4)


@pytest.mark.parametrize("ratio", [0.5, 0.7913, 1.0005, 1.31, 2.0, 10.012 / 7.84])
def test_rescaling_keeps_shape_size_and_height(ratio: float) -> None:
    center, width, size = np.array([31.3, 32.0, 30.8]), 4.0, 16
    box = crop_box(gaussian((64, 64, 64), center, width) + 7, center, size, ratio).volume
    np.testing.assert_allclose(box - 7, gaussian((size,) * 3, [size // 2] * 3, width / ratio), atol=2e-3)


def test_frequencies_beyond_the_new_nyquist_do_not_alias() -> None:
    plane = np.cos(2 * np.pi * 0.4 * np.arange(96))
    volume = np.broadcast_to(plane, (48, 48, 96)).astype(np.float32)
    box = crop_box(volume, np.array([24.0, 24.0, 48.0]), 12, 2.0).volume
    assert np.abs(box).max() < 0.02


def test_memory_order_and_number_format_do_not_matter() -> None:
    volume = (noise() * 1000).astype(np.int16)
    center = np.array([20.3, 21.7, 22.2])
    expected = crop_box(volume.astype(np.float32), center, 12, 1.2).volume
    np.testing.assert_allclose(
        crop_box(np.asfortranarray(volume), center, 12, 1.2).volume, expected, rtol=1e-5, atol=0.1
    )


def test_boxes_beyond_the_border_hold_the_local_mean() -> None:
    box = crop_box(np.full(SHAPE, 5, dtype=np.float32), np.array([0.4, 3.0, 47.0]), 16, 1.3)
    np.testing.assert_allclose(box.volume, 5, rtol=1e-5)
    assert 0 < box.inside < 1
    with pytest.raises(ValueError, match="no voxel of the box"):
        crop_box(noise(), np.array([-30.0, 20, 20]), 8)


def test_extraction_keeps_order_columns_pose_and_tilt_range(tmp_path: Path) -> None:
    volumes = {name: written(tmp_path, name, seed) for seed, name in enumerate(("TS_01", "TS_02"))}
    rng = np.random.default_rng(5)
    voxels = rng.integers(6, 34, size=(40, 3))
    names = [("TS_01", "TS_02")[k % 2] for k in range(40)]
    particles = Particles.create(
        names,
        voxels * 10.0,
        rotation=rng.normal(size=(40, 3, 3)),
        class_name=np.asarray([["", "a"][k % 3 > 0] for k in range(40)], dtype=object),
        columns=pd.DataFrame({"rlnMicrographName": names, "rlnCoordinateX": voxels[:, 2]}),
        source="relion4",
    )
    acquisition = {"TS_02": Acquisition(np.array([-51.0, 0, 57]), np.zeros(0), np.zeros(0))}
    tomograms = open_tomograms(tmp_path, acquisitions=acquisition)
    calls: list[tuple[int, int]] = []
    out = tmp_path / "set"
    options = {
        "voxel_spacing_angstrom": 10.0,
        "box_size": 12,
        "shard_size": 7,
        "progress": lambda *at: calls.append(at),
    }
    data = extract(particles, tomograms, out, workers=3, **options)
    expected = np.stack([volumes[n][tuple(slice(a - 6, a + 6) for a in v)] for n, v in zip(names, voxels, strict=True)])
    np.testing.assert_allclose(data.volumes(np.arange(40)), z_score(expected), atol=4e-3)
    pd.testing.assert_frame_equal(data.particles.columns, particles.columns)
    np.testing.assert_array_equal(data.particles.rotation, particles.rotation)
    assert data.particles.particle_id.tolist() == particles.particle_id.tolist()
    np.testing.assert_array_equal(data.tilt_range_deg[:2], [[-60, 60], [-51, 57]])
    assert data.provenance["tomograms"]["TS_01"]["tilt_range_assumed"] is True
    assert calls[-1] == (40, 40)
    assert data.provenance["dropped"] == {}
    again = extract(particles, tomograms, out, workers=1, **options)
    assert len(again) == 40
    with pytest.raises(ValueError, match="already holds a finished set"):
        extract(particles.select(np.arange(3)), tomograms, out, **options)


def test_an_interrupted_extraction_resumes_to_the_same_files(tmp_path: Path) -> None:
    written(tmp_path)
    rng = np.random.default_rng(2)
    particles = particles_at(rng.uniform(-3, 45, size=(60, 3)))
    tomograms = open_tomograms([tmp_path / "TS_01.mrc"])
    options: dict[str, Any] = {"voxel_spacing_angstrom": 11.0, "box_size": 48, "shard_size": 16}

    class Killed(Exception):
        pass

    def kill(done: int, total: int) -> None:
        if done > 30:
            raise Killed

    with pytest.raises(Killed):
        extract(particles, tomograms, tmp_path / "a", workers=2, progress=kill, **options)
    assert (tmp_path / "a" / "boxes-00000.npy").exists()
    assert not (tmp_path / "a" / "set.json").exists()
    kept = (tmp_path / "a" / "boxes-00000.npy").stat().st_mtime_ns
    resumed = extract(particles, tomograms, tmp_path / "a", workers=2, **options)
    assert (tmp_path / "a" / "boxes-00000.npy").stat().st_mtime_ns == kept
    extract(particles, tomograms, tmp_path / "b", **options)
    files = sorted(path.name for path in (tmp_path / "b").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "a").iterdir())
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert resumed.provenance["dropped"] == {"the center lies outside the tomogram": 60 - len(resumed)}


@pytest.mark.filterwarnings("ignore:Data array contains NaN")
def test_dropped_particles_are_counted_and_named(tmp_path: Path) -> None:
    volume = noise()
    volume[30:, 30:, 30:] = 0
    volume[5, 5, 40] = np.nan
    written(tmp_path, volume=volume)
    voxels = [[20, 20, 20], [35, 36, 36], [5, 5, 40], [1, 20, 20], [20, 20, 99], [np.nan, 1, 1]]
    particles = particles_at(np.asarray(voxels))
    tomograms = open_tomograms(tmp_path)
    options: dict[str, Any] = {"voxel_spacing_angstrom": 10.0, "box_size": 8}
    data = extract(particles, tomograms, tmp_path / "drop", borders="drop", force=True, **options)
    reasons = [
        "the box is constant",
        "the box holds values that are not numbers",
        "the box reaches beyond the tomogram",
        "the center lies outside the tomogram",
        "the position is not a number",
    ]
    assert data.provenance["dropped"] == dict.fromkeys(reasons, 1)
    listed = pd.read_csv(tmp_path / "drop" / "dropped.csv")
    assert dict(zip(listed.row, listed.reason, strict=True)) == dict(enumerate(reasons, start=1))
    assert data.particles.particle_id.tolist() == ["TS_01/000001"]
    assert len(extract(particles, tomograms, tmp_path / "pad", force=True, **options)) == 2
    with pytest.raises(ValueError, match=r"none of 1 particles gave a box: the center lies outside the tomogram \(1\)"):
        extract(particles.select(np.array([4])), tomograms, tmp_path / "none", **options)
    with pytest.raises(ValueError, match="no particles"):
        extract(particles.select(np.zeros(0, dtype=int)), tomograms, tmp_path / "none", **options)


@pytest.mark.parametrize("suffix", [".mrc", ".zarr", ".mrc.gz"])
def test_halves_and_dark_density_are_extracted(tmp_path: Path, suffix: str) -> None:
    parts = {name: noise(seed=k) for k, name in enumerate(("X", "X_EVN", "X_ODD"))}
    for name, volume in parts.items():
        if suffix == ".mrc.gz":
            written(tmp_path, name, volume=volume)
            plain = tmp_path / f"{name}.mrc"
            (tmp_path / f"{name}.mrc.gz").write_bytes(gzip.compress(plain.read_bytes(), 1))
            plain.unlink()
        else:
            written(tmp_path, name, volume=volume, suffix=suffix)
    tomograms = open_tomograms(tmp_path, is_inverted=True)
    assert list(tomograms) == ["X"]
    data = extract(
        particles_at(np.array([[20, 20, 20]]), tomogram="X"),
        tomograms,
        tmp_path / "set",
        voxel_spacing_angstrom=10.0,
        box_size=8,
    )
    place = (slice(16, 24),) * 3
    np.testing.assert_allclose(data.volumes([0])[0], z_score(-parts["X"][place]), atol=4e-3)
    expected = z_score(-np.stack([parts["X_EVN"][place], parts["X_ODD"][place]]))
    np.testing.assert_allclose(data.halves([0])[0], expected, atol=4e-3)


def test_missing_halves_are_named(tmp_path: Path) -> None:
    written(tmp_path)
    with pytest.raises(ValueError, match="no half tomograms, for example 'TS_01'"):
        extract(
            particles_at(np.array([[20, 20, 20]])),
            open_tomograms(tmp_path),
            tmp_path / "set",
            voxel_spacing_angstrom=10.0,
            box_size=8,
            halves=True,
        )


def test_extracted_boxes_are_imported(tmp_path: Path) -> None:
    folder = tmp_path / "boxes"
    folder.mkdir()
    volume = np.stack([gaussian((24,) * 3, [12] * 3, 2.0 + k / 4) for k in range(3)])
    for k, box in enumerate([*volume, np.zeros_like(volume[0])]):
        write_volume(folder / f"box_{k}.mrc", -box, 8.0)
    boxes = open_subtomogram_files(folder)
    same = import_subtomograms(boxes, tmp_path / "same", is_inverted=True)
    assert (same.box_size, same.voxel_spacing_angstrom, len(same)) == (24, 8.0, 3)
    np.testing.assert_allclose(same.volumes([0, 1, 2]), z_score(volume), atol=0.03)
    assert same.provenance["dropped"] == {"the box is constant": 1}
    coarse = import_subtomograms(boxes, tmp_path / "coarse", voxel_spacing_angstrom=12.0, is_inverted=True)
    assert coarse.box_size == 16
    expected = z_score(np.stack([gaussian((16,) * 3, [8] * 3, (2.0 + k / 4) / 1.5) for k in range(3)]))
    np.testing.assert_allclose(coarse.volumes([0, 1, 2]), expected, atol=0.15)
    assert len(import_subtomograms(boxes, tmp_path / "coarse", voxel_spacing_angstrom=12.0, is_inverted=True)) == 3
    with pytest.raises(ValueError, match="hold 16 of them"):
        import_subtomograms(boxes, tmp_path / "x", voxel_spacing_angstrom=12.0, box_size=20)


def test_a_tomogram_crops_lazily_with_density_positive(tmp_path: Path) -> None:
    volume = written(tmp_path)
    tomogram = open_tomograms([tmp_path / "TS_01.mrc"], is_inverted=True)["TS_01"]
    assert isinstance(tomogram, Tomogram)
    np.testing.assert_array_equal(tomogram.crop((20, 21, 22), 6), -volume[17:23, 18:24, 19:25])


def test_real_ribosome_boxes_are_imported(real_data: Path, tmp_path: Path) -> None:
    boxes = open_subtomogram_files(real_data / "subtomograms" / "derived_real_ribosomes", voxel_spacing_angstrom=12.0)
    data = import_subtomograms(boxes, tmp_path, voxel_spacing_angstrom=15.0)
    assert (len(data), data.box_size) == (10, 25)
    np.testing.assert_allclose(data.volumes(np.arange(10)).std((1, 2, 3)), 1, rtol=1e-4)


@pytest.mark.parametrize("between", [0.0, 0.4])
def test_whole_rows_leave_out_boxes_that_reach_beyond_the_tomogram(between: float, tmp_path: Path) -> None:
    written(tmp_path, volume=noise())
    voxels = [[20, 20, 20], [1, 20, 20], [20, 20, 46], [8, 8, 8], [20, 3, 20], [1, 1, 1]]
    data = extract(
        particles_at(np.asarray(voxels) + between),
        open_tomograms(tmp_path),
        tmp_path / "set",
        voxel_spacing_angstrom=10.0,
        box_size=12,
    )
    assert data.whole_rows().tolist() == [0, 3]
