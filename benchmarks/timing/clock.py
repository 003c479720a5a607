"""Timings that can be compared on a machine that others use too.

Stages that are compared are timed in turn, round by round, so that a busy minute affects all of them, and ratios are
taken within a round. With one thread the clock is the processor time of the process. With more threads, and where files
are read or written, it is wall-clock time.
"""

import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

import torch

Work = Callable[[], object]

PEAK_EDGE = 2048
"""Edge of the matrices whose product measures the peak of this processor."""


@dataclass(frozen=True)
class Timing:
    """Seconds of each round."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.seconds)

    def per_second(self, count: float) -> tuple[float, float, float]:
        """Return median, lowest and highest of ``count`` per second."""
        return median_and_range([count / value for value in self.seconds])

    def over(self, other: "Timing") -> tuple[float, float, float]:
        """Return median, lowest and highest ratio to another timing of the same rounds."""
        return median_and_range([mine / yours for mine, yours in zip(self.seconds, other.seconds, strict=True)])


def median_and_range(values: list[float]) -> tuple[float, float, float]:
    """Return median, lowest and highest."""
    return median(values), min(values), max(values)


def in_turn(works: Mapping[str, Work], repeats: int, wall: bool = False) -> dict[str, Timing]:
    """Run each of these once without timing, then time all of them in turn, ``repeats`` times."""
    clock = time.perf_counter if wall or torch.get_num_threads() > 1 else time.process_time
    for work in works.values():
        work()
    rounds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            started = clock()
            work()
            rounds[name].append(clock() - started)
    return {name: Timing(tuple(seconds)) for name, seconds in rounds.items()}


def matrix_product() -> tuple[Work, float]:
    """Return a large float32 matrix product and its GFLOP."""
    generator = torch.Generator().manual_seed(0)
    one, other = (torch.randn(PEAK_EDGE, PEAK_EDGE, generator=generator) for _ in range(2))
    return lambda: one @ other, 2 * PEAK_EDGE**3 / 1e9


def peak_memory_gb() -> float:
    """Return the peak memory of the process so far; Linux counts in kilobytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def format_range(values: tuple[float, float, float]) -> str:
    """Format median, lowest and highest with about three significant digits."""
    return "{} ({} to {})".format(*(f"{value:,.{_digits(value)}f}" for value in values))


def _digits(value: float) -> int:
    return 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 0.1 else 4
