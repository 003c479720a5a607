"""The benchmark: protocol x noise x method x label budget x seed, one small file per finished cell, one table of all.

A killed benchmark goes on with the cells that are missing. Cells that share particles and pretraining form a group;
groups, not cells, are shared out over machines.
"""

import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from tomosift.data.splits import sample_labels
from tomosift.errors import FormatError
from tomosift.evaluation.benchmark.datasets import BenchmarkData, build_data
from tomosift.evaluation.benchmark.entries import entries_of
from tomosift.evaluation.benchmark.entries.few_shot import few_shot_scores
from tomosift.evaluation.benchmark.protocols import PROTOCOLS
from tomosift.evaluation.benchmark.results import Row, row_from
from tomosift.evaluation.benchmark.task import BenchmarkTask, EntryResult
from tomosift.evaluation.metrics.classification import calibration, score
from tomosift.evaluation.metrics.few_shot import QUERIES
from tomosift.files import write_json


@dataclass(frozen=True)
class BenchmarkConfig:
    """What to measure; where empty, the protocol's own choice."""

    methods: tuple[str, ...] = ()
    """Rows of the table."""
    snrs: tuple[float, ...] = ()
    """Noise levels; inf is no noise."""
    budgets: tuple[str, ...] = ()
    """Labels per class (5), a share of the training part (5%), or all."""
    seeds: int = 3
    """Each draws its own particles, noise, labeled subset and initial weights."""
    per_class: int = 0
    """Particles of each class, instead of the protocol's number."""
    scale: float = 1.0
    """Factor on the numbers of training steps of all methods."""


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
        """Name of what this cell shares with others: the particles and the pretraining on them."""
        return f"{PROTOCOLS[self.protocol].particles_of or self.protocol}-{self._conditions}"

    @property
    def name(self) -> str:
        """Unique, and fit for a file name."""
        return f"{self.protocol}-{self._conditions}-{self.method}-{self.budget.replace('%', 'percent')}"

    @property
    def _conditions(self) -> str:
        return f"snr{self.snr:g}-seed{self.seed}"


