"""Measure how much a label is worth: protocols, baselines, label budgets and seeds into one table and report."""

import sys
from pathlib import Path
from typing import Annotated

import tyro

from tomosift.cli.terminal import print_message, progress_bar
from tomosift.evaluation.benchmark.protocols import PROTOCOLS
from tomosift.evaluation.benchmark.report import write_benchmark_report
from tomosift.evaluation.benchmark.results import write_table
from tomosift.evaluation.benchmark.runner import BenchmarkConfig, run_benchmark
from tomosift.train.run import environment


def command(
    protocol: Annotated[str, tyro.conf.Positional],
    config: Annotated[BenchmarkConfig, tyro.conf.arg(name="")],
    out: Path = Path("benchmark"),
    shard: str = "1/1",
) -> None:
    """Run a protocol of the benchmark, or "list" them; a killed one goes on where it stopped.

    Args:
        protocol: Name of the protocol.
        config: What to measure.
        out: Folder for simulated particles, runs, cells, table.csv and report.html; several protocols may share it.
        shard: Which part of the work is done here, as in 2/4; parts share the folder.
    """
    if protocol == "list":
        for name, known in PROTOCOLS.items():
            print_message(f"{name}: {known.description}")
        return
    with progress_bar("benchmark", "cells") as update:
        rows = run_benchmark(protocol, config, out, part(shard), update)
    write_table(out / "table.csv", rows)
    write_benchmark_report(
        out / "report.html",
        rows,
        {"command": " ".join(["tomosift", *sys.argv[1:]]), "environment": environment()},
    )
    print_message(f"{out / 'table.csv'}: {len(rows)} rows")
    print_message(f"{out / 'report.html'}: learning curves and tables; open it in a browser")


def part(shard: str) -> tuple[int, int]:
    """``2/4`` as (1, 4).

    Raises
    ------
    ValueError
        When it is not of that form.
    """
    first, slash, second = shard.partition("/")
    if not (slash and first.isdecimal() and second.isdecimal() and 1 <= int(first) <= int(second)):
        raise ValueError(f"shard is {shard!r}, expected i/n with i from 1 to n, such as 2/4")
    return int(first) - 1, int(second)
