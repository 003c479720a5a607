"""OME-Zarr volumes: validated by ome-zarr-models, read lazily, in any axis order and unit."""

import json
import warnings
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import ome_zarr_models
import pytest
import zarr as zarr_library
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tomosift.errors import FormatError
from tomosift.io.volumes import zarr
from tomosift.io.volumes.volume import ChunkedArray, ReorderedArray


def numbered(shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
    """Every voxel different, small enough for any number format."""
    return (np.arange(np.prod(shape)) % 120).reshape(shape).astype(dtype)


def group_with(path: Path, multiscale: dict[str, Any], data: np.ndarray) -> None:
    """An OME-Zarr 0.4 group as another program would write it."""
    group = zarr_library.create_group(str(path), zarr_format=2, attributes={"multiscales": [multiscale]})
    group.create_array("s0", shape=data.shape, chunks=tuple(min(4, n) for n in data.shape), dtype=data.dtype)
    group["s0"][...] = data


def axes_of(names: str, unit: str | None = "angstrom") -> list[dict[str, str]]:
    """Axis metadata; spatial axes get the unit."""
    kinds = {"t": "time", "c": "channel"}
    more = {"unit": unit} if unit else {}
    return [{"name": n, "type": kinds.get(n, "space"), **({} if n in kinds else more)} for n in names]


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.tuples(*[st.integers(1, 9)] * 3),
    dtype=st.sampled_from([np.int8, np.uint8, np.int16, np.float16, np.float32, np.float64]),
    version=st.sampled_from(["0.4", "0.5"]),
    spacing=st.floats(0.5, 50),
    origin=st.tuples(*[st.floats(-1e4, 1e4)] * 3),
)
def test_what_is_written_is_read_back(
    tmp_path: Path, shape: Any, dtype: Any, version: Any, spacing: float, origin: Any
) -> None:
    path, data = tmp_path / "a.zarr", numbered(shape, dtype)
    zarr.write_volume(path, data, spacing, origin_zyx_angstrom=origin, version=version, levels=2)
    volume = zarr.open_volume(path)
    assert volume.dtype == dtype
    np.testing.assert_array_equal(volume.data[:], data)
    assert volume.voxel_spacing_angstrom == pytest.approx(spacing, rel=1e-5)
    assert volume.origin_zyx_angstrom == pytest.approx(origin)
    assert volume.notes == ()
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]


@pytest.mark.parametrize(("version", "stored_format"), [("0.4", 2), ("0.5", 3)])
def test_independent_package_accepts_the_metadata(tmp_path: Path, version: Any, stored_format: int) -> None:
    path = tmp_path / "a.zarr"
    zarr.write_volume(path, numbered((70, 33, 130)), 7.5, version=version, origin_zyx_angstrom=(1.0, 2.0, 3.0))
    group = zarr_library.open_group(str(path), mode="r")
    assert group.metadata.zarr_format == stored_format
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the package, about its dependencies
        image = ome_zarr_models.open_ome_zarr(group)
    assert type(image).__name__ == "Image"
    multiscale = (image.ome_attributes if version == "0.5" else image.attributes).multiscales[0]
    assert [axis.name for axis in multiscale.axes] == ["z", "y", "x"]
    assert {axis.unit for axis in multiscale.axes} == {"angstrom"}
    assert len(multiscale.datasets) == 3
    assert [d.coordinateTransformations[0].scale for d in multiscale.datasets] == [[7.5] * 3, [15.0] * 3, [30.0] * 3]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_levels_are_means_at_the_positions_of_their_metadata(tmp_path: Path, version: Any) -> None:
    path = tmp_path / "a.zarr"
    z, y, x = np.meshgrid(*[np.arange(n, dtype=np.float32) for n in (132, 66, 8)], indexing="ij")
    ramp = z + 200 * y + 20000 * x
    zarr.write_volume(path, ramp, 10.0, origin_zyx_angstrom=(5.0, 0.0, -7.0), version=version)
    levels = [zarr.open_volume(path / name) for name in "012"]
    assert not (path / "3").exists()
    assert [level.shape_zyx for level in levels] == [(132, 66, 8), (66, 33, 4), (33, 17, 2)]
    assert [level.voxel_spacing_angstrom for level in levels] == [10.0, 20.0, 40.0]
    # On a ramp the mean is the ramp's value at the position of the level's first voxel.
    for level in levels:
        origin = (np.array(level.origin_zyx_angstrom) - (5.0, 0.0, -7.0)) / 10.0
        assert level.data[0, 0, 0] == pytest.approx(origin @ (1.0, 200.0, 20000.0))


