"""Job scripts for SLURM: a training on the GPUs of several nodes, or a command that distributes tasks through Dask."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tomosift.compute.directives import check_directive
from tomosift.files import written_then_renamed

_DURATION = re.compile(r"(\d+|\d+:\d\d(:\d\d)?|\d+-\d\d?(:\d\d){0,2})", re.ASCII)


@dataclass(frozen=True)
class JobScript:
    """Resources that a job requests from SLURM."""

    nodes: int = 1
    """Number of nodes to train on."""
    gpus: int = 0
    """GPUs of each node, with one process for each; 0 trains on CPUs."""
    processes: int = 1
    """Processes of each node, where there are no GPUs."""
    cores: int = 8
    """Cores of each process."""
    memory: str | None = None
    """Memory of each node, such as 64G; by default that of the site."""
    time: str = "12:00:00"
    """Time limit, as minutes, hours:minutes:seconds or days-hours."""
    partition: str | None = None
    """Partition to submit to; by default that of the site."""
    account: str | None = None
    """Account that is charged; by default that of the site."""
    name: str = "tomosift"
    """Name of the job and of its log."""
    setup: tuple[str, ...] = ()
    """Lines of shell that run before the command, such as "module load cuda"; they are not quoted."""

    def check(self) -> None:
        """Refuse settings that SLURM would misread in a script.

        Raises
        ------
        ValueError
            When a number is too small, or a value does not fit on a line of the script.
        """
        for field, least in (("nodes", 1), ("gpus", 0), ("processes", 1), ("cores", 1)):
            if getattr(self, field) < least:
                raise ValueError(f"{field} is {getattr(self, field)}, expected {least} or more")
        if self.gpus and self.processes != 1:
            raise ValueError(f"processes is {self.processes}, expected 1 with GPUs: each of them has a process")
        if not _DURATION.fullmatch(self.time):
            raise ValueError(f"time is {self.time!r}, expected a time limit such as 12:00:00 or 2-00")
        for field in ("memory", "partition", "account", "name"):
            if getattr(self, field) is not None:
                check_directive(field, getattr(self, field))
        for line in self.setup:
            if any(ord(letter) < 32 and letter != "\t" for letter in line):
                raise ValueError(f"setup is {line!r}, expected a single line of shell; give several for more")

    @property
    def tasks_per_node(self) -> int:
        """Processes of each node."""
        return self.gpus or self.processes


def format_job_script(job: JobScript, command: Sequence[str]) -> str:
    """Return a job script that runs a ``tomosift`` command.

    A training with several processes is started by ``srun``, which gives each process its rank. Every other command
    runs once, on the first node, and may submit its own workers.

    Parameters
    ----------
    job
        Resources of the job.
    command
        Words after ``tomosift``.

    Raises
    ------
    ValueError
        When a value does not fit into the script, or a command that is no training requests several processes.

    Examples
    --------
    >>> format_job_script(JobScript(), ["extract", "picks.star"]).splitlines()[-1]
    'tomosift extract picks.star'
    """
    job.check()
    if not command:
        raise ValueError(
            "there is no command for the job; give it after --, such as: -- train contrastive SET --out RUN"
        )
    if any("\0" in word for word in command):
        raise ValueError("the command holds a null character, which no argument can contain; remove it")
    world_size = job.nodes * job.tasks_per_node
    if world_size > 1 and command[0] != "train":
        raise ValueError(
            f"nodes and processes make {world_size} processes, but tomosift {command[0]} is no training and runs in "
            "one; request one, and let the command submit workers with --slurm"
        )
    # Without kill-on-bad-exit, the other processes would wait for a failed one until the time limit.
    start = "srun --kill-on-bad-exit=1 --cpus-per-task=$SLURM_CPUS_PER_TASK " if world_size > 1 else ""
    lines = [
        "#!/bin/bash",
        *_format_directives(job),
        "",
        "# Submit the same script again to resume an interrupted job.",
        "set -euo pipefail",
        "export OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK",
        *job.setup,
        f"{start}tomosift {shlex.join(command)}",
    ]
    return "\n".join(lines) + "\n"


def _format_directives(job: JobScript) -> list[str]:
    """Return the ``#SBATCH`` lines of a job."""
    options = {
        "job-name": job.name,
        "output": f"{job.name}-%j.log",
        "nodes": job.nodes,
        "ntasks-per-node": job.tasks_per_node,
        "gpus-per-node": job.gpus or None,
        "cpus-per-task": job.cores,
        "mem": job.memory,
        "time": job.time,
        "partition": job.partition,
        "account": job.account,
    }
    return [f"#SBATCH --{name}={value}" for name, value in options.items() if value is not None]


def write_job_script(path: Path, job: JobScript, command: Sequence[str]) -> None:
    """Write the script of `format_job_script`, ready for ``sbatch``.

    Raises
    ------
    ValueError
        See `format_job_script`.
    """
    text = format_job_script(job, command)
    with written_then_renamed(path) as temporary:
        temporary.write_text(text)
        temporary.chmod(0o755)
