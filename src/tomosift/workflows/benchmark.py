"""Run a protocol of the benchmark and write its table and report."""

import sys
from pathlib import Path

from tomosift.evaluation.benchmark.report import write_benchmark_report
from tomosift.evaluation.benchmark.results import Row, write_table
from tomosift.evaluation.benchmark.runner import BenchmarkConfig, run_benchmark
from tomosift.progress import Monitor
from tomosift.train.run import environment


def benchmark(
    protocol: str,
    out: Path | str,
    *,
    config: BenchmarkConfig | None = None,
    shard: tuple[int, int] = (0, 1),
    monitor: Monitor | None = None,
) -> list[Row]:
    """Run a protocol of the benchmark; write ``table.csv`` and ``report.html``.

    Parameters
    ----------
    protocol
        Name in `tomosift.evaluation.benchmark.protocols.PROTOCOLS`.
    out
        Folder for simulated particles, runs and cells; an interrupted benchmark resumes. Protocols may share it.
    config
        Which cells to measure; None measures the defaults of the protocol.
    shard
        Index (from 0) and number of the machines that share the work and the folder.
    monitor
        Shows stages and messages.

    Returns
    -------
    list of Row
        All rows below the folder.

    Raises
    ------
    ValueError
        As of `run_benchmark`.
    """
    out, monitor = Path(out), monitor or Monitor()
    with monitor.stage("benchmark", "cells") as progress:
        rows = run_benchmark(protocol, config or BenchmarkConfig(), out, shard, progress)
    write_table(out / "table.csv", rows)
    provenance = {"command": " ".join(["tomosift", *sys.argv[1:]]), "environment": environment()}
    write_benchmark_report(out / "report.html", rows, provenance)
    monitor.message(f"{out / 'table.csv'}: {len(rows)} rows")
    monitor.message(f"{out / 'report.html'}: learning curves and tables; open it in a browser")
    return rows