def test_one_level_opens_by_its_own_path(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    zarr.write_volume(path, numbered((8, 8, 8)), 10.0, levels=2)
    volume = zarr.open_volume(path / "1")
    assert volume.shape_zyx == (4, 4, 4)
    assert volume.voxel_spacing_angstrom == 20.0
    assert volume.origin_zyx_angstrom == (5.0, 5.0, 5.0)


def test_slicing_reads_only_the_chunks_it_needs(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    zarr.write_volume(path, numbered((130, 8, 8)), 10.0, version="0.4", levels=1)
    chunks = sorted(p for p in (path / "0").rglob("*") if p.is_file() and not p.name.startswith("."))
    assert len(chunks) == 3
    chunks[-1].write_bytes(b"broken")
    volume = zarr.open_volume(path)
    assert isinstance(volume.data, ChunkedArray)
    np.testing.assert_array_equal(
        volume.read((slice(0, 128), slice(None), slice(2, 3))), numbered((130, 8, 8))[:128, :, 2:3]
    )
    with pytest.raises(FormatError, match=r"a\.zarr: a chunk is unreadable .*; it was cut short: copy it again"):
        volume.read()


def test_provenance_is_kept_beside_the_metadata(tmp_path: Path) -> None:
    for version in ("0.4", "0.5"):
        zarr.write_volume(tmp_path / "a.zarr", numbered((8, 8, 8)), 10.0, version=version, provenance={"model": "x"})
        assert zarr.read_provenance(tmp_path / "a.zarr") == {"model": "x"}
        assert zarr.open_volume(tmp_path / "a.zarr").voxel_spacing_angstrom == 10.0
        ome_zarr_models.open_ome_zarr(str(tmp_path / "a.zarr"))
    zarr.write_volume(tmp_path / "a.zarr", numbered((8, 8, 8)), 10.0)
    assert zarr.read_provenance(tmp_path / "a.zarr") is None


@pytest.mark.parametrize(("unit", "factor"), [("angstrom", 1), ("nanometer", 10), ("micrometer", 1e4)])
def test_units_of_length_become_angstrom(tmp_path: Path, unit: str, factor: float) -> None:
    transforms = [{"type": "scale", "scale": [0.5, 0.5, 0.5]}, {"type": "translation", "translation": [1, 2, 3]}]
    datasets = [{"path": "s0", "coordinateTransformations": transforms}]
    common = [{"type": "scale", "scale": [4, 4, 4]}]
    multiscale = {"version": "0.4", "axes": axes_of("zyx", unit), "datasets": datasets}
    group_with(tmp_path / "a.zarr", multiscale | {"coordinateTransformations": common}, numbered((3, 4, 5)))
    volume = zarr.open_volume(tmp_path / "a.zarr")
    assert volume.voxel_spacing_angstrom == pytest.approx(2 * factor)
    assert volume.origin_zyx_angstrom == pytest.approx((4 * factor, 8 * factor, 12 * factor))


def test_missing_unit_is_noted_and_one_is_then_unknown(tmp_path: Path) -> None:
    for name, scale, expected in (("a", 10.0, 10.0), ("b", 1.0, None)):
        datasets = [{"path": "s0", "coordinateTransformations": [{"type": "scale", "scale": [scale] * 3}]}]
        multiscale = {"version": "0.4", "axes": axes_of("zyx", None), "datasets": datasets}
        group_with(tmp_path / f"{name}.zarr", multiscale, numbered((3, 4, 5)))
        volume = zarr.open_volume(tmp_path / f"{name}.zarr")
        assert volume.voxel_spacing_angstrom == expected
        assert any("Angstrom was assumed" in note for note in volume.notes)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_unknown_spacing_stays_unknown_on_every_level(tmp_path: Path, version: Any) -> None:
    zarr.write_volume(tmp_path / "a.zarr", numbered((8, 8, 8)), None, version=version, levels=2)
    levels = [zarr.open_volume(tmp_path / "a.zarr" / name) for name in ("", "0", "1")]
    assert [level.voxel_spacing_angstrom for level in levels] == [None, None, None]


@pytest.mark.parametrize("names", ["xyz", "tczyx", "cyxz", "yzx"])
def test_other_axis_orders_are_put_in_zyx_lazily(tmp_path: Path, names: str) -> None:
    data_zyx = numbered((3, 4, 5))
    spatial = [n for n in names if n in "zyx"]
    stored = data_zyx.transpose(["zyx".index(n) for n in spatial]).reshape([1] * (len(names) - 3) + [-1] * 0 + [
        {"z": 3, "y": 4, "x": 5}[n] for n in spatial])  # fmt: skip
    transforms = [{"type": "scale", "scale": [1.0 if n in "tc" else 2.0 for n in names]}]
    datasets = [{"path": "s0", "coordinateTransformations": transforms}]
    multiscale = {"version": "0.4", "axes": axes_of(names), "datasets": datasets}
    group_with(tmp_path / "a.zarr", multiscale, stored)
    volume = zarr.open_volume(tmp_path / "a.zarr")
    assert isinstance(volume.data, ReorderedArray)
    assert volume.shape_zyx == (3, 4, 5)
    assert volume.voxel_spacing_angstrom == 2.0
    np.testing.assert_array_equal(volume.read(), data_zyx)
    np.testing.assert_array_equal(volume.data[1], data_zyx[1])
    np.testing.assert_array_equal(volume.data[1:, 2], data_zyx[1:, 2])
    np.testing.assert_array_equal(volume.data[:, 1:3, 4], data_zyx[:, 1:3, 4])
    with pytest.raises(IndexError, match="three slices"):
        volume.data[..., 0]


def test_writing_again_replaces_the_folder(tmp_path: Path) -> None:
    zarr.write_volume(tmp_path / "a.zarr", numbered((8, 8, 8)), 10.0)
    zarr.write_volume(tmp_path / "a.zarr", numbered((3, 4, 5)), 5.0)
    assert zarr.open_volume(tmp_path / "a.zarr").shape_zyx == (3, 4, 5)
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]


def test_failed_write_leaves_the_old_folder(tmp_path: Path) -> None:
    class Failing:
        shape, dtype = (4, 4, 4), np.dtype(np.float32)

        def __getitem__(self, key: Any) -> Any:
            raise OSError("disk gone")

    zarr.write_volume(tmp_path / "a.zarr", numbered((3, 4, 5)), 5.0)
    with pytest.raises(OSError, match="disk gone"):
        zarr.write_volume(tmp_path / "a.zarr", Failing(), 5.0)
    assert zarr.open_volume(tmp_path / "a.zarr").shape_zyx == (3, 4, 5)
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]


