"""MRC files: against mrcfile, over every axis order, and broken in every way users meet."""

import bz2
import gzip
import itertools
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mrcfile.dtypes import HEADER_DTYPE

from tomosift.errors import FormatError
from tomosift.io.volumes import mrc, mrc_header

MODES = {0: np.int8, 1: np.int16, 2: np.float32, 6: np.uint16, 12: np.float16}


def numbered(shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
    """Every voxel different, small enough for any number format."""
    return (np.arange(np.prod(shape)) % 120).reshape(shape).astype(dtype)


def patch(path: Path, offset: int, content: bytes) -> None:
    """Overwrite bytes of a header."""
    whole = bytearray(path.read_bytes())
    whole[offset : offset + len(content)] = content
    path.write_bytes(whole)


def int32(*values: int) -> bytes:
    """Little-endian words."""
    return np.array(values, "<i4").tobytes()


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "a.mrc"
    mrc.write_volume(path, numbered((4, 5, 6)), 10.0)
    return path


@pytest.mark.parametrize(("mode", "dtype"), list(MODES.items()))
def test_every_mode_equals_mrcfile(tmp_path: Path, mode: int, dtype: Any) -> None:
    path, data = tmp_path / "a.mrc", numbered((3, 4, 5), dtype)
    with mrcfile.new(path) as file:
        file.set_data(data)
        file.voxel_size = 7.5
        assert file.header.mode == mode
    volume = mrc.open_volume(path)
    assert volume.dtype == dtype
    assert volume.voxel_spacing_angstrom == 7.5
    np.testing.assert_array_equal(volume.data[:], data)


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.tuples(*[st.integers(1, 9)] * 3),
    dtype=st.sampled_from([*MODES.values(), np.float64, np.uint8]),
    suffix=st.sampled_from([".mrc", ".rec", ".map", ".st", ".ali", ".mrc.gz", ".map.bz2"]),
    spacing=st.floats(1.5, 50),
    origin=st.tuples(*[st.floats(-1e4, 1e4, width=32)] * 3),
)
def test_what_is_written_is_read_back(
    tmp_path: Path, shape: Any, dtype: Any, suffix: str, spacing: float, origin: Any
) -> None:
    path, data = tmp_path / f"a{suffix}", numbered(shape, dtype)
    mrc.write_volume(path, data, spacing, origin_zyx_angstrom=origin)
    volume = mrc.open_volume(path)
    np.testing.assert_array_equal(volume.read(), data.astype(np.float32))
    assert volume.shape_zyx == shape
    assert volume.voxel_spacing_angstrom == pytest.approx(spacing, rel=1e-5)
    assert volume.origin_zyx_angstrom == pytest.approx(origin)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    path.unlink()


@pytest.mark.parametrize("order", list(itertools.permutations((1, 2, 3))))
def test_any_axis_order_is_put_in_zyx(tmp_path: Path, order: tuple[int, int, int]) -> None:
    # order = mapc, mapr, maps: the spatial axis (1 = x) of the file's columns, rows and sections.
    path, data_zyx = tmp_path / "a.mrc", numbered((3, 4, 5))
    stored = data_zyx.transpose([3 - axis for axis in reversed(order)])
    starts = {1: 7, 2: 8, 3: 9}
    with mrcfile.new(path) as file:
        file.set_data(np.ascontiguousarray(stored))
        file.header.mapc, file.header.mapr, file.header.maps = order
        file.header.nxstart, file.header.nystart, file.header.nzstart = (starts[axis] for axis in order)
        file.header.mx, file.header.my, file.header.mz = 5, 4, 3
        file.header.cella = (50.0, 40.0, 30.0)
    volume = mrc.open_volume(path)
    np.testing.assert_array_equal(volume.data[:], data_zyx)
    assert volume.voxel_spacing_angstrom == 10.0
    assert volume.origin_zyx_angstrom == (90.0, 80.0, 70.0)
    assert any("axis order" in note for note in volume.notes) == (order != (1, 2, 3))


