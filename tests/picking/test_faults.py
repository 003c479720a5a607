"""Faults during picking lose no result, mix no results and end in one sentence."""

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
from tomosift.files import file_state, read_arrays, write_arrays, written_then_renamed
from tomosift.io.volumes import write_volume, zarr
from tomosift.picking.tomogram_task import PickingTask, read_result, run_task

HERE = Path(__file__).parent


@pytest.fixture
def interrupted_tasks(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module of killed tasks, importable here and by workers, which inherit the path."""
    monkeypatch.setattr(sys, "path", [str(HERE), *sys.path])
    yield importlib.import_module("interrupted_tasks")
    sys.modules.pop("interrupted_tasks")


def task_of(world: Any, out: Path, name: str = "b", **settings: Any) -> PickingTask:
    defaults = {"radius_angstrom": {"ball": 50.0, "shell": 60.0}, "min_confidence": 0.5, "stride": 2}
    return PickingTask(world.tomograms[name], world.detector, out, **{**defaults, **settings})


@pytest.fixture
def copied(picking_world: Any, tmp_path: Path) -> Tomogram:
    """A copy of a tomogram, to be damaged."""
    shutil.copy(picking_world.tomograms["b"].path, tmp_path / "b.mrc")
    return open_tomograms(tmp_path / "b.mrc")["b"]


def times(*files: Path) -> list[int]:
    return [file.stat().st_mtime_ns for file in files]


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.mark.slow
def test_a_worker_killed_during_picking_loses_nothing(
    picking_world: Any, tmp_path: Path, interrupted_tasks: Any
) -> None:
    tasks = [task_of(picking_world, tmp_path / "out", name) for name in "ab"]
    assert for_each(interrupted_tasks.kill_first_attempt, tasks, Engine(workers=2)) == [
        task.result_path for task in tasks
    ]
    assert (tmp_path / "a.killed").exists()
    assert names(tmp_path / "out") == ["found/a.npz", "found/b.npz"]
    for name, task in zip("ab", tasks, strict=True):
        alone = task_of(picking_world, tmp_path / "alone", name)
        run_task(alone)
        one, other = read_result(task), read_result(alone)
        np.testing.assert_allclose(one.position_zyx_angstrom, other.position_zyx_angstrom, atol=1e-6)
        assert one.class_name.tolist() == other.class_name.tolist()


def test_a_file_error_of_a_worker_arrives_with_its_sentence(picking_world: Any, tmp_path: Path) -> None:
    broken = replace(task_of(picking_world, tmp_path / "out"), model=tmp_path / "absent")
    with pytest.raises(ValueError, match=r"1 of 1 tasks failed, the first with: .*absent: folder is missing, expected"):
        for_each(run_task, [broken], Engine())
    error = FormatError(tmp_path / "a.star", "column", "missing", "one", "add it")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert str(again) == str(error)
    assert (again.path, again.advice) == (error.path, "add it")


def test_a_full_disk_leaves_earlier_results_whole_and_no_half_file(
    picking_world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = task_of(picking_world, tmp_path / "out")
    run_task(task)
    before = task.result_path.read_bytes()

    def full(stream: Any, **arrays: Any) -> None:
        stream.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    changed = replace(task, min_confidence=0.8)
    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", full)
        with pytest.raises(OSError, match="No space left on device") as caught:
            run_task(changed)
    assert caught.value.filename == str(task.result_path)  # so that the command line reports it in one sentence
    assert names(tmp_path / "out") == ["found/b.npz"]
    assert task.result_path.read_bytes() == before
    run_task(changed)
    assert read_result(changed).score.min() >= 0.8 - 1e-3


def write_to_a_full_disk(path: Path) -> None:
    with written_then_renamed(path) as temporary:
        temporary.symlink_to("/dev/full")
        temporary.write_bytes(b"something")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_system_error_that_names_no_file_gets_its_name(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space") as caught:
        write_to_a_full_disk(tmp_path / "a")
    assert caught.value.filename == str(tmp_path / "a")
    assert not list(tmp_path.iterdir())


def test_a_tomogram_replaced_during_picking_is_refused(picking_world: Any, tmp_path: Path, copied: Tomogram) -> None:
    task = replace(task_of(picking_world, tmp_path / "out"), tomogram=copied)

    def overwrite(done: int, total: int, note: str = "") -> None:
        write_volume(copied.path, np.ones(copied.grid.shape_zyx, dtype=np.float32), 10.0)

    with pytest.raises(ValueError, match=r"b\.mrc, its mask or the model was replaced during picking; give the same"):
        run_task(task, overwrite)
    assert not task.result_path.exists()


def test_a_tomogram_whose_shape_changed_since_it_was_opened_is_refused(
    picking_world: Any, tmp_path: Path, copied: Tomogram
) -> None:
    write_volume(copied.path, np.ones((8, 8, 8), dtype=np.float32), 10.0)
    with pytest.raises(ValueError, match=r"b\.mrc has \(8, 8, 8\) voxels, expected \(24, 48, 48\) as when it was"):
        run_task(replace(task_of(picking_world, tmp_path / "out"), tomogram=copied))


def test_results_of_other_settings_in_one_folder_never_mix(picking_world: Any, tmp_path: Path) -> None:
    mine = task_of(picking_world, tmp_path / "out")
    theirs = replace(mine, radius_angstrom={"ball": 1000.0, "shell": 1000.0})
    run_task(mine)
    before = len(read_result(mine))
    run_task(theirs)  # another command, before the first has read its results
    with pytest.raises(FormatError, match=r"found/b\.npz: request is that of another command, expected that of this"):
        read_result(mine)
    run_task(mine)
    assert len(read_result(mine)) == before > 1


def test_a_result_of_a_tomogram_that_was_replaced_later_is_refused(
    picking_world: Any, tmp_path: Path, copied: Tomogram
) -> None:
    task = replace(task_of(picking_world, tmp_path / "out"), tomogram=copied)
    run_task(task)
    volume = np.array(copied.open().data)
    write_volume(copied.path, volume[:, ::-1], 10.0)
    with pytest.raises(FormatError, match="the tomogram was replaced, or another command"):
        read_result(task)
    first = read_arrays(task.result_path, "")["score"].tolist()
    run_task(task)
    assert read_result(task).score.tolist() != first


def test_a_map_of_other_settings_is_written_again(picking_world: Any, tmp_path: Path) -> None:
    one = task_of(picking_world, tmp_path / "out", writes_map=True)
    run_task(one)
    before = times(one.map_path / "zarr.json")
    run_task(one)
    assert times(one.map_path / "zarr.json") == before
    other = replace(one, stride=4, writes_map=False)
    run_task(other)
    assert times(one.map_path / "zarr.json") == before  # not requested, so it keeps the request that it was made from
    assert zarr.read_provenance(one.map_path)["stride"] == 2
    run_task(replace(other, writes_map=True))
    assert zarr.open_volume(one.map_path).voxel_spacing_angstrom == 40.0
    assert zarr.read_provenance(one.map_path) == other.request


def test_results_do_not_depend_on_the_order_of_times(
    picking_world: Any, tmp_path: Path, copied: Tomogram, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock was ahead and is set back, so that later files have earlier times."""
    task = replace(task_of(picking_world, tmp_path / "out"), tomogram=copied)
    os.utime(copied.path, (4e9, 4e9))
    run_task(task)
    os.utime(task.result_path, (1e9, 1e9))
    before = times(task.result_path)
    run_task(task)
    assert times(task.result_path) == before  # older than the tomogram, and still its result
    write_volume(copied.path, np.array(copied.open().data)[:, ::-1], 10.0)
    os.utime(copied.path, (5e8, 5e8))
    run_task(task)
    assert times(task.result_path) != before  # older than the result, and still another tomogram


def test_a_replaced_file_of_the_same_size_changes_the_state_of_its_folder(tmp_path: Path) -> None:
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


@pytest.mark.parametrize("length", [0, 10, 0.5, -1])
def test_a_result_that_was_cut_short_is_computed_again(picking_world: Any, tmp_path: Path, length: float) -> None:
    task = task_of(picking_world, tmp_path / "out")
    run_task(task)
    whole = read_result(task)
    content = task.result_path.read_bytes()
    task.result_path.write_bytes(content[: int(length * len(content)) if length == 0.5 else int(length)])
    with pytest.raises(FormatError, match=r"found/b\.npz: content is unreadable .*; delete it and repeat the command"):
        read_result(task)
    run_task(task)
    np.testing.assert_array_equal(read_result(task).position_zyx_angstrom, whole.position_zyx_angstrom)


def test_a_result_with_a_wrong_byte_is_not_read(picking_world: Any, tmp_path: Path) -> None:
    task = task_of(picking_world, tmp_path / "out")
    run_task(task)
    content = bytearray(task.result_path.read_bytes())
    content[200] ^= 1  # in the positions
    task.result_path.write_bytes(content)
    with pytest.raises(FormatError, match=r"unreadable .*CRC"):
        read_result(task)
    run_task(task)
    read_result(task)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_chunk_that_was_cut_short_is_not_read_as_data(picking_world: Any, tmp_path: Path, version: Any) -> None:
    path = tmp_path / "b.zarr"
    volume = np.array(picking_world.tomograms["b"].open().data)
    zarr.write_volume(path, volume, 10.0, version=version, levels=1)
    chunk = max((file for file in path.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)
    whole = chunk.read_bytes()
    task = replace(task_of(picking_world, tmp_path / "out"), tomogram=open_tomograms(path)["b"])
    for length in (0, 4096, len(whole) // 2):
        chunk.write_bytes(whole[:length])
        with pytest.raises(FormatError, match=r"b\.zarr: a chunk is unreadable .*; it was cut short: copy it again"):
            run_task(task)
    chunk.unlink()  # what zarr writes for a chunk of nothing but zeros
    assert not np.any(zarr.open_volume(path).read())


def test_an_mrc_file_that_was_cut_short_is_named(picking_world: Any, tmp_path: Path, copied: Tomogram) -> None:
    content = copied.path.read_bytes()
    copied.path.write_bytes(content[: len(content) // 2])
    for attempt in (
        lambda: open_tomograms(copied.path),
        lambda: run_task(replace(task_of(picking_world, tmp_path / "out"), tomogram=copied)),
    ):
        with pytest.raises(FormatError, match=r"b\.mrc: file length is .*the file is cut short: copy it again"):
            attempt()


def test_a_missing_tomogram_is_named(picking_world: Any, tmp_path: Path, copied: Tomogram) -> None:
    copied.path.unlink()
    with pytest.raises(FileNotFoundError, match=r"b\.mrc"):
        run_task(replace(task_of(picking_world, tmp_path / "out"), tomogram=copied))


def test_a_result_file_with_other_arrays_is_named(picking_world: Any, tmp_path: Path) -> None:
    task = task_of(picking_world, tmp_path / "out")
    write_arrays(task.result_path, other=np.zeros(3))
    with pytest.raises(
        FormatError, match=r"found/b\.npz: content is without .*request.*; delete it and repeat the command"
    ):
        read_result(task)
    run_task(task)
    assert len(read_result(task))
