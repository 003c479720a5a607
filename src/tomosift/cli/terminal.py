"""What a person at a terminal sees: progress bars, plain sentences and tables."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

console = Console(stderr=True, highlight=False)
_SECONDS_BETWEEN_LINES = 15.0


def print_message(sentence: str) -> None:
    """One line for the user; markup characters in it are plain text."""
    console.print(sentence, markup=False, soft_wrap=True)


def print_table(title: str, header: list[str], rows: list[list[str]]) -> None:
    """A table on standard output."""
    table = Table(title=title or None, header_style="bold")
    for name in header:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*map(str, row))
    Console(highlight=False, markup=False).print(table)


@runtime_checkable
class Update(Protocol):
    """Tells a bar how much is done of how much, and a note to show beside it."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Show it."""


@contextmanager
def progress_bar(what: str, unit: str) -> Iterator[Update]:
    """A bar with count, rate and time left; yields ``update(done, total, note)``.

    Where standard error is no terminal (a log file, SLURM) a line is printed every 15 seconds and at the end.
    """
    if not sys.stderr.isatty():
        yield _line_printer(what, unit)
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
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(what, total=None, rate="", note="")

        def update(done: int, total: int, note: str = "") -> None:
            speed = progress.tasks[task].speed
            rate = f"{speed:.1f} {unit}/s" if speed else ""
            progress.update(task, completed=done, total=total, rate=rate, note=note)

        yield update


def step_note(losses: dict[str, float]) -> str:
    """What a bar of training says beside its steps."""
    return "averages of the classes" if "averages" in losses else f"loss {losses['loss']:.3f}"


def _line_printer(what: str, unit: str) -> Update:
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
        sys.stderr.write(f"{what}: {done} of {total}, {rate:.1f} {unit}/s{left}{'  ' + note if note else ''}\n")
        sys.stderr.flush()

    return update