def test_uncompressed_files_are_mapped_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.mrc"
    mrc.write_volume(path, numbered((8, 8, 8)), 10.0)
    with path.open("r+b") as stream:  # sections that are a hole in the file: reading them all would take minutes
        stream.seek(8)
        stream.write(int32(40_000_000))
        stream.seek(36)
        stream.write(int32(40_000_000))
        stream.truncate(1024 + 40_000_000 * 8 * 8 * 4)
    volume = mrc.open_volume(path)
    assert isinstance(volume.data, np.memmap)
    np.testing.assert_array_equal(
        volume.read((slice(2, 4), slice(None), slice(1, 3))), numbered((8, 8, 8))[2:4, :, 1:3]
    )


def test_reading_leaves_the_file_untouched_and_gives_a_copy(written: Path) -> None:
    before = written.read_bytes()
    volume = mrc.open_volume(written)
    volume.read()[:] = 0
    with pytest.raises(ValueError, match="read-only"):
        volume.data[0, 0, 0] = 1  # type: ignore[index]
    assert written.read_bytes() == before


@pytest.mark.parametrize("byte_order", ["<", ">"])
@pytest.mark.parametrize("stamp", [b"DD\0\0", b"DA\0\0", b"\x11\x11\0\0", b"\0\0\0\0"])
def test_byte_order_is_found_whatever_the_machine_stamp_says(tmp_path: Path, byte_order: str, stamp: bytes) -> None:
    path, data = tmp_path / "a.mrc", numbered((3, 4, 5), np.int16)
    header = np.zeros(1, HEADER_DTYPE.newbyteorder(byte_order))
    for name, value in {"nx": 5, "ny": 4, "nz": 3, "mode": 1, "mapc": 1, "mapr": 2, "maps": 3}.items():
        header[name] = value
    header["machst"] = np.frombuffer(stamp, np.uint8)
    path.write_bytes(header.tobytes() + data.astype(f"{byte_order}i2").tobytes())
    np.testing.assert_array_equal(mrc.open_volume(path).read(), data)


@pytest.mark.parametrize("extended", [0, 80, 131072])
def test_extended_header_is_skipped(tmp_path: Path, extended: int) -> None:
    path = tmp_path / "a.mrc"
    with mrcfile.new(path) as file:
        file.set_data(numbered((3, 4, 5)))
        file.set_extended_header(np.full(extended, 255, np.uint8).view("V1"))
    np.testing.assert_array_equal(mrc.open_volume(path).read(), numbered((3, 4, 5)))


@pytest.mark.parametrize("spacing", [0.0, 1.0])
def test_voxel_size_of_zero_or_one_is_unknown_and_can_be_overridden(tmp_path: Path, spacing: float) -> None:
    path = tmp_path / "a.mrc"
    with mrcfile.new(path) as file:
        file.set_data(numbered((3, 4, 5)))
        file.voxel_size = spacing
    volume = mrc.open_volume(path)
    assert volume.voxel_spacing_angstrom is None
    assert f"voxel size is {spacing:g}" in volume.notes[0]
    assert volume.grid(12.5).voxel_spacing_angstrom == 12.5
    assert volume.grid(12.5).shape_zyx == (3, 4, 5)
    with pytest.raises(FormatError, match="--tomogram-spacing"):
        volume.grid()


def test_voxels_that_are_not_cubes_have_no_spacing(tmp_path: Path) -> None:
    path = tmp_path / "a.mrc"
    with mrcfile.new(path) as file:
        file.set_data(numbered((3, 4, 5)))
        file.voxel_size = (5.0, 5.0, 10.0)
    volume = mrc.open_volume(path)
    assert volume.voxel_spacing_angstrom is None
    assert "5 x 5 x 10 A along x, y, z: the voxels are not cubes" in volume.notes[0]


def test_origin_goes_before_the_start_index(written: Path) -> None:
    patch(written, 16, int32(-2, 0, 3))
    assert mrc.open_volume(written).origin_zyx_angstrom == (30.0, 0.0, -20.0)
    patch(written, 196, np.array([1, 2, 3], "<f4").tobytes())
    assert mrc.open_volume(written).origin_zyx_angstrom == (3.0, 2.0, 1.0)


