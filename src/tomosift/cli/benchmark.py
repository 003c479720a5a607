"""Measure accuracy by protocol, method, label budget and seed; write one table and one report."""

from pathlib import Path
from typing import Annotated

import tyro

from tomosift.cli.terminal import TerminalMonitor, print_message
from tomosift.evaluation.benchmark.protocols import PROTOCOLS
from tomosift.evaluation.benchmark.runner import BenchmarkConfig
from tomosift.workflows.benchmark import benchmark


def command(
    protocol: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PROTOCOL")],
    config: Annotated[BenchmarkConfig, tyro.conf.arg(name="")],
    out: Path = Path("benchmark"),
    shard: str = "1/1",
) -> None:
    """Run a protocol of the benchmark, or "list" them; an interrupted benchmark resumes.

    Args:
        protocol: Name of the protocol.
        config: Which cells to measure.
        out: Folder for simulated particles, runs, cells, table.csv and report.html; several protocols may share it.
        shard: Share of the cells that this machine measures, as in 2/4; all machines use the same folder.
    """
    if protocol == "list":
        for name, known in PROTOCOLS.items():
            print_message(f"{name}: {known.description}")
        return
    benchmark(protocol, out, config=config, shard=_parse_shard(shard), monitor=TerminalMonitor())


def _parse_shard(shard: str) -> tuple[int, int]:
    """``2/4`` as (1, 4)."""
    first, slash, second = shard.partition("/")
    if not (slash and first.isdecimal() and second.isdecimal() and 1 <= int(first) <= int(second)):
        raise ValueError(f"shard is {shard!r}, expected i/n with i from 1 to n, such as 2/4")
    return int(first) - 1, int(second)
