"""The tidy table of a benchmark: one row per protocol, noise level, method, label budget and seed."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from tomosift.errors import FormatError
from tomosift.evaluation.metrics.classification import Interval
from tomosift.files import written_then_renamed


@dataclass(frozen=True)
class Row:
    """What one cell of the benchmark measured, all of it on particles that no training step has seen."""

    protocol: str
    snr: float
    """Infinity for boxes without noise."""
    method: str
    budget: str
    """As asked for: labels per class ("5"), a share of the training part ("5%") or "all"."""
    labels_per_class: float
    """Mean over the classes."""
    seed: int
    accuracy: float
    """Over the test particles of the labeled classes; in episodes their mean, which is the micro precision as well."""
    macro_f1: float
    calibration_error: float | None
    """Expected calibration error; None where the method gives no probabilities."""
    unknown_auroc: float | None
    """How well similarity (of rows without it, confidence) tells particles of no class; None where there are none."""
    test_particles: int
    seconds: float
    """Wall time of this cell, without what it shares with others."""
    macro_precision: float | None = None
    """Mean over episodes; None where all classes are asked for at once."""
    half_width: float | None = None
    """Half of the 95 % interval of the accuracy over episodes; None where there are none."""


_ALWAYS = tuple(field.name for field in fields(Row) if field.default is MISSING)
"""Columns of every table; the others came later."""


def by_world(rows: Sequence[Row]) -> dict[tuple[str, float], list[Row]]:
    """Rows of each protocol and noise level, the least noise first."""
    worlds: dict[tuple[str, float], list[Row]] = {}
    for row in sorted(rows, key=lambda row: (row.protocol, -row.snr)):
        worlds.setdefault((row.protocol, row.snr), []).append(row)
    return worlds


def rows_of(rows: Sequence[Row], method: str, budget: str) -> list[Row]:
    """Rows of one method at one budget, a row per seed."""
    return [row for row in rows if row.method == method and row.budget == budget]


def budgets_of(rows: Sequence[Row]) -> list[str]:
    """Budgets in the order of the labels that they mean."""
    labels = {row.budget: row.labels_per_class for row in rows}
    return sorted(labels, key=lambda budget: (labels[budget], budget))


def difference(rows: Sequence[Row], method: str, reference: str) -> Interval | None:
    """Accuracy of a method less that of another, with the 95 % interval of the mean over seeds.

    Rows are of one protocol and noise level. A seed counts with the mean over the label budgets that both methods have
    at all seeds where they meet. Student's t, as seeds are few; None below two.
    """
    pairs: dict[int, dict[str, float]] = {}
    for budget in budgets_of(rows):
        theirs = {row.seed: row.accuracy for row in rows_of(rows, reference, budget)}
        for row in rows_of(rows, method, budget):
            if row.seed in theirs:
                pairs.setdefault(row.seed, {})[budget] = row.accuracy - theirs[row.seed]
    if method == reference or len(pairs) < 2:
        return None
    common = set.intersection(*(set(found) for found in pairs.values()))
    if not common:
        return None
    from scipy.stats import t

    each = np.array([np.mean([found[budget] for budget in common]) for found in pairs.values()])
    half = float(t.ppf(0.975, len(each) - 1) * each.std(ddof=1) / np.sqrt(len(each)))
    return Interval(float(each.mean()), float(each.mean()) - half, float(each.mean()) + half)


def write_table(path: Path, rows: Sequence[Row]) -> None:
    """Write the rows as CSV, sorted, beside and renamed."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, [field.name for field in fields(Row)], lineterminator="\n")
    writer.writeheader()
    for row in sorted(rows, key=lambda row: (row.protocol, -row.snr, row.method, row.labels_per_class, row.seed)):
        writer.writerow({name: "" if value is None else value for name, value in asdict(row).items()})
    with written_then_renamed(path) as beside:
        beside.write_text(stream.getvalue())


def read_table(path: Path) -> list[Row]:
    """Rows of a table that `write_table` wrote.

    Raises
    ------
    FormatError
        When a column is missing, unless rows may lack it, or a value is no number.
    """
    with path.open(newline="") as stream:
        reader = csv.DictReader(stream)
        given = set(reader.fieldnames or ())
        if given - {field.name for field in fields(Row)} or any(name not in given for name in _ALWAYS):
            raise FormatError(path, "header", ",".join(reader.fieldnames or ()), ",".join(f.name for f in fields(Row)))
        return [_row(path, number, line) for number, line in enumerate(reader, 2)]


def row_from(values: Mapping[str, Any]) -> Row:
    """A row from strings or JSON values; empty ones count as None.

    Raises
    ------
    ValueError, TypeError, KeyError
        When a field is missing or of the wrong kind.
    """

    def maybe(name: str) -> float | None:
        given = values[name] if name in _ALWAYS else values.get(name)
        return None if given in {"", None} else float(given)

    return Row(
        protocol=str(values["protocol"]),
        snr=float(values["snr"]),
        method=str(values["method"]),
        budget=str(values["budget"]),
        labels_per_class=float(values["labels_per_class"]),
        seed=int(values["seed"]),
        accuracy=float(values["accuracy"]),
        macro_f1=float(values["macro_f1"]),
        calibration_error=maybe("calibration_error"),
        unknown_auroc=maybe("unknown_auroc"),
        test_particles=int(values["test_particles"]),
        seconds=float(values["seconds"]),
        macro_precision=maybe("macro_precision"),
        half_width=maybe("half_width"),
    )


def _row(path: Path, number: int, line: dict[str, str]) -> Row:
    try:
        return row_from(line)
    except (TypeError, ValueError) as error:
        raise FormatError(path, f"line {number}", str(error), "numbers as `write_table` writes them") from None
