"""The runner of the benchmark: one small file per finished cell, so that an interrupted benchmark resumes.

Cells that share particles and pretraining form a group. Groups, not cells, are distributed over machines.
"""

import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tomosift.data.splits import sample_labels
from tomosift.errors import FormatError
from tomosift.evaluation.benchmark.datasets import BenchmarkData, build_data
from tomosift.evaluation.benchmark.entries import entries_of
from tomosift.evaluation.benchmark.protocols import PROTOCOLS, Protocol
from tomosift.evaluation.benchmark.results import Row, parse_row
from tomosift.evaluation.benchmark.scoring import CellScores, score_few_shot, score_prediction
from tomosift.evaluation.benchmark.task import BenchmarkTask
from tomosift.evaluation.metrics.few_shot import QUERIES
from tomosift.files import write_json
from tomosift.progress import Progress, ignore_progress


@dataclass(frozen=True)
class BenchmarkConfig:
    """Which cells to measure; an empty field takes the defaults of the protocol."""

    methods: tuple[str, ...] = ()
    """Names of the benchmark entries."""
    snrs: tuple[float, ...] = ()
    """Signal-to-noise ratios; inf is no noise."""
    budgets: tuple[str, ...] = ()
    """Labels per class (5), a share of the training part (5%), or all."""
    seeds: int = 3
    """Number of seeds; each draws its own particles, noise, labeled subset and initial weights."""
    per_class: int = 0
    """Particles of each class, instead of the protocol's number."""
    scale: float = 1.0
    """Factor on the number of training steps of all methods."""


@dataclass(frozen=True)
class Cell:
    """One number of the table."""

    protocol: str
    snr: float
    seed: int
    method: str
    budget: str

    @property
    def group(self) -> str:
        """Name of the particles, and of the pretraining on them, that this cell shares with others."""
        return f"{PROTOCOLS[self.protocol].particles_of or self.protocol}-{self._conditions}"

    @property
    def name(self) -> str:
        """Unique, and valid as a file name."""
        return f"{self.protocol}-{self._conditions}-{self.method}-{self.budget.replace('%', 'percent')}"

    @property
    def _conditions(self) -> str:
        return f"snr{self.snr:g}-seed{self.seed}"


