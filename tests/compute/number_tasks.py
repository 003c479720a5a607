"""Tasks for the tests of the engine, in a module that workers can import."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class NumberTask:
    """A number to square, and the folder in which each attempt is recorded."""

    number: int
    folder: Path
    dies_until: int = 0
    """Number of attempts in which the worker is killed."""
    fails: bool = False


def square(task: NumberTask) -> int:
    attempts = task.folder / f"{task.number}.attempts"
    with attempts.open("a") as stream:
        stream.write("x")
    if len(attempts.read_text()) <= task.dies_until:
        os.kill(os.getpid(), signal.SIGKILL)
    if task.fails:
        raise ValueError(f"number {task.number} cannot be squared")
    (task.folder / f"{task.number}.process").write_text(str(os.getpid()))
    return task.number**2


def divide(number: int) -> float:
    return 1 / number
