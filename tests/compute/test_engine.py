"""Independent tasks: results in order, each reported, none lost when a worker is killed."""

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tomosift.compute.engine import Engine, for_each
from tomosift.malloc import ENVIRONMENT

HERE = Path(__file__).parent


@pytest.fixture
def number_tasks(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module of tasks, importable here and by workers, which inherit the path."""
    monkeypatch.setattr(sys, "path", [str(HERE), *sys.path])
    yield importlib.import_module("number_tasks")
    sys.modules.pop("number_tasks")


def child_processes() -> set[str]:
    """Return the numbers of running child processes, zombies included."""
    numbers = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            number, parent = path.parent.name, path.read_text().rpartition(")")[2].split()[1]
        except OSError:
            continue
        if int(parent) == os.getpid():
            numbers.add(number)
    return numbers


def remaining_processes(before: set[str]) -> list[str]:
    """Return the command lines of child processes that were started since.

    The tracker of shared resources of the standard library, which lives as long as this process, does not count.
    """
    lines = [Path(f"/proc/{number}/cmdline").read_text() for number in child_processes() - before]
    return [line for line in lines if "resource_tracker" not in line]


def test_without_workers_tasks_run_here_in_order_and_without_dask() -> None:
    code = (
        "import sys, operator; from tomosift.compute.engine import Engine, for_each; calls = [];"
        "print(for_each(operator.neg, [3, 1, 2], Engine(), lambda *call: calls.append(call)), calls,"
        "[name for name in ('dask', 'distributed', 'torch', 'numpy') if name in sys.modules])"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "[-3, -1, -2] [(1, 3), (2, 3), (3, 3)] []"


def test_a_task_that_raises_does_not_stop_the_others_and_is_reported_once(tmp_path: Path, number_tasks: Any) -> None:
    tasks = [number_tasks.NumberTask(k, tmp_path, fails=k in (1, 3)) for k in range(5)]
    with pytest.raises(ValueError, match="2 of 5 tasks failed, the first with: number 1 cannot be squared") as caught:
        for_each(number_tasks.square, tasks, Engine())
    assert caught.value.__notes__ == [f"task {k + 1}: number {k} cannot be squared" for k in (1, 3)]
    assert sorted(path.stem for path in tmp_path.glob("*.process")) == ["0", "2", "4"]


def test_unexpected_exceptions_are_reported_with_their_type(number_tasks: Any) -> None:
    with pytest.raises(ValueError, match="1 of 2 tasks failed, the first with: ZeroDivisionError: division by zero"):
        for_each(number_tasks.divide, [1, 0], Engine())


def test_without_tasks_nothing_is_started() -> None:
    assert for_each(str, [], Engine(workers=2)) == []


def test_two_workers_share_the_tasks_and_lose_none_when_one_is_killed(tmp_path: Path, number_tasks: Any) -> None:
    before, calls = child_processes(), []
    tasks = [number_tasks.NumberTask(k, tmp_path, dies_until=2 if k == 3 else 0) for k in range(12)]
    assert for_each(number_tasks.square, tasks, Engine(workers=2), lambda *call: calls.append(call)) == [
        k**2 for k in range(12)
    ]
    assert calls == [(k + 1, 12) for k in range(12)]
    attempts = {path.stem: len(path.read_text()) for path in tmp_path.glob("*.attempts")}
    # A result that had not arrived when its worker died may be computed again: a real task then finds its file.
    assert attempts.keys() == {str(k) for k in range(12)}
    assert attempts["3"] >= 3
    used = {path.read_text() for path in tmp_path.glob("*.process")}
    assert len(used) >= 2
    assert str(os.getpid()) not in used
    assert not remaining_processes(before)


def test_workers_keep_freed_memory_unless_the_environment_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    before = dict(os.environ)
    assert for_each(os.getenv, list(ENVIRONMENT), Engine(workers=1)) == list(ENVIRONMENT.values())
    assert os.environ == before
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "131072")
    assert for_each(os.getenv, ["MALLOC_TRIM_THRESHOLD_"], Engine(workers=1)) == ["131072"]


def test_an_interruption_ends_the_workers(tmp_path: Path, number_tasks: Any) -> None:
    def interrupt(done: int, total: int, note: str = "") -> None:
        raise KeyboardInterrupt

    before = child_processes()
    with pytest.raises(KeyboardInterrupt):
        for_each(
            number_tasks.square, [number_tasks.NumberTask(k, tmp_path) for k in range(4)], Engine(workers=2), interrupt
        )
    assert not remaining_processes(before)


def test_workers_finish_all_tasks_but_those_that_kill_them(tmp_path: Path, number_tasks: Any) -> None:
    tasks = [number_tasks.NumberTask(k, tmp_path, dies_until=99 if k == 0 else 0, fails=k == 2) for k in range(5)]
    with pytest.raises(
        ValueError, match="2 of 5 tasks failed, the first with: its worker died at every attempt"
    ) as caught:
        for_each(number_tasks.square, tasks, Engine(workers=2, retries=1))
    assert caught.value.__notes__[1] == "task 3: number 2 cannot be squared"
    assert len((tmp_path / "0.attempts").read_text()) == 2  # one attempt and one retry
    assert sorted(path.stem for path in tmp_path.glob("*.process")) == ["1", "3", "4"]


@pytest.mark.parametrize(
    ("engine", "sentence"),
    [
        (Engine(workers=-1), "workers is -1, expected 0 or more"),
        (Engine(retries=-1), "retries is -1, expected 0 or more"),
        (Engine(slurm=True), "workers is 0, expected 1 or more with slurm"),
        (Engine(scheduler="tcp://127.0.0.1:1", workers=2), "give either scheduler"),
        (Engine(slurm_partition="gpu\nrm -rf ~"), "slurm_partition is"),
        (Engine(slurm_directives=("--gres=gpu:1\n#SBATCH -A other",)), "slurm_directives is"),
    ],
)
def test_contradictory_settings_are_refused(engine: Engine, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        for_each(str, [1], engine)


def test_missing_dask_is_reported_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ValueError, match=r"pip install 'tomosift\[cluster\]'"):
        for_each(str, [1], Engine(workers=2))


def test_a_scheduler_that_does_not_answer_is_reported_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tomosift.compute.engine._CONNECTION_TIMEOUT_SECONDS", 1)
    with pytest.raises(ValueError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:1"):
        for_each(str, [1], Engine(scheduler="tcp://127.0.0.1:1"))


_SBATCH = """#!/bin/bash
# Stands in for SLURM: the job runs here at once.
cp "$1" "{folder}/script-$$.sh"
setsid bash "{folder}/script-$$.sh" > "{folder}/job-$$.log" 2>&1 &
echo "Submitted batch job $!"
"""
_SCANCEL = """#!/bin/bash
kill -- -"$1" 2>/dev/null
touch "{folder}/canceled-$1"
"""


def test_slurm_workers_are_submitted_with_the_requested_resources_and_canceled_at_the_end(
    tmp_path: Path, number_tasks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in (("sbatch", _SBATCH), ("scancel", _SCANCEL)):
        (tmp_path / name).write_text(text.format(folder=tmp_path))
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", f"{HERE}:{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.chdir(tmp_path)
    engine = Engine(
        workers=1, slurm=True, slurm_partition="long", slurm_account="lab", slurm_directives=("--qos=low", "nice=5")
    )
    assert for_each(number_tasks.square, [number_tasks.NumberTask(k, tmp_path) for k in range(3)], engine) == [0, 1, 4]
    (script,) = tmp_path.glob("script-*.sh")
    lines = script.read_text().splitlines()
    for line in ("-p long", "-A lab", "--cpus-per-task=4", "--mem=15G", "-t 08:00:00", "--qos=low", "--nice=5"):
        assert f"#SBATCH {line}" in lines
    assert "export OMP_NUM_THREADS=4 MKL_NUM_THREADS=4" in lines
    assert "export " + " ".join(f"{name}={value}" for name, value in ENVIRONMENT.items()) in lines
    assert list(tmp_path.glob("canceled-*"))


def test_a_running_scheduler_is_used_and_left_running(tmp_path: Path, number_tasks: Any) -> None:
    from distributed import LocalCluster

    no_dashboard = {"dashboard": False, "dashboard_address": ":0"}
    with LocalCluster(n_workers=1, threads_per_worker=1, scheduler_kwargs=no_dashboard) as cluster:
        for _ in range(2):
            engine = Engine(scheduler=cluster.scheduler_address)
            assert for_each(number_tasks.square, [number_tasks.NumberTask(3, tmp_path)], engine) == [9]
        assert len(cluster.scheduler.workers) == 1


_PROGRAM = """#!{python}
import sys
from pathlib import Path
sys.path.insert(0, {here!r})
from tomosift.compute.engine import Engine, for_each
from tomosift.malloc import ENVIRONMENT
from number_tasks import NumberTask, square
if __name__ == "__main__":
    print(for_each(square, [NumberTask(k, Path(sys.argv[1])) for k in range(4)], Engine(workers=2)))
"""


def test_a_console_script_prints_its_results_and_nothing_else(tmp_path: Path) -> None:
    program = tmp_path / "program"  # without a suffix, as the script `tomosift` is
    program.write_text(_PROGRAM.format(python=sys.executable, here=str(HERE)))
    process = subprocess.run(
        [sys.executable, program, tmp_path], capture_output=True, text=True, check=True, timeout=600
    )
    assert process.stdout == "[0, 1, 4, 9]\n"
    assert process.stderr == ""