def cells_of(protocol: str, config: BenchmarkConfig) -> list[Cell]:
    """All cells of a protocol, those of one group in a row.

    Raises
    ------
    ValueError
        When the protocol is unknown, a method does not answer it, a budget cannot be read, or there is no seed.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol is {protocol!r}, expected one of {', '.join(PROTOCOLS)}")
    asked = PROTOCOLS[protocol]
    known = entries_of(asked)
    for name in config.methods:
        if name not in known:
            raise ValueError(f"method is {name!r}, expected one of {', '.join(known)} for the protocol {protocol}")
    if config.seeds < 1 or config.scale <= 0 or config.per_class < 0:
        got = f"seeds is {config.seeds}, scale is {config.scale:g} and per_class is {config.per_class}"
        raise ValueError(f"{got}, expected at least 1, more than 0 and at least 0")
    budgets = config.budgets or asked.budgets
    each = config.per_class or asked.per_class
    for budget in budgets:
        if asked.ways and not (budget.isdecimal() and int(budget)):
            raise ValueError(f"budget is {budget!r}, expected examples of each class of an episode, such as 5")
        if asked.ways and int(budget) + QUERIES > each:
            raise ValueError(
                f"budget is {budget} and per_class {each}, but an episode asks {QUERIES} more particles of each class; "
                f"set per_class to {int(budget) + QUERIES} or more"
            )
        labels_per_class(budget, 100.0)
    return [
        Cell(protocol, float(snr), seed, method, budget)
        for seed in range(config.seeds)
        for snr in config.snrs or asked.snrs
        for budget in budgets
        for method in config.methods or asked.methods
    ]


def labels_per_class(budget: str, training_per_class: float) -> int:
    """Labels of each class that a budget means where ``training_per_class`` are at hand on average.

    Raises
    ------
    ValueError
        When the budget is neither a positive number, a percentage nor ``all``.
    """
    if budget == "all":
        return sys.maxsize
    share = budget.endswith("%")
    try:
        number = float(budget[:-1]) if share else int(budget)
    except ValueError:
        number = 0
    if not 0 < number < math.inf or (share and number > 100):
        raise ValueError(f"budget is {budget!r}, expected labels per class (5), a share (5%) or all")
    return max(1, round(number / 100 * training_per_class)) if share else int(number)


def shard_of(cells: Sequence[Cell], index: int, count: int) -> list[Cell]:
    """The cells of one of ``count`` machines (``index`` from 0): every count-th group."""
    groups = list(dict.fromkeys(cell.group for cell in cells))
    mine = set(groups[index::count])
    return [cell for cell in cells if cell.group in mine]


Report = Callable[[int, int, str], None]
"""Called with the cells that are done, all cells, and what is worked on."""


def run_benchmark(
    protocol: str,
    config: BenchmarkConfig,
    folder: Path,
    shard: tuple[int, int] = (0, 1),
    report: Report | None = None,
) -> list[Row]:
    """Measure what is missing below ``folder`` and return all rows that are there, other shards' and runs' as well.

    Raises
    ------
    ValueError
        See `cells_of`; also when the folder was made with other particle numbers or step counts.
    """
    cells = shard_of(cells_of(protocol, config), *shard)
    _claim(folder, config)
    worlds: dict[str, BenchmarkData] = {}
    for done, cell in enumerate(cells):
        if report is not None:
            report(done, len(cells), cell.name)
        path = folder / "cells" / f"{cell.name}.json"
        if path.exists():
            continue
        if cell.group not in worlds:
            worlds = {cell.group: _world(cell, config, folder)}  # one at a time: tables of particles take memory
        write_json(path, asdict(_measure(cell, config, worlds[cell.group], folder)))
    if report is not None:
        report(len(cells), len(cells), "")
    return finished_rows(folder)


def finished_rows(folder: Path) -> list[Row]:
    """Rows of all finished cells below a folder."""
    rows = []
    for path in sorted((folder / "cells").glob("*.json")):
        try:
            rows.append(row_from(json.loads(path.read_text())))
        except (ValueError, TypeError, KeyError) as error:
            advice = "delete the file to measure it again"
            raise FormatError(path, "content", str(error), "a finished cell", advice) from None
    return rows


def _claim(folder: Path, config: BenchmarkConfig) -> None:
    mine = {"scale": config.scale, "per_class": config.per_class}
    path = folder / "benchmark.json"
    if path.exists() and json.loads(path.read_text()) != mine:
        raise ValueError(f"{path} says {path.read_text().strip()}, asked for now is {mine}; use another --out")
    write_json(path, mine)


def _world(cell: Cell, config: BenchmarkConfig, folder: Path) -> BenchmarkData:
    protocol = PROTOCOLS[cell.protocol]
    if config.per_class:
        protocol = replace(protocol, per_class=config.per_class)
    return build_data(protocol, cell.snr, cell.seed, folder / "worlds" / cell.group)


def _measure(cell: Cell, config: BenchmarkConfig, world: BenchmarkData, folder: Path) -> Row:
    protocol = PROTOCOLS[cell.protocol]
    known = world.train.select(world.train.labeled_rows)
    if protocol.ways:
        labeled, labels = known, float(cell.budget)  # examples are drawn within the episodes
    else:
        wanted = labels_per_class(cell.budget, len(known) / len(known.class_names))
        labeled = known.select(sample_labels(known, wanted, cell.seed))
        labels = round(len(labeled) / len(labeled.class_names), 2)
    shared, own = folder / "shared" / cell.group, folder / "runs" / cell.name
    task = BenchmarkTask(protocol, cell.snr, world, labeled, cell.seed, shared, own, config.scale)
    started = time.monotonic()
    scores = _episodes(cell, task) if protocol.ways else _answers(cell, task)
    return Row(
        protocol=cell.protocol,
        snr=cell.snr,
        method=cell.method,
        budget=cell.budget,
        labels_per_class=labels,
        seed=cell.seed,
        **asdict(scores),
        test_particles=int((world.test.label >= 0).sum()),
        seconds=round(time.monotonic() - started, 1),
    )


@dataclass(frozen=True)
class _Scores:
    """The fields of a `Row` that are measured."""

    accuracy: float
    macro_f1: float
    calibration_error: float | None = None
    unknown_auroc: float | None = None
    macro_precision: float | None = None
    half_width: float | None = None


def _episodes(cell: Cell, task: BenchmarkTask) -> _Scores:
    found = few_shot_scores(cell.method, task, int(cell.budget))
    return _Scores(
        accuracy=round(found.accuracy.value, 4),
        macro_f1=round(found.macro_f1.value, 4),
        macro_precision=round(found.macro_precision.value, 4),
        half_width=round(found.accuracy.half_width, 4),
    )


def _answers(cell: Cell, task: BenchmarkTask) -> _Scores:
    test, answer = task.world.test, entries_of(task.protocol)[cell.method][1](task)
    predicted = answer.probabilities.argmax(axis=1)
    found = score(test.label, predicted, test.class_names, test.particles.tomogram, cell.seed, resamples=1)
    return _Scores(
        accuracy=round(found.accuracy.value, 4),
        macro_f1=round(found.macro_f1.value, 4),
        calibration_error=round(calibration(answer.probabilities, test.label).expected_error, 4),
        unknown_auroc=_unknown_auroc(answer, test.label),
    )


def _unknown_auroc(answer: EntryResult, label: np.ndarray) -> float | None:
    """Chance that a particle of the classes looks more familiar (else: is surer) than one of none of them."""
    if (label >= 0).all() or (label < 0).all():
        return None
    from sklearn.metrics import roc_auc_score

    known = answer.probabilities.max(axis=1) if answer.similarity is None else answer.similarity
    return round(float(roc_auc_score(label >= 0, known)), 4)
