"""How long work reports where it stands: one type of progress, and a monitor that shows stages and messages."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable


@runtime_checkable
class Progress(Protocol):
    """Called as work goes on; ``note`` is a short text beside the bar, such as a loss."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Report ``done`` of ``total`` units."""


def ignore_progress(done: int, total: int, note: str = "") -> None:
    """Report nothing."""


def ignore_message(sentence: str) -> None:
    """Report nothing."""


class Monitor:
    """What a workflow tells its caller; this one is silent, the one of the command line prints.

    Examples
    --------
    >>> from tomosift.progress import Monitor
    >>> with Monitor().stage("extract", "subtomograms") as progress:
    ...     progress(1, 10)
    """

    @contextmanager
    def stage(self, name: str, unit: str) -> Iterator[Progress]:
        """Open a stage of the work, whose progress is counted in ``unit``."""
        yield ignore_progress

    def message(self, sentence: str) -> None:
        """Pass on one sentence for the user."""
