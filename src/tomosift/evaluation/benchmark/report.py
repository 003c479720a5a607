"""One self-contained HTML file on a benchmark: learning curves, and every number with its range over seeds."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from tomosift.evaluation.benchmark.entries import ENTRIES, entries_of
from tomosift.evaluation.benchmark.figures import accuracy_figure
from tomosift.evaluation.benchmark.protocols import PROTOCOLS
from tomosift.evaluation.benchmark.results import Row, budgets_of, by_world, difference, rows_of
from tomosift.evaluation.report import page
from tomosift.evaluation.report.figures import svg
from tomosift.evaluation.report.markup import count, escape, section, table
from tomosift.files import written_then_renamed

FURTHER = (
    ("Calibration error", "calibration_error"),
    ("AUROC of “none of these”", "unknown_auroc"),
    ("Macro precision", "macro_precision"),
)
"""Columns of a table beside the accuracies, where any row has them: mean over seeds and budgets."""


def write_benchmark_report(path: Path, rows: Sequence[Row], provenance: Mapping[str, Any]) -> None:
    """Write the report to ``path``; the file is complete or absent.

    Raises
    ------
    ValueError
        When there is no row.
    """
    text = render_benchmark_report(rows, provenance)
    with written_then_renamed(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def render_benchmark_report(rows: Sequence[Row], provenance: Mapping[str, Any]) -> str:
    """The report as HTML text, one section for each protocol and noise level."""
    if not rows:
        raise ValueError("no cell of the benchmark is finished, so there is nothing to report; run it first")
    sections, links = [], []
    for number, ((protocol, snr), mine) in enumerate(by_world(rows).items()):
        title = f"{protocol}, {'no noise' if math.isinf(snr) else f'SNR {snr:g}'}"
        known = PROTOCOLS.get(protocol)
        lead = escape(known.sentence) if known else ""
        if known:
            lead += f" Atlas structures: {escape(', '.join(known.classes))}."
        if compared(mine):
            lead += f" Differences to {escape(reference(mine))} are of the same seeds, with their 95 % interval."
        if any(row.half_width is not None for row in mine):
            lead += " Behind ± is half the 95 % interval over episodes, mean over seeds."
        drawn = svg(accuracy_figure(mine), f"world{number}", "Accuracy of each method, range over seeds")
        sections.append(section(f"world{number}", title, f"<figure>{drawn}</figure>{_table(mine, title)}", lead))
        links.append(f'<a href="#world{number}">{escape(title)}</a>')
    said = dict.fromkeys((row.method, meaning(row)) for row in rows)
    meanings = "".join(f"<li><b>{escape(name)}</b> {escape(sentence)}</li>" for name, sentence in said)
    sections.append(section("methods", "Methods", f"<ul>{meanings}</ul>"))
    origin = f"<pre>{escape(json.dumps(dict(provenance), indent=2, default=str))}</pre>"
    sections.append(section("provenance", "Provenance", origin))
    seeds = count(len({row.seed for row in rows}), "seed")
    header = (
        f'<p class="headline">{escape(_headline(rows))}</p>'
        f'<p class="basis">Accuracy on particles whose labels no training step has seen; mean and range over {seeds}, '
        "each with its own particles, noise, labeled subset and initial weights.</p>"
    )
    navigation = f'<nav aria-label="Sections">{"".join(links)}<a href="#methods">Methods</a></nav>'
    return page("How much a label is worth", header, navigation, sections)


def meaning(row: Row) -> str:
    """What a method of the table is; nothing where the table comes from a program that knows other ones."""
    protocol = PROTOCOLS.get(row.protocol)
    known = (ENTRIES if protocol is None else entries_of(protocol)).get(row.method)
    return known[0] if known else ""


def labels_of(budget: str) -> str:
    """Title of the column of a label budget."""
    return "1 label" if budget == "1" else f"{budget} labels"


def reference(rows: Sequence[Row]) -> str:
    """The row of the table that the others are compared with: the first of the protocol's that is there."""
    known, there = PROTOCOLS.get(rows[0].protocol), {row.method for row in rows}
    return next((method for method in known.methods if method in there), "") if known else ""


def compared(rows: Sequence[Row]) -> bool:
    """Whether some row can be compared with the reference."""
    return any(against(rows, method) for method in {row.method for row in rows})


def against(rows: Sequence[Row], method: str) -> str:
    """How much more accurate a method is than the reference, with its interval over seeds; empty where unknown."""
    found = difference(rows, method, reference(rows))
    return f"{found.value:+.3f} ({found.low:+.3f} to {found.high:+.3f})" if found else ""


def _headline(rows: Sequence[Row]) -> str:
    """Pretrained against scratch at the budget nearest to five labels, in the first world that has both."""
    for (protocol, snr), mine in by_world(rows).items():
        both = {r.budget for r in mine if r.method == "cssl"} & {r.budget for r in mine if r.method == "scratch"}
        if both:
            labels = {r.budget: r.labels_per_class for r in mine}
            budget = min(both, key=lambda b: abs(labels[b] - 5))
            before, after = (mean(r.accuracy for r in rows_of(mine, method, budget)) for method in ("scratch", "cssl"))
            noise = "without noise" if math.isinf(snr) else f"at SNR {snr:g}"
            return (
                f"{protocol} {noise}, {labels[budget]:g} labels per class: {after:.2f} with pretraining, "
                f"{before:.2f} from scratch."
            )
    return f"{count(len(rows), 'cell')} finished."


def _cell(found: Sequence[Row]) -> str:
    if not found:
        return ""
    values = [row.accuracy for row in found]
    spread = f' <span class="ci">{min(values):.2f}–{max(values):.2f}</span>' if len(values) > 1 else ""
    widths = [row.half_width for row in found if row.half_width is not None]
    return f"{mean(values):.3f}{f' ± {mean(widths):.3f}' if widths else ''}{spread}"


def _table(rows: Sequence[Row], title: str) -> str:
    budgets = budgets_of(rows)
    more = [(title, name) for title, name in FURTHER if any(getattr(row, name) is not None for row in rows)]
    differs = compared(rows)
    header = ["Method", *(escape(labels_of(budget)) for budget in budgets)]
    header += [f"Against {escape(reference(rows))}"] if differs else []
    header += [escape(title) for title, _ in more]
    body = []
    for method in dict.fromkeys(row.method for row in rows):
        mine = [row for row in rows if row.method == method]
        cells = [escape(method), *(_cell(rows_of(rows, method, budget)) for budget in budgets)]
        cells += [against(rows, method)] if differs else []
        for _, name in more:
            values = [getattr(row, name) for row in mine if getattr(row, name) is not None]
            cells.append(f"{mean(values):.3f}" if values else "")
        body.append(cells)
    return table(f"Accuracy, {title}", header, body)
