"""The table of a benchmark: one row per protocol, SNR, entry, label budget and seed."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from tomosift.errors import FormatError
from tomosift.evaluation.metrics.intervals import Interval
from tomosift.files import written_then_renamed


@dataclass(frozen=True)
class Row:
    """The measured values of one cell, all of them on test particles whose labels no training step used."""

    protocol: str
    snr: float
    """Infinity for subtomograms without noise."""
    method: str
    """Name of the entry."""
    budget: str
    """As requested: labels per class ("5"), a share of the training part ("5%") or "all"."""
    labels_per_class: float
    """Mean over the classes."""
    seed: int
    accuracy: float
    """Over the test particles of the classes; in episodes the mean, which is the micro precision as well."""
    macro_f1: float
    calibration_error: float | None
    """Expected calibration error; None where the entry gives no probabilities."""
    unknown_auroc: float | None
    """How well similarity (without it, confidence) detects particles of no class; None where there are none."""
    test_particles: int
    seconds: float
    """Wall time of this cell, without the runs that it shares with others."""
    macro_precision: float | None = None
    """Mean over episodes; None where all classes are predicted at once."""
    half_width: float | None = None
    """Half of the 95 % interval of the accuracy over episodes; None where there are none."""


_ALWAYS = tuple(field.name for field in fields(Row) if field.default is MISSING)
"""Columns of every table; older tables lack the others."""


def group_by_conditions(rows: Sequence[Row]) -> dict[tuple[str, float], list[Row]]:
    """Return the rows of each protocol and SNR, the highest SNR first."""
    groups: dict[tuple[str, float], list[Row]] = {}
    for row in sorted(rows, key=lambda row: (row.protocol, -row.snr)):
        groups.setdefault((row.protocol, row.snr), []).append(row)
    return groups


def select_rows(rows: Sequence[Row], method: str, budget: str) -> list[Row]:
    """Return the rows of one entry at one budget, a row per seed."""
    return [row for row in rows if row.method == method and row.budget == budget]


def list_budgets(rows: Sequence[Row]) -> list[str]:
    """Return the budgets, ordered by their labels per class."""
    labels = {row.budget: row.labels_per_class for row in rows}
    return sorted(labels, key=lambda budget: (labels[budget], budget))


def measure_difference(rows: Sequence[Row], method: str, reference: str) -> Interval | None:
    """Compute the difference in accuracy of two entries, with the 95 % interval of the mean over seeds.

    The value of a seed is the mean over the label budgets that both entries have at all common seeds. The interval is
    that of Student's t, because seeds are few.

    Parameters
    ----------
    rows
        Of one protocol and SNR.
    method, reference
        Names of two entries; the accuracy of the second is subtracted.

    Returns
    -------
    Interval or None
        None with fewer than two common seeds.
    """
    pairs: dict[int, dict[str, float]] = {}
    for budget in list_budgets(rows):
        baseline = {row.seed: row.accuracy for row in select_rows(rows, reference, budget)}
        for row in select_rows(rows, method, budget):
            if row.seed in baseline:
                pairs.setdefault(row.seed, {})[budget] = row.accuracy - baseline[row.seed]
    if method == reference or len(pairs) < 2:
        return None
    common = set.intersection(*(set(budgets) for budgets in pairs.values()))
    if not common:
        return None
    from scipy.stats import t

    each = np.array([np.mean([budgets[budget] for budget in common]) for budgets in pairs.values()])
    half = float(t.ppf(0.975, len(each) - 1) * each.std(ddof=1) / np.sqrt(len(each)))
    return Interval(float(each.mean()), float(each.mean()) - half, float(each.mean()) + half)


def write_table(path: Path, rows: Sequence[Row]) -> None:
    """Write the rows as CSV, sorted; the file is complete or absent."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, [field.name for field in fields(Row)], lineterminator="\n")
    writer.writeheader()
    for row in sorted(rows, key=lambda row: (row.protocol, -row.snr, row.method, row.labels_per_class, row.seed)):
        writer.writerow({name: "" if value is None else value for name, value in asdict(row).items()})
    with written_then_renamed(path) as temporary:
        temporary.write_text(stream.getvalue())


def read_table(path: Path) -> list[Row]:
    """Return the rows of a table that `write_table` wrote.

    Raises
    ------
    FormatError
        A required column is missing, a column is unknown, or a value is not a number.
    """
    with path.open(newline="") as stream:
        reader = csv.DictReader(stream)
        columns = set(reader.fieldnames or ())
        if columns - {field.name for field in fields(Row)} or not columns.issuperset(_ALWAYS):
            raise FormatError(path, "header", ",".join(reader.fieldnames or ()), ",".join(f.name for f in fields(Row)))
        return [_parse_line(path, number, line) for number, line in enumerate(reader, 2)]


def parse_row(values: Mapping[str, Any]) -> Row:
    """Return a row from strings or JSON values; empty ones count as None.

    Raises
    ------
    ValueError, TypeError, KeyError
        A field is missing or of the wrong type.
    """

    def parse_optional(name: str) -> float | None:
        value = values[name] if name in _ALWAYS else values.get(name)
        return None if value in {"", None} else float(value)

    return Row(
        protocol=str(values["protocol"]),
        snr=float(values["snr"]),
        method=str(values["method"]),
        budget=str(values["budget"]),
        labels_per_class=float(values["labels_per_class"]),
        seed=int(values["seed"]),
        accuracy=float(values["accuracy"]),
        macro_f1=float(values["macro_f1"]),
        calibration_error=parse_optional("calibration_error"),
        unknown_auroc=parse_optional("unknown_auroc"),
        test_particles=int(values["test_particles"]),
        seconds=float(values["seconds"]),
        macro_precision=parse_optional("macro_precision"),
        half_width=parse_optional("half_width"),
    )


def _parse_line(path: Path, number: int, line: dict[str, str]) -> Row:
    try:
        return parse_row(line)
    except (TypeError, ValueError) as error:
        raise FormatError(path, f"line {number}", str(error), "numbers as `write_table` writes them") from None
