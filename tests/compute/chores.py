"""Tasks for the tests of the engine, in a module that workers can import."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Chore:
    """A number to square, and where to note that it was asked for."""

    number: int
    folder: Path
    dies_until: int = 0
    """The worker is killed so many times before it does the task."""
    fails: bool = False


def square(chore: Chore) -> int:
    attempts = chore.folder / f"{chore.number}.attempts"
    with attempts.open("a") as stream:
        stream.write("x")
    if len(attempts.read_text()) <= chore.dies_until:
        os.kill(os.getpid(), signal.SIGKILL)
    if chore.fails:
        raise ValueError(f"number {chore.number} cannot be squared")
    (chore.folder / f"{chore.number}.process").write_text(str(os.getpid()))
    return chore.number**2


def divide(number: int) -> float:
    return 1 / number