def test_bare_array_opens_with_unknown_spacing(tmp_path: Path) -> None:
    array = zarr_library.create_array(str(tmp_path / "a.zarr"), shape=(3, 4, 5), dtype="f4")
    array[...] = numbered((3, 4, 5))
    volume = zarr.open_volume(tmp_path / "a.zarr")
    assert volume.voxel_spacing_angstrom is None
    np.testing.assert_array_equal(volume.read(), numbered((3, 4, 5)))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"multiscales": []}, "multiscales is missing"),
        ({"multiscales": 5}, "multiscales is missing"),
        ({"multiscales": [{"axes": [{"name": "y"}, {"name": "x"}], "datasets": [{"path": "s0"}]}]}, "axes is"),
        ({"multiscales": [{"axes": axes_of("zyx"), "datasets": [{"path": "gone"}]}]}, "'gone' without an array"),
        ({"multiscales": [{"axes": axes_of("czyx"), "datasets": [{"path": "s0"}]}]}, "of 3 axes, expected the 4"),
        (
            {"multiscales": [{"axes": axes_of("zyx"), "datasets": [
                {"path": "s0", "coordinateTransformations": [{"type": "scale", "scale": [1, 2]}]}]}]},
            "coordinateTransformations is broken",
        ),
    ],
)  # fmt: skip
def test_broken_metadata_is_refused_with_the_reason(tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    path = tmp_path / "a.zarr"
    group_with(path, {"axes": axes_of("zyx"), "datasets": [{"path": "s0"}]}, numbered((3, 4, 5)))
    (path / ".zattrs").write_text(json.dumps(change))
    with pytest.raises(FormatError, match=sentence):
        zarr.open_volume(path)


def test_several_channels_are_refused(tmp_path: Path) -> None:
    multiscale = {"axes": axes_of("czyx"), "datasets": [{"path": "s0"}]}
    group_with(tmp_path / "a.zarr", multiscale, numbered((2, 3, 4, 5)))
    with pytest.raises(FormatError, match="several channels"):
        zarr.open_volume(tmp_path / "a.zarr")


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"zarr_format": 9, "node_type": "group"}'])
def test_folders_that_are_not_zarr_are_refused_with_the_reason(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "a.zarr"
    path.mkdir()
    if content is not None:
        (path / "zarr.json").write_text(content)
    with pytest.raises(FormatError, match="zarr"):
        zarr.open_volume(path)


def test_file_in_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.zarr").write_bytes(b"")
    with pytest.raises(FormatError, match="expected a folder"):
        zarr.open_volume(tmp_path / "a.zarr")


@pytest.mark.parametrize("arguments", [{"version": "0.3"}, {"levels": 0}, {"dtype": np.complex64}])
def test_impossible_arguments_are_refused(tmp_path: Path, arguments: dict[str, Any]) -> None:
    with pytest.raises(Exception, match=r"version|levels|dtype"):
        zarr.write_volume(tmp_path / "a.zarr", numbered((3, 4, 5)), 5.0, **arguments)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_chunk_of_blosc_that_was_cut_short_is_never_read_as_data(tmp_path: Path, zarr_format: Any) -> None:
    # Blosc itself reads beyond the bytes that it gets: whether it fails depends on the memory there.
    path, data = tmp_path / "a.zarr", np.random.default_rng(0).normal(size=(32, 32, 32)).astype(np.float32)
    blosc = numcodecs.Blosc("lz4") if zarr_format == 2 else zarr_library.codecs.BloscCodec(cname="lz4")
    array = zarr_library.create_array(
        str(path), data=data, chunks=data.shape, zarr_format=zarr_format, compressors=blosc
    )
    assert array.compressors
    chunk = max((file for file in path.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)
    whole = chunk.read_bytes()
    for kept in (0, 1, 8, 16, 4096, len(whole) // 2, len(whole) - 1):
        chunk.write_bytes(whole[:kept])
        with pytest.raises(FormatError, match=rf"a\.zarr: a chunk is unreadable .* {kept} bytes of \d+.*; it was cut"):
            zarr.open_volume(path).read()
    for content in (whole, whole + b"more"):
        chunk.write_bytes(content)
        np.testing.assert_array_equal(zarr.open_volume(path).read(), data)
    chunk.unlink()
    assert not np.any(zarr.open_volume(path).read())
