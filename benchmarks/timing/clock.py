"""Times that can be compared on a machine that others use too.

Whatever is compared is timed in turn, round by round, so that a busy minute meets all of it, and ratios are taken
within a round. With one thread the clock is the processor time of the process, which waits for nobody; with more
threads, and where files are read or written, it is the clock on the wall.
"""

import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

import torch

Work = Callable[[], object]

PEAK_EDGE = 2048
"""Edge of the matrices whose product says how fast this processor multiplies."""


@dataclass(frozen=True)
class Timing:
    """Seconds of each round."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.seconds)

    def per_second(self, count: float) -> tuple[float, float, float]:
        """Median, lowest and highest of ``count`` over seconds."""
        return spread_of([count / value for value in self.seconds])

    def over(self, other: "Timing") -> tuple[float, float, float]:
        """Median, lowest and highest ratio to another timing of the same rounds."""
        return spread_of([mine / yours for mine, yours in zip(self.seconds, other.seconds, strict=True)])


def spread_of(values: list[float]) -> tuple[float, float, float]:
    """Median, lowest and highest."""
    return median(values), min(values), max(values)


def in_turn(works: Mapping[str, Work], repeats: int, wall: bool = False) -> dict[str, Timing]:
    """Each of these once without counting, then all of them ``repeats`` times in turn."""
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
    """A large float32 product of matrices, and its GFLOP."""
    generator = torch.Generator().manual_seed(0)
    one, other = (torch.randn(PEAK_EDGE, PEAK_EDGE, generator=generator) for _ in range(2))
    return lambda: one @ other, 2 * PEAK_EDGE**3 / 1e9


def peak_memory_gb() -> float:
    """Most memory that the process has held so far; Linux counts in kilobytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def shown(spread: tuple[float, float, float]) -> str:
    """Median and range with three digits that count."""
    return "{} ({} to {})".format(*(f"{value:,.{_digits(value)}f}" for value in spread))


def _digits(value: float) -> int:
    return 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 0.1 else 4
