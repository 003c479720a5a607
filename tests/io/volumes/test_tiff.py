"""TIFF stacks: against tifffile; a voxel size only with a unit of length."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tomosift.errors import FormatError
from tomosift.io.volumes import tiff

DATA = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(2, 9)),
    dtype=st.sampled_from([np.uint8, np.uint16, np.float32, np.int8, np.float16, np.float64]),
    spacing=st.floats(0.5, 50),
)
def test_what_is_written_is_read_back_and_by_tifffile(tmp_path: Path, shape: Any, dtype: Any, spacing: float) -> None:
    path, data = tmp_path / "a.tif", (np.arange(np.prod(shape)) % 100).reshape(shape).astype(dtype)
    tiff.write_volume(path, data, spacing)
    volume = tiff.open_volume(path)
    assert volume.voxel_spacing_angstrom == pytest.approx(spacing, rel=1e-4)
    np.testing.assert_array_equal(volume.read(), data.astype(np.float32))
    np.testing.assert_array_equal(tifffile.imread(path).reshape(shape), data.astype(np.float32))


def test_uncompressed_stacks_are_mapped(tmp_path: Path) -> None:
    tiff.write_volume(tmp_path / "a.tif", DATA, 10.0)
    assert isinstance(tiff.open_volume(tmp_path / "a.tif").data, np.memmap)


def test_compressed_stacks_are_read(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", DATA, compression="zlib", photometric="minisblack")
    volume = tiff.open_volume(tmp_path / "a.tif")
    assert not isinstance(volume.data, np.memmap)
    np.testing.assert_array_equal(volume.read(), DATA)


def test_plain_resolution_tags_are_ignored(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", DATA, resolution=(300, 300), resolutionunit="INCH", photometric="minisblack")
    volume = tiff.open_volume(tmp_path / "a.tif")
    assert volume.voxel_spacing_angstrom is None
    assert volume.notes == ("a plain TIFF does not state a voxel size",)


@pytest.mark.parametrize(("unit", "factor"), [("nm", 10), ("angstrom", 1), ("micron", 1e4), ("\\u00B5m", 1e4)])
def test_imagej_units_become_angstrom(tmp_path: Path, unit: str, factor: float) -> None:
    metadata = {"axes": "ZYX", "spacing": 2.0, "unit": unit}
    tifffile.imwrite(tmp_path / "a.tif", DATA, imagej=True, resolution=(0.5, 0.5), metadata=metadata)
    assert tiff.open_volume(tmp_path / "a.tif").voxel_spacing_angstrom == pytest.approx(2 * factor)


def test_imagej_pixels_are_no_length(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", DATA, imagej=True, metadata={"axes": "ZYX", "unit": "pixel"})
    assert tiff.open_volume(tmp_path / "a.tif").voxel_spacing_angstrom is None


def test_ome_sizes_become_angstrom(tmp_path: Path) -> None:
    sizes = {f"PhysicalSize{axis}": 1.5 for axis in "XYZ"} | {f"PhysicalSize{axis}Unit": "nm" for axis in "XYZ"}
    tifffile.imwrite(tmp_path / "a.ome.tif", DATA, metadata={"axes": "ZYX", **sizes})
    assert tiff.open_volume(tmp_path / "a.ome.tif").voxel_spacing_angstrom == pytest.approx(15.0)
    tifffile.imwrite(tmp_path / "b.ome.tif", DATA, metadata={"axes": "ZYX"})
    assert tiff.open_volume(tmp_path / "b.ome.tif").voxel_spacing_angstrom is None


def test_width_of_one_is_refused_because_readers_take_it_for_an_axis_less(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 2 voxels wide"):
        tiff.write_volume(tmp_path / "a.tif", DATA[:, :, :1], 10.0)


def test_color_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 5, 3), np.uint8), photometric="rgb")
    with pytest.raises(FormatError, match="one gray channel"):
        tiff.open_volume(tmp_path / "a.tif")


def test_several_channels_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((2, 3, 4, 5), np.uint8), imagej=True, metadata={"axes": "ZCYX"})
    with pytest.raises(FormatError, match="one gray channel"):
        tiff.open_volume(tmp_path / "a.tif")


@pytest.mark.parametrize("content", [b"", b"II*\0", b"garbage" * 50])
def test_broken_files_are_refused_with_the_reason(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(FormatError, match="TIFF structure"):
        tiff.open_volume(tmp_path / "a.tif")


@pytest.mark.parametrize("kept", [200, 700, 1500, 2500])
def test_truncated_stacks_are_refused_with_the_reason(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "a.tif"
    tiff.write_volume(path, np.zeros((6, 20, 20), np.float32), 10.0)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(FormatError):
        tiff.open_volume(path).read()


def test_real_tomogram_has_the_spacing_it_states(real_data: Path) -> None:
    path = real_data / "tomograms" / "cylindra_13pf_MT.tif"
    volume = tiff.open_volume(path)
    assert volume.voxel_spacing_angstrom == pytest.approx(10.52)
    assert volume.shape_zyx == (36, 206, 94)
    np.testing.assert_array_equal(volume.data[:], tifffile.imread(path))
