"""Job scripts for SLURM: a training over GPUs of several nodes, or a command that shares out work through Dask."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tomosift.files import written_then_renamed

_DURATION = re.compile(r"(\d+|\d+:\d\d(:\d\d)?|\d+-\d\d?(:\d\d){0,2})", re.ASCII)
_NODE_NAME = re.compile(r"[\w.+=:,@/%-]+", re.ASCII)


def checked_directive(name: str, value: str, spaces: bool = False) -> str:
    """A value that may stand on an ``#SBATCH`` line.

    SLURM reads such a line itself, without a shell: quotes and escapes would be part of the value, so what needs them
    is refused.

    Raises
    ------
    ValueError
        When it is empty, starts a new line, or holds anything but letters, digits and ``. + = : , @ / % _ -``, and
        spaces where these are allowed.
    """
    if not all(_NODE_NAME.fullmatch(word) for word in (value.split(" ") if spaces else [value])):
        raise ValueError(f"{name} is {value!r}, expected letters, digits and .+=:,@/%_- only")
    return value


@dataclass(frozen=True)
class JobScript:
    """What a job asks of SLURM."""

    nodes: int = 1
    """Nodes to train on."""
    gpus: int = 0
    """GPUs of each node, one process for each; 0 trains on processors."""
    processes: int = 1
    """Processes of each node, where there are no GPUs."""
    cores: int = 8
    """Cores of each process."""
    memory: str | None = None
    """Memory of each node, such as 64G; none takes what the site gives."""
    time: str = "12:00:00"
    """Time limit, as minutes, hours:minutes:seconds or days-hours."""
    partition: str | None = None
    """Partition to submit to."""
    account: str | None = None
    """Account that is charged."""
    name: str = "tomosift"
    """Name of the job and of its log."""
    setup: tuple[str, ...] = ()
    """Lines of shell that come first, such as "module load cuda"; they are run as they are."""

    def check(self) -> None:
        """Refuse what would make a script that SLURM misreads.

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
                checked_directive(field, getattr(self, field))
        for line in self.setup:
            if any(ord(letter) < 32 and letter != "\t" for letter in line):
                raise ValueError(f"setup is {line!r}, expected a single line of shell; give several for more")

    @property
    def tasks_per_node(self) -> int:
        """Processes of each node."""
        return self.gpus or self.processes


def job_script(asked: JobScript, command: Sequence[str]) -> str:
    """The script that runs ``tomosift`` with these words.

    A training over several processes is started by ``srun``, which tells each process its place; everything else runs
    once, on the first node, and may submit workers of its own.

    Raises
    ------
    ValueError
        When a value does not fit into the script, or several processes are asked for by a command that is no training.
    """
    asked.check()
    if not command:
        raise ValueError(
            "there is no command for the job; give it after --, such as: -- train contrastive SET --out RUN"
        )
    if any("\0" in word for word in command):
        raise ValueError("the command holds a null character, which no program can be given")
    together = asked.nodes * asked.tasks_per_node
    if together > 1 and command[0] != "train":
        raise ValueError(
            f"nodes and processes make {together} processes, but tomosift {command[0]} is no training and starts as "
            "one; let it submit workers of its own"
        )
    options = {
        "job-name": asked.name,
        "output": f"{asked.name}-%j.log",
        "nodes": asked.nodes,
        "ntasks-per-node": asked.tasks_per_node,
        "gpus-per-node": asked.gpus or None,
        "cpus-per-task": asked.cores,
        "mem": asked.memory,
        "time": asked.time,
        "partition": asked.partition,
        "account": asked.account,
    }
    directives = [f"#SBATCH --{name}={value}" for name, value in options.items() if value is not None]
    # Where one process fails the others would wait for it until the time is up.
    start = "srun --kill-on-bad-exit=1 --cpus-per-task=$SLURM_CPUS_PER_TASK " if together > 1 else ""
    lines = [
        "#!/bin/bash",
        *directives,
        "",
        "# Submit the same script again to go on where a job was cut short.",
        "set -euo pipefail",
        "export OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK",
        *asked.setup,
        f"{start}tomosift {shlex.join(command)}",
    ]
    return "\n".join(lines) + "\n"


def write_job_script(path: Path, asked: JobScript, command: Sequence[str]) -> None:
    """Write the script of `job_script`, ready for ``sbatch``.

    Raises
    ------
    ValueError
        See `job_script`.
    """
    text = job_script(asked, command)
    with written_then_renamed(path) as temporary:
        temporary.write_text(text)
        temporary.chmod(0o755)