@pytest.mark.parametrize(("flags", "expected"), [(0, 200), (1, -56)])
def test_imod_flag_says_whether_bytes_are_signed(tmp_path: Path, flags: int, expected: int) -> None:
    path = tmp_path / "a.mrc"
    mrc.write_volume(path, np.full((2, 2, 2), -56, np.int8), 10.0)
    patch(path, 152, int32(mrc_header.IMOD_STAMP, flags))
    assert (mrc.open_volume(path).read() == expected).all()


def test_bytes_are_unsigned_where_the_header_maximum_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.mrc"
    mrc.write_volume(path, np.full((2, 2, 2), -56, np.int8), 10.0)
    assert (mrc.open_volume(path).read() == -56).all()
    patch(path, 76, np.array([200, 200], "<f4").tobytes())
    volume = mrc.open_volume(path)
    assert (volume.read() == 200).all()
    assert "largest value is 200" in volume.notes[0]


@pytest.mark.parametrize(("mode", "word"), [(3, "complex"), (4, "complex"), (16, "RGB"), (101, "packed")])
def test_modes_that_are_no_density_are_refused(written: Path, mode: int, word: str) -> None:
    patch(written, 12, int32(mode))
    with pytest.raises(FormatError, match=f"mode is {mode}, {word}"):
        mrc.open_volume(written)


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        (b"", "MRC header is empty"),
        (b"x" * 500, "MRC header is 500 bytes"),
        (b"garbage " * 400, "is this an MRC file"),
        (b"\0" * 2048, "is this an MRC file"),
        (gzip.compress(b"garbage " * 400)[:60], "broken|500 bytes|cut short|is this an MRC file"),
        (gzip.compress(b""), "MRC header is empty"),
        (bz2.compress(b"garbage " * 400), "is this an MRC file"),
    ],
    # named by hand: gzip writes the time into its header, and pytest would make a name of the bytes
    ids=["empty", "half-header", "text", "zeros", "cut-gzip", "empty-gzip", "text-in-bzip2"],
)
def test_broken_files_are_refused_with_the_reason(tmp_path: Path, broken: bytes, sentence: str) -> None:
    path = tmp_path / "a.mrc"
    path.write_bytes(broken)
    with pytest.raises(FormatError, match=sentence) as caught:
        mrc.open_volume(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress])
def test_truncated_files_are_refused_with_their_length(written: Path, compress: Any) -> None:
    written.write_bytes(compress(written.read_bytes()[:1100]))
    with pytest.raises(FormatError, match="1100 bytes, expected 1504 for 6 x 5 x 4 voxels of float32"):
        mrc.open_volume(written)


def test_truncated_gzip_stream_is_named(written: Path) -> None:
    content = gzip.compress(np.random.default_rng(0).bytes(400) + written.read_bytes())
    written.write_bytes(content[:300])
    with pytest.raises(FormatError, match="compressed data is broken"):
        mrc.open_volume(written)


@pytest.mark.parametrize("axes", [(1, 1, 2), (0, 1, 2), (4, 5, 6)])
def test_impossible_axis_order_is_refused(written: Path, axes: tuple[int, int, int]) -> None:
    patch(written, 64, int32(*axes))
    with pytest.raises(FormatError, match="axes 1, 2, 3"):
        mrc.open_volume(written)


def test_missing_axis_order_is_taken_as_xyz_and_noted(written: Path) -> None:
    patch(written, 64, int32(0, 0, 0))
    volume = mrc.open_volume(written)
    assert "x, y, z was assumed" in volume.notes[0]
    np.testing.assert_array_equal(volume.read(), numbered((4, 5, 6)))


def test_negative_extended_header_is_refused(written: Path) -> None:
    patch(written, 92, int32(-5))
    with pytest.raises(FormatError, match="extended header is -5 bytes"):
        mrc.open_volume(written)


def test_surplus_bytes_are_noted(written: Path) -> None:
    written.write_bytes(written.read_bytes() + b"123")
    assert "3 bytes longer" in mrc.open_volume(written).notes[0]


def test_oblique_cell_is_noted(written: Path) -> None:
    patch(written, 52, np.array([90, 102, 90], "<f4").tobytes())
    assert "not at right angles" in mrc.open_volume(written).notes[0]