def list_cells(protocol: str, config: BenchmarkConfig) -> list[Cell]:
    """Return all cells of a protocol, those of one group in a row.

    Raises
    ------
    ValueError
        The protocol is unknown, an entry does not apply to it, a budget is not valid, or there is no seed.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol is {protocol!r}, expected one of {', '.join(PROTOCOLS)}")
    known = PROTOCOLS[protocol]
    _check_config(protocol, known, config)
    return [
        Cell(protocol, float(snr), seed, method, budget)
        for seed in range(config.seeds)
        for snr in config.snrs or known.snrs
        for budget in config.budgets or known.budgets
        for method in config.methods or known.methods
    ]


def _check_config(name: str, protocol: Protocol, config: BenchmarkConfig) -> None:
    entries = entries_of(protocol)
    for method in config.methods:
        if method not in entries:
            raise ValueError(f"method is {method!r}, expected one of {', '.join(entries)} for the protocol {name}")
    if config.seeds < 1 or config.scale <= 0 or config.per_class < 0:
        got = f"seeds is {config.seeds}, scale is {config.scale:g} and per_class is {config.per_class}"
        raise ValueError(f"{got}, expected at least 1, more than 0 and at least 0")
    per_class = config.per_class or protocol.per_class
    for budget in config.budgets or protocol.budgets:
        if protocol.ways and not (budget.isdecimal() and int(budget)):
            raise ValueError(f"budget is {budget!r}, expected examples of each class of an episode, such as 5")
        if protocol.ways and int(budget) + QUERIES > per_class:
            raise ValueError(
                f"budget is {budget} and per_class {per_class}, but an episode has {QUERIES} queries of each class as "
                f"well; set per_class to {int(budget) + QUERIES} or more"
            )
        labels_per_class(budget, 100.0)


def labels_per_class(budget: str, training_per_class: float) -> int:
    """Return the labels of each class of a budget.

    Parameters
    ----------
    budget
        Labels per class (``5``), a share of the training particles (``5%``) or ``all``.
    training_per_class
        Mean number of training particles of a class.

    Raises
    ------
    ValueError
        The budget is neither a positive number, a percentage nor ``all``.

    Examples
    --------
    >>> labels_per_class("5", 300.0), labels_per_class("5%", 300.0)
    (5, 15)
    """
    if budget == "all":
        return sys.maxsize
    is_share = budget.endswith("%")
    try:
        number = float(budget[:-1]) if is_share else int(budget)
    except ValueError:
        number = 0
    if not 0 < number < math.inf or (is_share and number > 100):
        raise ValueError(f"budget is {budget!r}, expected labels per class (5), a share (5%) or all")
    return max(1, round(number / 100 * training_per_class)) if is_share else int(number)


def select_shard(cells: Sequence[Cell], index: int, count: int) -> list[Cell]:
    """Return the cells of one of ``count`` machines (``index`` from 0): every count-th group."""
    groups = list(dict.fromkeys(cell.group for cell in cells))
    selected = set(groups[index::count])
    return [cell for cell in cells if cell.group in selected]


def run_benchmark(
    protocol: str,
    config: BenchmarkConfig,
    folder: Path,
    shard: tuple[int, int] = (0, 1),
    progress: Progress = ignore_progress,
) -> list[Row]:
    """Measure the cells that are missing below a folder.

    Parameters
    ----------
    protocol
        Name in `PROTOCOLS`.
    config
        Which cells to measure.
    folder
        Where particles, runs and cells are kept.
    shard
        Index (from 0) and number of the machines that share the work.
    progress
        Called with the number of finished cells; the note is the name of the current one.

    Returns
    -------
    list of Row
        All rows below the folder, also those of other shards and runs.

    Raises
    ------
    ValueError
        See `list_cells`; also when the folder was made with other numbers of particles or steps.
    """
    cells = select_shard(list_cells(protocol, config), *shard)
    _check_folder(folder, config)
    data: dict[str, BenchmarkData] = {}
    for done, cell in enumerate(cells):
        progress(done, len(cells), cell.name)
        path = folder / "cells" / f"{cell.name}.json"
        if path.exists():
            continue
        if cell.group not in data:
            data = {cell.group: _open_data(cell, config, folder)}  # of one group at a time, for the memory
        write_json(path, asdict(_measure(cell, config, data[cell.group], folder)))
    progress(len(cells), len(cells))
    return read_finished_rows(folder)


def read_finished_rows(folder: Path) -> list[Row]:
    """Return the rows of all finished cells below a folder.

    Raises
    ------
    FormatError
        A file of a cell is damaged.
    """
    rows = []
    for path in sorted((folder / "cells").glob("*.json")):
        try:
            rows.append(parse_row(json.loads(path.read_text())))
        except (ValueError, TypeError, KeyError) as error:
            advice = "delete the file to measure it again"
            raise FormatError(path, "content", str(error), "a finished cell", advice) from None
    return rows


def _check_folder(folder: Path, config: BenchmarkConfig) -> None:
    settings = {"scale": config.scale, "per_class": config.per_class}
    path = folder / "benchmark.json"
    if path.exists() and json.loads(path.read_text()) != settings:
        raise ValueError(f"{path} has {path.read_text().strip()}, but {settings} was requested; use another --out")
    write_json(path, settings)


def _open_data(cell: Cell, config: BenchmarkConfig, folder: Path) -> BenchmarkData:
    protocol = PROTOCOLS[cell.protocol]
    if config.per_class:
        protocol = replace(protocol, per_class=config.per_class)
    return build_data(protocol, cell.snr, cell.seed, folder / "worlds" / cell.group)


def _measure(cell: Cell, config: BenchmarkConfig, data: BenchmarkData, folder: Path) -> Row:
    protocol = PROTOCOLS[cell.protocol]
    labeled = data.train.select(data.train.labeled_rows)
    if protocol.ways:
        labels = float(cell.budget)  # examples are drawn within the episodes
    else:
        budget = labels_per_class(cell.budget, len(labeled) / len(labeled.class_names))
        labeled = labeled.select(sample_labels(labeled, budget, cell.seed))
        labels = round(len(labeled) / len(labeled.class_names), 2)
    shared, own = folder / "shared" / cell.group, folder / "runs" / cell.name
    task = BenchmarkTask(protocol, cell.snr, data, labeled, cell.seed, shared, own, config.scale)
    started = time.monotonic()
    scores = _score(cell, task)
    return Row(
        protocol=cell.protocol,
        snr=cell.snr,
        method=cell.method,
        budget=cell.budget,
        labels_per_class=labels,
        seed=cell.seed,
        **asdict(scores),
        test_particles=int((data.test.label >= 0).sum()),
        seconds=round(time.monotonic() - started, 1),
    )


def _score(cell: Cell, task: BenchmarkTask) -> CellScores:
    result = entries_of(task.protocol)[cell.method].run(task)
    if task.protocol.ways:
        return score_few_shot(result, task, int(cell.budget))
    return score_prediction(result, task)
