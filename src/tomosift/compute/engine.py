"""Independent tasks, run one after another in this process, in several processes, or on a cluster through Dask.

A task writes its result under another name and renames it, and does nothing where the result is there already: so a
command that was interrupted is given again, and the engine itself stores nothing.
"""

import logging
import os
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from tomosift.compute.sbatch import checked_directive
from tomosift.malloc import KEEPING

T = TypeVar("T")
R = TypeVar("R")

_SECONDS_TO_ANSWER = 15
_NO_PAGE = {"dashboard": False, "dashboard_address": ":0"}  # any free port: two engines may run beside each other
_NEEDS_DASK = "workers, a scheduler and SLURM need Dask; install it with: pip install 'tomosift[cluster]'"


@dataclass(frozen=True)
class Engine:
    """Where independent tasks run."""

    workers: int = 0
    """Processes on this machine, or most SLURM jobs at a time; 0 runs one task after another in this process."""
    scheduler: str | None = None
    """Address of a running Dask scheduler whose workers take the tasks, such as tcp://host:8786."""
    slurm: bool = False
    """Submit workers to SLURM, as many as there is work for, up to the number of workers."""
    slurm_partition: str | None = None
    """Partition to submit to."""
    slurm_account: str | None = None
    """Account that is charged."""
    slurm_cores: int = 4
    """Cores of each worker, which takes one task at a time."""
    slurm_memory: str = "16GB"
    """Memory of each worker."""
    slurm_time: str = "08:00:00"
    """Time limit of each worker; a task that it cuts short is taken up by another."""
    slurm_directives: tuple[str, ...] = ()
    """More options of sbatch, without their dashes where a command line would take them for its own: gres=gpu:1."""
    retries: int = 3
    """How often a task is tried again after its worker died; not for a scheduler that runs already, which has a number
    of its own."""

    @property
    def is_shared(self) -> bool:
        """Whether tasks are done by others than this process."""
        return bool(self.workers) or self.scheduler is not None

    def check(self) -> None:
        """Refuse settings that do not go together.

        Raises
        ------
        ValueError
            When a number is too small, two engines are asked for, or a value does not fit on one line of a job script.
        """
        for name, least in (("workers", 0), ("retries", 0), ("slurm_cores", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}, expected {least} or more")
        if self.scheduler is not None and (self.slurm or self.workers):
            raise ValueError("give either scheduler, whose workers are there already, or workers and slurm")
        if self.slurm and not self.workers:
            raise ValueError("workers is 0, expected 1 or more with slurm: the most jobs to have at a time")
        for name in ("slurm_partition", "slurm_account", "slurm_memory", "slurm_time"):
            if getattr(self, name) is not None:
                checked_directive(name, getattr(self, name))
        for directive in self.slurm_directives:
            checked_directive("slurm_directives", directive, spaces=True)


def for_each(
    function: Callable[[T], R],
    tasks: Sequence[T],
    engine: Engine,
    done: Callable[[int, int], None] | None = None,
) -> list[R]:
    """What ``function`` returns for each of the tasks, in their order.

    A task whose worker dies is given to another. One that raises does not keep the others from being finished.

    Parameters
    ----------
    function
        A function at the top of a module, which the workers can import.
    tasks
        Small things that can be pickled, such as frozen dataclasses of names and paths; results should be small too.
    done
        Called with the tasks finished, failed ones among them, and the tasks in all.

    Raises
    ------
    ValueError
        When the engine's settings do not go together, Dask is missing or its scheduler does not answer; and, after all
        tasks, when some of them failed: it names how many and what the first said, and its notes what each said.
    """
    engine.check()
    results: list[Any] = [None] * len(tasks)
    failures: dict[int, Exception] = {}
    with closing(_outcomes(function, tasks, engine)) as outcomes:  # workers end with us, also when we are interrupted
        for count, (place, result, failure) in enumerate(outcomes, 1):
            results[place] = result
            if failure is not None:
                failures[place] = failure
            if done is not None:
                done(count, len(tasks))
    if failures:
        first = failures[min(failures)]
        error = ValueError(f"{len(failures)} of {len(tasks)} tasks failed; the first said: {_sentence(first)}")
        for place in sorted(failures):
            error.add_note(f"task {place + 1}: {_sentence(failures[place])}")
        raise error from first
    return results


Outcome = tuple[int, Any, Exception | None]
"""Number of a task, and its result or what it raised."""


def _outcomes(function: Callable[[T], R], tasks: Sequence[T], engine: Engine) -> Generator[Outcome, None, None]:
    if not tasks:
        return
    if engine.is_shared:
        yield from _from_dask(function, tasks, engine)
        return
    for place, task in enumerate(tasks):
        try:
            result, failure = function(task), None
        except Exception as error:  # whatever it is, the other tasks are to be finished
            result, failure = None, error
        yield place, result, failure


def _from_dask(function: Callable[[T], R], tasks: Sequence[T], engine: Engine) -> Iterator[Outcome]:
    with _client(engine, len(tasks)) as client:
        from distributed import as_completed

        futures = client.map(function, tasks, pure=False)
        place = {future.key: number for number, future in enumerate(futures)}
        waiting = as_completed(futures, loop=client.loop)  # type: ignore[no-untyped-call]
        futures.clear()  # what has been taken over is forgotten, so that a worker that dies takes no result with it
        for future in waiting:
            try:
                # What was lost with its worker before it could be taken over is waited for: it is being done again.
                result, failure = future.result(), None
            except Exception as error:
                result, failure = None, error
            yield place[future.key], result, failure
            future.release()


@contextmanager
def _client(engine: Engine, tasks: int) -> Iterator[Any]:
    """A connection to the scheduler that is to be used, started if need be."""
    try:
        import dask
        from distributed import Client, LocalCluster
    except ImportError:
        raise ValueError(_NEEDS_DASK) from None
    with ExitStack() as stack:
        if engine.scheduler is not None:
            try:
                client = Client(engine.scheduler, timeout=_SECONDS_TO_ANSWER, set_as_default=False)  # type: ignore[no-untyped-call]
            except (OSError, TimeoutError):
                raise ValueError(
                    f"no Dask scheduler answers at {engine.scheduler}; check the address, or start one with "
                    "dask scheduler"
                ) from None
            yield stack.enter_context(client)
            return
        settings = {
            "distributed.scheduler.allowed-failures": engine.retries,
            # One task at a worker at a time: one that waits there is not to be blamed for the death of the worker.
            "distributed.scheduler.worker-saturation": 1.0,
            # Tasks are long until it is known that they are not: all workers are asked for at once.
            "distributed.scheduler.unknown-task-duration": "1h",
            # Dask has its workers hand back all memory they free, which takes half of their time.
            **{f"distributed.nanny.pre-spawn-environ.{name}": value for name, value in KEEPING.items()},
        }
        stack.enter_context(_environment_as_before())
        stack.enter_context(dask.config.set(settings))
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="tomosift-", ignore_cleanup_errors=True))
        if engine.slurm:
            cluster = stack.enter_context(_slurm_cluster(engine))
            cluster.adapt(minimum=0, maximum=min(engine.workers, tasks))
        else:
            cluster = stack.enter_context(
                LocalCluster(  # type: ignore[no-untyped-call]
                    n_workers=min(engine.workers, tasks),
                    threads_per_worker=1,
                    memory_limit=0,
                    scheduler_kwargs=_NO_PAGE,
                    local_directory=scratch,
                    silence_logs=logging.CRITICAL,
                )
            )
        yield stack.enter_context(Client(cluster, set_as_default=False))  # type: ignore[no-untyped-call]


