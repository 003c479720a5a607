"""Engine for independent tasks: in this process one after another, in several processes, or on a cluster through Dask.

A task writes its result under another name and renames it, and does nothing where its result exists. An interrupted
command can therefore be repeated, and the engine itself stores nothing.
"""

import logging
import os
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from tomosift.compute.directives import check_directive
from tomosift.malloc import ENVIRONMENT
from tomosift.progress import Progress, ignore_progress

T = TypeVar("T")
R = TypeVar("R")

_CONNECTION_TIMEOUT_SECONDS = 15
_NO_DASHBOARD = {"dashboard": False, "dashboard_address": ":0"}  # any free port: two engines may run at once
_NEEDS_DASK = "workers, a scheduler and SLURM need Dask; install it with: pip install 'tomosift[cluster]'"


@dataclass(frozen=True)
class Engine:
    """Where independent tasks run.

    Examples
    --------
    >>> Engine(workers=8).is_shared
    True
    """

    workers: int = 0
    """Number of processes on this machine, or largest number of SLURM jobs at a time. 0 runs one task after another in
    this process."""
    scheduler: str | None = None
    """Address of a running Dask scheduler whose workers run the tasks, such as tcp://host:8786."""
    slurm: bool = False
    """Submit workers to SLURM as long as there are tasks, up to the number of workers."""
    slurm_partition: str | None = None
    """Partition to submit to; by default that of the site."""
    slurm_account: str | None = None
    """Account that is charged; by default that of the site."""
    slurm_cores: int = 4
    """Cores of each worker, which runs one task at a time."""
    slurm_memory: str = "16GB"
    """Memory of each worker."""
    slurm_time: str = "08:00:00"
    """Time limit of each worker. Another worker repeats a task that the limit cut short."""
    slurm_directives: tuple[str, ...] = ()
    """Further options of sbatch, without dashes, such as gres=gpu:1."""
    retries: int = 3
    """How often a task is repeated after its worker died. A running scheduler uses its own setting instead."""

    @property
    def is_shared(self) -> bool:
        """Whether other processes than this one run the tasks."""
        return bool(self.workers) or self.scheduler is not None

    def check(self) -> None:
        """Refuse settings that contradict each other.

        Raises
        ------
        ValueError
            When a number is too small, two engines are selected, or a value does not fit on one line of a job script.
        """
        for name, least in (("workers", 0), ("retries", 0), ("slurm_cores", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}, expected {least} or more")
        if self.scheduler is not None and (self.slurm or self.workers):
            raise ValueError("give either scheduler, which has workers already, or workers and slurm")
        if self.slurm and not self.workers:
            raise ValueError("workers is 0, expected 1 or more with slurm: the largest number of jobs at a time")
        for name in ("slurm_partition", "slurm_account", "slurm_memory", "slurm_time"):
            if getattr(self, name) is not None:
                check_directive(name, getattr(self, name))
        for directive in self.slurm_directives:
            check_directive("slurm_directives", directive, spaces=True)


def for_each(
    function: Callable[[T], R],
    tasks: Sequence[T],
    engine: Engine,
    progress: Progress = ignore_progress,
) -> list[R]:
    """Run a function on each task and return the results in the order of the tasks.

    A task whose worker dies is given to another worker. A task that raises does not stop the others.

    Parameters
    ----------
    function
        A function at the top level of a module, which the workers can import.
    tasks
        Small objects that can be pickled, such as frozen dataclasses of names and paths; results should be small too.
    engine
        Where the tasks run.
    progress
        Called with the number of finished tasks, failed ones included.

    Raises
    ------
    ValueError
        When the settings of the engine contradict each other, Dask is missing, or its scheduler does not answer. After
        all tasks, when some of them failed: the message holds their number and the first failure, the notes hold all.

    Examples
    --------
    >>> from math import factorial
    >>> for_each(factorial, [3, 5, 4], Engine())
    [6, 120, 24]
    """
    engine.check()
    results: list[Any] = [None] * len(tasks)
    failures: dict[int, Exception] = {}
    with closing(_run_tasks(function, tasks, engine)) as outcomes:  # closing ends the workers, also at an interruption
        for count, (number, result, failure) in enumerate(outcomes, 1):
            results[number] = result
            if failure is not None:
                failures[number] = failure
            progress(count, len(tasks))
    if failures:
        first = failures[min(failures)]
        error = ValueError(f"{len(failures)} of {len(tasks)} tasks failed, the first with: {_describe(first)}")
        for number in sorted(failures):
            error.add_note(f"task {number + 1}: {_describe(failures[number])}")
        raise error from first
    return results


Outcome = tuple[int, Any, Exception | None]
"""Number of a task, its result, and the exception that it raised instead."""


def _run_tasks(function: Callable[[T], R], tasks: Sequence[T], engine: Engine) -> Generator[Outcome, None, None]:
    """Yield the outcome of each task as it ends."""
    if not tasks:
        return
    if engine.is_shared:
        yield from _run_with_dask(function, tasks, engine)
        return
    for number, task in enumerate(tasks):
        try:
            result, failure = function(task), None
        except Exception as error:  # of any kind: the other tasks still run
            result, failure = None, error
        yield number, result, failure


def _run_with_dask(function: Callable[[T], R], tasks: Sequence[T], engine: Engine) -> Iterator[Outcome]:
    """Yield the outcome of each task as a worker of Dask returns it."""
    with _connect(engine, len(tasks)) as client:
        from distributed import as_completed

        futures = client.map(function, tasks, pure=False)
        number_of = {future.key: number for number, future in enumerate(futures)}
        completed = as_completed(futures, loop=client.loop)  # type: ignore[no-untyped-call]
        futures.clear()  # results are released as they arrive, so that a dying worker takes none with it
        for future in completed:
            try:
                # A result that was lost with its worker before it arrived is computed again, and waited for here.
                result, failure = future.result(), None
            except Exception as error:
                result, failure = None, error
            yield number_of[future.key], result, failure
            future.release()


@contextmanager
def _connect(engine: Engine, task_count: int) -> Iterator[Any]:
    """Yield a Dask client of the running scheduler, or of a new one that ends with it."""
    try:
        import dask
        from distributed import Client, LocalCluster
    except ImportError:
        raise ValueError(_NEEDS_DASK) from None
    with ExitStack() as stack:
        if engine.scheduler is not None:
            try:
                client = Client(engine.scheduler, timeout=_CONNECTION_TIMEOUT_SECONDS, set_as_default=False)  # type: ignore[no-untyped-call]
            except (OSError, TimeoutError):
                raise ValueError(
                    f"no Dask scheduler answers at {engine.scheduler}; check the address, or start one with "
                    "dask scheduler"
                ) from None
            yield stack.enter_context(client)
            return
        settings = {
            "distributed.scheduler.allowed-failures": engine.retries,
            # One task at a worker at a time: a waiting task must not count as a cause of the death of its worker.
            "distributed.scheduler.worker-saturation": 1.0,
            # Tasks count as long until their duration is known, so that all workers are started at once.
            "distributed.scheduler.unknown-task-duration": "1h",
            # By default the workers of Dask return all freed memory to the system, which takes half of their time.
            **{f"distributed.nanny.pre-spawn-environ.{name}": value for name, value in ENVIRONMENT.items()},
        }
        stack.enter_context(_preserve_environment())
        stack.enter_context(dask.config.set(settings))
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="tomosift-", ignore_cleanup_errors=True))
        if engine.slurm:
            cluster = stack.enter_context(_slurm_cluster(engine))
            cluster.adapt(minimum=0, maximum=min(engine.workers, task_count))
        else:
            cluster = stack.enter_context(
                LocalCluster(  # type: ignore[no-untyped-call]
                    n_workers=min(engine.workers, task_count),
                    threads_per_worker=1,
                    memory_limit=0,
                    scheduler_kwargs=_NO_DASHBOARD,
                    local_directory=scratch,
                    silence_logs=logging.CRITICAL,
                )
            )
        yield stack.enter_context(Client(cluster, set_as_default=False))  # type: ignore[no-untyped-call]


@contextmanager
def _preserve_environment() -> Iterator[None]:
    """Restore the environment of this process, in which Dask leaves the settings of its workers."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


def _slurm_cluster(engine: Engine) -> Any:
    """Return a local scheduler whose workers are SLURM jobs that run one task at a time on several cores."""
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
        job_extra_directives=[
            option if option.startswith("-") else f"--{option}" for option in engine.slurm_directives
        ],
        job_script_prologue=[
            f"export OMP_NUM_THREADS={engine.slurm_cores} MKL_NUM_THREADS={engine.slurm_cores}",
            "export " + " ".join(f"{name}={value}" for name, value in ENVIRONMENT.items()),
        ],
        job_name="tomosift",
        scheduler_options=dict(_NO_DASHBOARD),
        silence_logs=logging.CRITICAL,
    )


def _describe(failure: Exception) -> str:
    """Describe a failure in one sentence for the user."""
    if type(failure).__name__ == "KilledWorker":
        return "its worker died at every attempt, perhaps for lack of memory"
    if type(failure).__name__ == "FutureCancelledError":
        return "the scheduler canceled it; give the same command again"
    text = str(failure) or "no reason given"
    return text if isinstance(failure, ValueError | OSError) else f"{type(failure).__name__}: {text}"
