"""The report on a benchmark: learning curves, and every number with its range over seeds."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from tomosift.evaluation.benchmark.entries import ENTRIES, entries_of
from tomosift.evaluation.benchmark.figures import draw_accuracy
from tomosift.evaluation.benchmark.protocols import PROTOCOLS
from tomosift.evaluation.benchmark.results import (
    Row,
    group_by_conditions,
    list_budgets,
    measure_difference,
    select_rows,
)
from tomosift.evaluation.report.figures import render_svg
from tomosift.evaluation.report.layout import provenance_json, render_page, write_page
from tomosift.evaluation.report.markup import escape, format_count, render_section, render_table

FURTHER_COLUMNS = (
    ("Calibration error", "calibration_error"),
    ("AUROC of “none of these”", "unknown_auroc"),
    ("Macro precision", "macro_precision"),
)
"""Title and field of columns beside the accuracies, where any row has them: mean over seeds and budgets."""
_HEADLINE_LABELS = 5


def write_benchmark_report(path: Path, rows: Sequence[Row], provenance: Mapping[str, Any]) -> None:
    """Write the report to an HTML file, which is complete or absent.

    Parameters
    ----------
    path
        HTML file to write.
    rows
        Rows of any protocols.
    provenance
        Everything that is needed to repeat the run.

    Raises
    ------
    ValueError
        There is no row.
    """
    write_page(path, render_benchmark_report(rows, provenance))


def render_benchmark_report(rows: Sequence[Row], provenance: Mapping[str, Any]) -> str:
    """Return the report as HTML, one section for each protocol and SNR; see `write_benchmark_report`."""
    if not rows:
        raise ValueError("no cell of the benchmark is finished, so there is nothing to report; run it first")
    groups = group_by_conditions(rows)
    sections = [
        _render_conditions(f"world{number}", *conditions, groups[conditions])
        for number, conditions in enumerate(groups)
    ]
    sections += [_render_entries(rows), provenance_json(provenance)]
    seeds = format_count(len({row.seed for row in rows}), "seed")
    header = (
        f'<p class="headline">{escape(_write_headline(rows))}</p>'
        f'<p class="basis">Accuracy on test particles whose labels no training step used; mean and range over {seeds}, '
        "each with its own particles, noise, labeled subset and initial weights.</p>"
    )
    return render_page("Accuracy by number of labels", header, sections)


def describe_noise(snr: float) -> str:
    """Return the SNR in words."""
    return "no noise" if math.isinf(snr) else f"SNR {snr:g}"


def describe_entry(row: Row) -> str:
    """Return what the entry of a row does; empty for an entry that only another version of the program has."""
    protocol = PROTOCOLS.get(row.protocol)
    entry = (ENTRIES["labels"] if protocol is None else entries_of(protocol)).get(row.method)
    return entry.description if entry else ""


def budget_title(budget: str) -> str:
    """Return the title of the column of a label budget."""
    return "1 label" if budget == "1" else f"{budget} labels"


def find_reference(rows: Sequence[Row]) -> str:
    """Return the entry with which the others are compared: the first default one of the protocol that has rows."""
    protocol, names = PROTOCOLS.get(rows[0].protocol), {row.method for row in rows}
    return next((method for method in protocol.methods if method in names), "") if protocol else ""


def has_differences(rows: Sequence[Row]) -> bool:
    """Return whether some entry can be compared with the reference."""
    return any(format_difference(rows, method) for method in {row.method for row in rows})


def format_difference(rows: Sequence[Row], method: str) -> str:
    """Return the difference in accuracy to the reference, with its interval over seeds; empty where unknown."""
    difference = measure_difference(rows, method, find_reference(rows))
    return f"{difference.value:+.3f} ({difference.low:+.3f} to {difference.high:+.3f})" if difference else ""


def _render_conditions(identifier: str, protocol: str, snr: float, rows: Sequence[Row]) -> tuple[str, str, str]:
    """Return the section of one protocol and SNR."""
    title, known = f"{protocol}, {describe_noise(snr)}", PROTOCOLS.get(protocol)
    lead = ""
    if known:
        lead = f"{escape(known.description)} Atlas structures: {escape(', '.join(known.classes))}."
    if has_differences(rows):
        lead += f" Differences to {escape(find_reference(rows))} are of the same seeds, with their 95 % interval."
    if any(row.half_width is not None for row in rows):
        lead += " ± is half the 95 % interval over episodes, mean over seeds."
    figure = render_svg(draw_accuracy(rows), identifier, "Accuracy of each entry, range over seeds")
    html = render_section(identifier, title, f"<figure>{figure}</figure>{_render_accuracy(rows, title)}", lead)
    return identifier, title, html


def _render_entries(rows: Sequence[Row]) -> tuple[str, str, str]:
    descriptions = dict.fromkeys((row.method, describe_entry(row)) for row in rows)
    items = "".join(f"<li><b>{escape(name)}</b> {escape(sentence)}</li>" for name, sentence in descriptions)
    return "methods", "Methods", render_section("methods", "Methods", f"<ul>{items}</ul>")


def _render_accuracy(rows: Sequence[Row], title: str) -> str:
    budgets, compares = list_budgets(rows), has_differences(rows)
    more = [column for column in FURTHER_COLUMNS if any(getattr(row, column[1]) is not None for row in rows)]
    header = ["Method", *(escape(budget_title(budget)) for budget in budgets)]
    header += [f"Difference to {escape(find_reference(rows))}"] if compares else []
    header += [escape(name) for name, _ in more]
    body = []
    for method in dict.fromkeys(row.method for row in rows):
        cells = [escape(method), *(_format_accuracy(select_rows(rows, method, budget)) for budget in budgets)]
        cells += [format_difference(rows, method)] if compares else []
        for _, field in more:
            values = [getattr(row, field) for row in rows if row.method == method and getattr(row, field) is not None]
            cells.append(f"{mean(values):.3f}" if values else "")
        body.append(cells)
    return render_table(f"Accuracy, {title}", header, body)


def _format_accuracy(rows: Sequence[Row]) -> str:
    """Return the mean, the half width of its interval over episodes and the range over seeds."""
    if not rows:
        return ""
    values = [row.accuracy for row in rows]
    extent = f' <span class="ci">{min(values):.2f}–{max(values):.2f}</span>' if len(values) > 1 else ""
    widths = [row.half_width for row in rows if row.half_width is not None]
    return f"{mean(values):.3f}{f' ± {mean(widths):.3f}' if widths else ''}{extent}"


def _write_headline(rows: Sequence[Row]) -> str:
    """Compare pretraining with training from scratch at about five labels, for the first conditions with both."""
    for (protocol, snr), group in group_by_conditions(rows).items():
        both = {r.budget for r in group if r.method == "cssl"} & {r.budget for r in group if r.method == "scratch"}
        if both:
            labels = {r.budget: r.labels_per_class for r in group}
            budget = min(both, key=lambda b: abs(labels[b] - _HEADLINE_LABELS))
            scratch, pretrained = (
                mean(r.accuracy for r in select_rows(group, method, budget)) for method in ("scratch", "cssl")
            )
            noise = "without noise" if math.isinf(snr) else f"at SNR {snr:g}"
            return (
                f"{protocol} {noise}, {labels[budget]:g} labels per class: {pretrained:.2f} with pretraining, "
                f"{scratch:.2f} from scratch."
            )
    return f"{format_count(len(rows), 'cell')} finished."
