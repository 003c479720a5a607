"""The tidy table of a benchmark: one row per protocol, noise level, method, label budget and seed."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from tomosift.errors import FormatError
from tomosift.files import written_beside


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
    """Over the test particles of the labeled classes."""
    macro_f1: float
    calibration_error: float | None
    """Expected calibration error; None where the method gives no probabilities."""
    unknown_auroc: float | None
    """How well low confidence finds particles of none of the classes; None where the test part has none."""
    test_particles: int
    seconds: float
    """Wall time of this cell, without what it shares with others."""


def write_table(path: Path, rows: Sequence[Row]) -> None:
    """Write the rows as CSV, sorted, beside and renamed."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, [field.name for field in fields(Row)], lineterminator="\n")
    writer.writeheader()
    for row in sorted(rows, key=lambda row: (row.protocol, -row.snr, row.method, row.labels_per_class, row.seed)):
        writer.writerow({name: "" if value is None else value for name, value in asdict(row).items()})
    with written_beside(path) as beside:
        beside.write_text(stream.getvalue())


def read_table(path: Path) -> list[Row]:
    """Rows of a table that `write_table` wrote.

    Raises
    ------
    FormatError
        When a column is missing or a value is no number.
    """
    names = [field.name for field in fields(Row)]
    with path.open(newline="") as stream:
        reader = csv.DictReader(stream)
        if list(reader.fieldnames or ()) != names:
            raise FormatError(path, "header", ",".join(reader.fieldnames or ()), ",".join(names))
        return [_row(path, number, line) for number, line in enumerate(reader, 2)]


def _row(path: Path, number: int, line: dict[str, str]) -> Row:
    try:
        return Row(
            protocol=line["protocol"],
            snr=float(line["snr"]),
            method=line["method"],
            budget=line["budget"],
            labels_per_class=float(line["labels_per_class"]),
            seed=int(line["seed"]),
            accuracy=float(line["accuracy"]),
            macro_f1=float(line["macro_f1"]),
            calibration_error=float(line["calibration_error"]) if line["calibration_error"] else None,
            unknown_auroc=float(line["unknown_auroc"]) if line["unknown_auroc"] else None,
            test_particles=int(line["test_particles"]),
            seconds=float(line["seconds"]),
        )
    except (TypeError, ValueError) as error:
        raise FormatError(path, f"line {number}", str(error), "numbers as `write_table` writes them") from None