def test_nan_voxels_are_passed_on(tmp_path: Path) -> None:
    path = tmp_path / "a.mrc"
    with pytest.warns(RuntimeWarning, match="NaN"):
        mrc.write_volume(path, np.full((2, 2, 2), np.nan, np.float32), 10.0)
    assert np.isnan(mrc.open_volume(path).read()).all()


def test_volume_stacks_are_written_with_their_space_group(tmp_path: Path) -> None:
    path = tmp_path / "a.mrcs"
    mrc.write_volume(path, numbered((3, 4, 4, 4)), 10.0, stack=True)
    with mrcfile.open(path) as file:
        assert file.is_volume_stack()
        np.testing.assert_array_equal(file.data, numbered((3, 4, 4, 4)))
        assert file.voxel_size.z == 10.0


@pytest.mark.parametrize(
    ("data", "arguments", "sentence"),
    [
        (numbered((4, 4)), {}, "three axes"),
        (numbered((4, 0, 4)), {}, "at least one voxel"),
        (numbered((2, 2, 2)).astype(np.complex64), {}, "real numbers"),
        (numbered((2, 2, 2)), {"dtype": np.int32}, "dtype is int32"),
        (numbered((2, 2, 2)), {"stack": True}, "four axes"),
    ],
)
def test_what_mrc_cannot_hold_is_refused(tmp_path: Path, data: Any, arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        mrc.write_volume(tmp_path / "a.mrc", data, 10.0, **arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("spacing", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_spacing_is_refused(tmp_path: Path, spacing: float) -> None:
    with pytest.raises(ValueError, match="voxel spacing"):
        mrc.write_volume(tmp_path / "a.mrc", numbered((2, 2, 2)), spacing)


def test_failed_write_leaves_the_old_file(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = written.read_bytes()

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(mrcfile, "new", fail)
    with pytest.raises(OSError, match="disk full"):
        mrc.write_volume(written, numbered((9, 9, 9)), 5.0)
    assert written.read_bytes() == before
    assert [p.name for p in written.parent.iterdir()] == [written.name]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_every_real_file_equals_mrcfile(real_data: Path) -> None:
    folders = ("maps/mrcfile_conformance", "maps/experimental", "maps/pyseg_2.62A", "tomograms")
    files = [p for folder in folders for p in (real_data / folder).rglob("*") if {".mrc", ".map"} & set(p.suffixes)]
    files += sorted((real_data / "subtomograms").rglob("*.mrc*"))[::7]
    assert len(files) > 30
    for path in files:
        volume = mrc.open_volume(path)
        with mrcfile.open(path, permissive=True) as reference:
            stored = reference.data.view(np.uint8) if volume.dtype == np.uint8 else reference.data
            np.testing.assert_array_equal(volume.data[:], stored, err_msg=path.name)
            if volume.voxel_spacing_angstrom is not None:
                assert volume.voxel_spacing_angstrom == pytest.approx(float(reference.voxel_size.x), rel=1e-5)
            else:
                assert float(reference.voxel_size.x) in (0.0, 1.0)


def test_stacks_are_written_part_by_part_and_refused_when_parts_are_missing(tmp_path: Path) -> None:
    masks = np.random.default_rng(0).random((5, 4, 4, 4)) < 0.3
    path = tmp_path / "masks.mrcs"
    mrc.write_stack(path, (masks[start : start + 2] for start in (0, 2, 4)), 5, 4, 10.0)
    with mrcfile.open(path) as file:
        assert file.is_volume_stack()
        np.testing.assert_array_equal(file.data, masks)
        assert float(file.voxel_size.x) == 10.0
        assert file.header.dmax < file.header.dmin  # not known, as the format says it
    assert mrcfile.validate(path)
    with pytest.raises(ValueError, match="got 4 volumes, expected 5"):
        mrc.write_stack(tmp_path / "few.mrcs", iter([masks[:4]]), 5, 4, 10.0)
    with pytest.raises(ValueError, match="broadcast"):
        mrc.write_stack(tmp_path / "many.mrcs", iter([masks]), 4, 4, 10.0)
    assert [file.name for file in tmp_path.iterdir()] == ["masks.mrcs"]
