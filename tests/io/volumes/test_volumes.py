"""One door for every format: content before suffix, and a clear sentence for what is no volume."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tomosift.errors import FormatError
from tomosift.io.volumes import VOLUME_SUFFIXES, is_volume_path, open_volume, write_volume
from tomosift.io.volumes.volume import Volume, cubic_spacing

DATA = np.arange(60, dtype=np.float32).reshape(3, 4, 5)


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    suffix=st.sampled_from([*VOLUME_SUFFIXES, ".mrc.gz", ".rec.bz2", ".MRC", ".Tif"]),
    shape=st.tuples(st.integers(1, 8), st.integers(1, 8), st.integers(2, 8)),
)
def test_every_suffix_round_trips(tmp_path: Path, suffix: str, shape: Any) -> None:
    path, data = tmp_path / f"a{suffix}", np.random.default_rng(0).normal(size=shape).astype(np.float32)
    write_volume(str(path), data, 13.48)
    volume = open_volume(str(path))
    np.testing.assert_array_equal(volume.read(), data)
    assert volume.voxel_spacing_angstrom in (None, 13.48)
    assert (volume.voxel_spacing_angstrom is None) == (suffix == ".em")
    assert is_volume_path(path)


def test_argument_is_not_touched(tmp_path: Path) -> None:
    data = DATA.astype(np.float64)
    before = data.copy()
    for suffix in (".mrc", ".em", ".tif", ".zarr"):
        write_volume(tmp_path / f"a{suffix}", data, 10.0)
    np.testing.assert_array_equal(data, before)


def test_views_are_written_in_their_own_order(tmp_path: Path) -> None:
    view = np.arange(480, dtype=np.float32).reshape(6, 8, 10)[::2, ::-2, ::2].transpose(2, 0, 1)
    for suffix in (".mrc", ".em", ".tif", ".zarr"):
        write_volume(tmp_path / f"a{suffix}", view, 10.0)
        np.testing.assert_array_equal(open_volume(tmp_path / f"a{suffix}").read(), view)


def test_a_memory_map_can_be_converted(tmp_path: Path) -> None:
    write_volume(tmp_path / "a.mrc", DATA, 10.0, origin_zyx_angstrom=(1.0, 2.0, 3.0))
    volume = open_volume(tmp_path / "a.mrc")
    write_volume(tmp_path / "b.zarr", volume.data, 10.0, origin_zyx_angstrom=volume.origin_zyx_angstrom)
    again = open_volume(tmp_path / "b.zarr")
    assert again.origin_zyx_angstrom == (1.0, 2.0, 3.0)
    np.testing.assert_array_equal(again.read(), DATA)


def test_content_goes_before_the_suffix(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.mrc", DATA, photometric="minisblack")
    write_volume(tmp_path / "b.mrc", DATA, 10.0)
    for name in ("b.tif", "b.em", "b.dat"):
        (tmp_path / name).write_bytes((tmp_path / "b.mrc").read_bytes())
    for name in ("a.mrc", "b.tif", "b.em", "b.dat"):
        np.testing.assert_array_equal(open_volume(tmp_path / name).read(), DATA)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.h5", b"\x89HDF\r\n\x1a\n", "an HDF5 file, expected MRC, EM, TIFF or OME-Zarr; convert it to MRC first"),
        ("a.mrc", b"\x89PNG\r\n\x1a\n", "a PNG image"),
        ("a.mrc", b"PK\x03\x04", "a zip archive"),
        ("a.npy", b"\x93NUMPY", "a NumPy file"),
        ("a.txt", b"hello", "suffix is .txt"),
        ("a", b"hello", "suffix is missing"),
        ("a.mrc", b"", "MRC header is empty"),
        ("a.em", b"", "EM header is empty"),
        ("a.tif", b"", "TIFF structure is empty"),
    ],
)
def test_what_is_no_volume_is_refused_with_the_reason(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FormatError, match=sentence):
        open_volume(tmp_path / name)


def test_folders_and_missing_files_are_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="a folder"):
        open_volume(tmp_path)
    with pytest.raises(FormatError, match="file is missing"):
        open_volume(tmp_path / "a.mrc")
    (tmp_path / "a.zarr").mkdir()
    with pytest.raises(FormatError, match="without zarr metadata"):
        open_volume(tmp_path / "a.zarr")


@pytest.mark.parametrize("name", ["a.txt", "a", "a.em.gz", "a.tif.bz2"])
def test_unknown_suffixes_are_not_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="expected one of"):
        write_volume(tmp_path / name, DATA, 10.0)


@pytest.mark.parametrize(
    ("sizes", "spacing", "word"),
    [
        ((10.0, 10.0, 10.0), 10.0, ""),
        ((10.0, 10.04, 10.0), 10.0133, ""),
        ((0.0, 0.0, 0.0), None, "is 0"),
        ((1.0, 1.0, 1.0), None, "is 1"),
        ((5.0, 0.0, 5.0), None, "5 x 0 x 5"),
        ((-5.0, -5.0, -5.0), None, "-5"),
        ((float("nan"), 5.0, 5.0), None, "nan"),
        ((20.0, 10.0, 10.0), None, "10 x 10 x 20 A along x, y, z"),
    ],
)
def test_one_voxel_size_or_the_reason_why_not(sizes: Any, spacing: float | None, word: str) -> None:
    found, note = cubic_spacing(sizes)
    assert found == (None if spacing is None else pytest.approx(spacing, rel=1e-5))
    assert word in note
    assert bool(note) == (spacing is None)


def test_one_angstrom_with_a_unit_is_a_voxel_size() -> None:
    assert cubic_spacing((1.0, 1.0, 1.0), has_unit=True) == (1.0, "")


def test_impossible_override_is_refused() -> None:
    with pytest.raises(ValueError, match="positive length"):
        Volume(Path("a.mrc"), DATA).grid(-2.0)


def test_every_real_file_opens_or_is_refused_with_the_reason(real_data: Path) -> None:
    opened, refused = 0, []
    for folder in ("maps", "tomograms", "subtomograms/derived_real_ribosomes", "subtomograms/pytom_e2e"):
        for path in sorted(p for p in (real_data / folder).rglob("*") if p.is_file()):
            if path.suffix == ".gz" and "polnet" in str(path) and path.stat().st_size > 500_000:
                continue
            try:
                volume = open_volume(path)
            except FormatError as error:
                refused.append((path, str(error)))
                continue
            assert np.isfinite(volume.read()).all()
            opened += 1
    assert opened > 40
    assert all(path.suffix in (".h5", ".xml", ".txt", ".csv", ".gz") for path, _ in refused)
    assert all("\n" not in sentence for _, sentence in refused)
