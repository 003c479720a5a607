"""What a person at a terminal sees: progress bars, plain sentences and tables."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table

from tomosift.data.predictions import CLASS
from tomosift.errors import escape_controls
from tomosift.particles import Particles
from tomosift.progress import Monitor, Progress

console = Console(stderr=True, highlight=False)
_SECONDS_BETWEEN_LINES = 15.0


def print_message(sentence: str) -> None:
    """Print one line for the user on standard error; markup characters in it are plain text."""
    console.print(escape_controls(sentence), markup=False, soft_wrap=True)


def print_table(title: str, header: list[str], rows: list[list[str]]) -> None:
    """Print a table on standard output."""
    table = Table(title=escape_controls(title) or None, header_style="bold")
    for name in header:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(escape_controls(str(cell)) for cell in row))
    Console(highlight=False, markup=False).print(table)


def print_class_counts(out: Path, particles: Particles) -> None:
    """Print how many particles of each class were written to a file."""
    names, counts = np.unique(particles.columns[CLASS].astype(str), return_counts=True)
    rows = [[str(name), str(count)] for name, count in zip(names, counts, strict=True)]
    print_table(f"{out}: {len(particles)} particles", ["class", "particles"], rows)


class TerminalMonitor(Monitor):
    """Shows stages as progress bars and prints messages."""

    @contextmanager
    def stage(self, name: str, unit: str) -> Iterator[Progress]:
        """Show a progress bar for the time of the stage."""
        with progress_bar(name, unit) as progress:
            yield progress

    def message(self, sentence: str) -> None:
        """Print one sentence."""
        print_message(sentence)


@contextmanager
def progress_bar(name: str, unit: str) -> Iterator[Progress]:
    """Show a bar with count, rate and time left.

    Where standard error is no terminal (a log file, SLURM) a line is printed every 15 seconds and at the end.
    """
    if not sys.stderr.isatty():
        yield _line_printer(name, unit)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Bars(*columns, console=console) as bars:
        task = bars.add_task(name, total=None, rate="", note="")

        def update(done: int, total: int, note: str = "") -> None:
            speed = bars.tasks[task].speed
            rate = f"{speed:.1f} {unit}/s" if speed else ""
            bars.update(task, completed=done, total=total, rate=rate, note=note)

        yield update


def _line_printer(name: str, unit: str) -> Progress:
    started = time.monotonic()
    first: list[int] = []
    printed = [started]

    def update(done: int, total: int, note: str = "") -> None:
        first.append(done) if not first else None
        now = time.monotonic()
        if done < total and now - printed[0] < _SECONDS_BETWEEN_LINES:
            return
        printed[0] = now
        rate = (done - first[0]) / max(now - started, 1e-9)
        left = f", {(total - done) / rate:.0f} s left" if rate > 0 and done < total else ""
        sys.stderr.write(f"{name}: {done} of {total}, {rate:.1f} {unit}/s{left}{'  ' + note if note else ''}\n")
        sys.stderr.flush()

    return update