@contextmanager
def _environment_as_before() -> Iterator[None]:
    """Dask leaves what it tells its workers in the environment of this process, for all that it starts later."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


def _slurm_cluster(engine: Engine) -> Any:
    """A scheduler here whose workers are SLURM jobs: one task at a time on several cores."""
    try:
        from dask_jobqueue.slurm import SLURMCluster
    except ImportError:
        raise ValueError(_NEEDS_DASK) from None
    return SLURMCluster(
        queue=engine.slurm_partition,
        account=engine.slurm_account,
        cores=1,
        processes=1,
        job_cpu=engine.slurm_cores,
        memory=engine.slurm_memory,
        walltime=engine.slurm_time,
        job_extra_directives=[one if one.startswith("-") else f"--{one}" for one in engine.slurm_directives],
        job_script_prologue=[
            f"export OMP_NUM_THREADS={engine.slurm_cores} MKL_NUM_THREADS={engine.slurm_cores}",
            "export " + " ".join(f"{name}={value}" for name, value in KEEPING.items()),
        ],
        job_name="tomosift",
        scheduler_options=dict(_NO_PAGE),
        silence_logs=logging.CRITICAL,
    )


def _sentence(failure: Exception) -> str:
    """What went wrong, in words for the user."""
    if type(failure).__name__ == "KilledWorker":
        return "its worker died again and again, perhaps for want of memory"
    if type(failure).__name__ == "FutureCancelledError":
        return "the scheduler gave it up; give the same command again"
    text = str(failure) or "no reason given"
    return text if isinstance(failure, ValueError | OSError) else f"{type(failure).__name__}: {text}"
