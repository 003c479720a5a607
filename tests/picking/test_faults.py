"""What goes wrong around a scan loses nothing, mixes nothing and ends in a sentence."""

import errno
import importlib
import json
import os
import pickle
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tomosift.compute.engine import Engine, for_each
from tomosift.data.extraction.tomogram_sources import open_tomograms
from tomosift.data.extraction.tomograms import Tomogram
from tomosift.errors import FormatError
from tomosift.files import file_state, written_then_renamed
from tomosift.io.volumes import write_volume, zarr
from tomosift.picking import tomogram_task as scan_task
from tomosift.picking.kept import read_arrays
from tomosift.picking.tomogram_task import PickingTask, read_result, run_task

HERE = Path(__file__).parent


@pytest.fixture
def deadly(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module of harmed scans, importable here and by workers, who inherit the path."""
    monkeypatch.setattr(sys, "path", [str(HERE), *sys.path])
    yield importlib.import_module("deadly")
    sys.modules.pop("deadly")


def task_of(world: Any, out: Path, name: str = "b", **settings: Any) -> PickingTask:
    asked = {"radius_angstrom": {"ball": 50.0, "shell": 60.0}, "least_probability": 0.5, "stride": 2, **settings}
    return PickingTask(world.tomograms[name], world.detector, out, **asked)


@pytest.fixture
def own(scanned_world: Any, tmp_path: Path) -> Tomogram:
    """A copy of a tomogram, to be harmed."""
    shutil.copy(scanned_world.tomograms["b"].path, tmp_path / "b.mrc")
    return open_tomograms(tmp_path / "b.mrc")["b"]


def times(*files: Path) -> list[int]:
    return [file.stat().st_mtime_ns for file in files]


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.mark.slow
def test_a_worker_killed_in_the_middle_of_a_scan_loses_nothing(scanned_world: Any, tmp_path: Path, deadly: Any) -> None:
    tasks = [task_of(scanned_world, tmp_path / "out", name) for name in "ab"]
    assert for_each(deadly.scan_killed_once, tasks, Engine(workers=2)) == [task.result for task in tasks]
    assert (tmp_path / "a.killed").exists()
    assert names(tmp_path / "out") == ["found/a.npz", "found/b.npz"]
    for name, task in zip("ab", tasks, strict=True):
        alone = task_of(scanned_world, tmp_path / "alone", name)
        run_task(alone)
        one, other = read_result(task), read_result(alone)
        np.testing.assert_allclose(one.position_zyx_angstrom, other.position_zyx_angstrom, atol=1e-6)
        assert one.class_name.tolist() == other.class_name.tolist()


def test_a_sentence_of_a_worker_about_a_file_comes_home_whole(scanned_world: Any, tmp_path: Path) -> None:
    broken = replace(task_of(scanned_world, tmp_path / "out"), model=tmp_path / "absent")
    with pytest.raises(ValueError, match=r"1 of 1 tasks failed; the first said: .*absent: folder is missing, expected"):
        for_each(run_task, [broken], Engine())
    error = FormatError(tmp_path / "a.star", "column", "missing", "one", "add it")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert str(again) == str(error)
    assert (again.path, again.advice) == (error.path, "add it")


def test_a_full_disk_leaves_earlier_results_whole_and_no_half_file(
    scanned_world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = task_of(scanned_world, tmp_path / "out")
    run_task(task)
    before = task.result.read_bytes()

    def full(stream: Any, **arrays: Any) -> None:
        stream.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    changed = replace(task, least_probability=0.8)
    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", full)
        with pytest.raises(OSError, match="No space left on device") as caught:
            run_task(changed)
    assert caught.value.filename == str(task.result)  # so that the command line says it in one sentence
    assert names(tmp_path / "out") == ["found/b.npz"]
    assert task.result.read_bytes() == before
    run_task(changed)
    assert read_result(changed).score.min() >= 0.8 - 1e-3


def write_to_a_full_disk(path: Path) -> None:
    with written_then_renamed(path) as temporary:
        temporary.symlink_to("/dev/full")
        temporary.write_bytes(b"something")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_an_error_of_the_system_that_names_no_file_gets_its_name(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space") as caught:
        write_to_a_full_disk(tmp_path / "a")
    assert caught.value.filename == str(tmp_path / "a")
    assert not list(tmp_path.iterdir())


def test_a_tomogram_replaced_during_a_scan_is_refused(scanned_world: Any, tmp_path: Path, own: Tomogram) -> None:
    task = replace(task_of(scanned_world, tmp_path / "out"), tomogram=own)

    def replaced(done: int, blocks: int) -> None:
        write_volume(own.path, np.ones(own.grid.shape_zyx, dtype=np.float32), 10.0)

    with pytest.raises(ValueError, match=r"b\.mrc, its mask or the model was replaced during the scan; give the same"):
        run_task(task, replaced)
    assert not task.result.exists()


def test_a_tomogram_that_became_another_size_since_it_was_opened_is_refused(
    scanned_world: Any, tmp_path: Path, own: Tomogram
) -> None:
    write_volume(own.path, np.ones((8, 8, 8), dtype=np.float32), 10.0)
    with pytest.raises(ValueError, match=r"b\.mrc has \(8, 8, 8\) voxels, expected \(24, 48, 48\) as when it was"):
        run_task(replace(task_of(scanned_world, tmp_path / "out"), tomogram=own))


def test_scans_with_other_settings_in_one_folder_never_mix(scanned_world: Any, tmp_path: Path) -> None:
    mine = task_of(scanned_world, tmp_path / "out")
    theirs = replace(mine, radius_angstrom={"ball": 1000.0, "shell": 1000.0})
    run_task(mine)
    before = len(read_result(mine))
    run_task(theirs)  # another scan, before the first has put its table together
    with pytest.raises(FormatError, match=r"found/b\.npz: request is that of another scan, expected this one's"):
        read_result(mine)
    run_task(mine)
    assert len(read_result(mine)) == before > 1


def test_a_result_of_a_tomogram_replaced_later_is_not_read_as_its_own(
    scanned_world: Any, tmp_path: Path, own: Tomogram
) -> None:
    task = replace(task_of(scanned_world, tmp_path / "out"), tomogram=own)
    run_task(task)
    volume = np.array(own.open().data)
    write_volume(own.path, volume[:, ::-1], 10.0)
    with pytest.raises(FormatError, match="the tomogram was replaced, or another scan"):
        read_result(task)
    first = read_arrays(task.result)["score"].tolist()
    run_task(task)
    assert read_result(task).score.tolist() != first


def test_a_map_of_other_settings_is_made_again(scanned_world: Any, tmp_path: Path) -> None:
    one = task_of(scanned_world, tmp_path / "out", maps=True)
    run_task(one)
    before = times(one.map_path / "zarr.json")
    run_task(one)
    assert times(one.map_path / "zarr.json") == before
    other = replace(one, stride=4, maps=False)
    run_task(other)
    assert times(one.map_path / "zarr.json") == before  # it was not asked for, so it says itself what it is of
    assert zarr.read_provenance(one.map_path)["stride"] == 2
    run_task(replace(other, maps=True))
    assert zarr.open_volume(one.map_path).voxel_spacing_angstrom == 40.0
    assert zarr.read_provenance(one.map_path) == other.request


def test_results_do_not_depend_on_the_order_of_times(
    scanned_world: Any, tmp_path: Path, own: Tomogram, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock was ahead, then set back: files that come later seem older."""
    task = replace(task_of(scanned_world, tmp_path / "out"), tomogram=own)
    os.utime(own.path, (4e9, 4e9))
    run_task(task)
    os.utime(task.result, (1e9, 1e9))
    before = times(task.result)
    run_task(task)
    assert times(task.result) == before  # older than the tomogram, and still its result
    write_volume(own.path, np.array(own.open().data)[:, ::-1], 10.0)
    os.utime(own.path, (5e8, 5e8))
    run_task(task)
    assert times(task.result) != before  # older than the result, and still another tomogram


def test_an_older_file_of_the_same_size_in_a_folder_is_noticed(tmp_path: Path) -> None:
    for name, second in (("x/0", 1e9), ("x/1", 2e9)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"same")
        os.utime(tmp_path / name, (second, second))
    states = [file_state(tmp_path / "x")]
    os.utime(tmp_path / "x/0", (5e8, 5e8))
    states.append(file_state(tmp_path / "x"))
    (tmp_path / "x/1").rename(tmp_path / "x/2")
    states.append(file_state(tmp_path / "x"))
    assert len({json.dumps(state) for state in states}) == 3
    assert file_state(tmp_path / "x") == states[-1]
    with pytest.raises(FileNotFoundError):
        file_state(tmp_path / "absent")


@pytest.mark.parametrize("kept", [0, 10, 0.5, -1])
def test_a_result_that_was_cut_short_is_made_again(scanned_world: Any, tmp_path: Path, kept: float) -> None:
    task = task_of(scanned_world, tmp_path / "out")
    run_task(task)
    whole = read_result(task)
    content = task.result.read_bytes()
    task.result.write_bytes(content[: int(kept * len(content)) if kept == 0.5 else int(kept)])
    with pytest.raises(FormatError, match=r"found/b\.npz: content is unreadable .*; delete it and scan again"):
        read_result(task)
    run_task(task)
    np.testing.assert_array_equal(read_result(task).position_zyx_angstrom, whole.position_zyx_angstrom)


def test_a_result_with_a_wrong_byte_is_not_read(scanned_world: Any, tmp_path: Path) -> None:
    task = task_of(scanned_world, tmp_path / "out")
    run_task(task)
    content = bytearray(task.result.read_bytes())
    content[200] ^= 1  # in the positions
    task.result.write_bytes(content)
    with pytest.raises(FormatError, match=r"unreadable .*CRC"):
        read_result(task)
    run_task(task)
    read_result(task)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_chunk_that_was_cut_short_is_not_read_as_data(scanned_world: Any, tmp_path: Path, version: Any) -> None:
    path = tmp_path / "b.zarr"
    volume = np.array(scanned_world.tomograms["b"].open().data)
    zarr.write_volume(path, volume, 10.0, version=version, levels=1)
    chunk = max((file for file in path.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)
    whole = chunk.read_bytes()
    task = replace(task_of(scanned_world, tmp_path / "out"), tomogram=open_tomograms(path)["b"])
    for kept in (0, 4096, len(whole) // 2):
        chunk.write_bytes(whole[:kept])
        with pytest.raises(FormatError, match=r"b\.zarr: a chunk is unreadable .*; it was cut short: copy it again"):
            run_task(task)
    chunk.unlink()  # what zarr writes for a chunk of nothing but zeros
    assert not np.any(zarr.open_volume(path).read())


def test_an_mrc_file_that_was_cut_short_is_told_by_its_name(scanned_world: Any, tmp_path: Path, own: Tomogram) -> None:
    content = own.path.read_bytes()
    own.path.write_bytes(content[: len(content) // 2])
    for attempt in (
        lambda: open_tomograms(own.path),
        lambda: run_task(replace(task_of(scanned_world, tmp_path / "out"), tomogram=own)),
    ):
        with pytest.raises(FormatError, match=r"b\.mrc: file length is .*the file is cut short: copy it again"):
            attempt()


def test_a_tomogram_that_is_gone_is_told_by_its_name(scanned_world: Any, tmp_path: Path, own: Tomogram) -> None:
    own.path.unlink()
    with pytest.raises(FileNotFoundError, match=r"b\.mrc"):
        run_task(replace(task_of(scanned_world, tmp_path / "out"), tomogram=own))


def test_a_result_of_something_else_is_told_by_its_name(scanned_world: Any, tmp_path: Path) -> None:
    task = task_of(scanned_world, tmp_path / "out")
    scan_task.write_arrays(task.result, other=np.zeros(3))
    with pytest.raises(FormatError, match=r"found/b\.npz: content is odd .*; delete it and scan again"):
        read_result(task)
    run_task(task)
    assert len(read_result(task))
