"""The sections of a report that are made of numbers."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from tomosift.evaluation.metrics.classification import Calibration, Interval, Scores, Selective
from tomosift.evaluation.report.figures import coverage_figure, reliability_figure
from tomosift.evaluation.report.markup import count, escape, interval_text, number, section, table, track
from tomosift.evaluation.report.report_input import ReportInput

LARGEST_CONFUSION = 60
"""Classes of a confusion matrix that is printed; larger ones list only the commonest mistakes."""
MOST_TOMOGRAMS = 40
"""Rows of the table of tomograms."""
LONGEST_SHOWN = 40
"""Lines of a nested provenance value that stand open; longer ones are folded."""
_GOALS = (0.90, 0.95, 0.99)


def basis(scores: Scores) -> str:
    """How the intervals were made, as one sentence."""
    if scores.resampled_by == "tomogram":
        return f"95 % intervals: bootstrap over {count(scores.tomogram_count, 'tomogram')}."
    return (
        f"95 % intervals: bootstrap over {count(scores.count, 'particle')}, as "
        f"{count(scores.tomogram_count, 'tomogram')} cannot be resampled. "
        "Particles of one tomogram resemble one another, so the truth may lie outside more often."
    )


def headline(report: ReportInput, scores: Scores | None) -> str:
    """The result in one sentence of plain text."""
    tomograms = count(len(np.unique(report.particles.tomogram.astype(str))), "tomogram")
    classes = count(len(report.class_names), *report.groups)
    labels = f", {count(report.labels_per_class, 'label')} each" if report.labels_per_class is not None else ""
    if scores is None:
        sentence = f"{count(len(report.particles), 'particle')} from {tomograms} sorted into {classes}{labels}"
        if report.unknown is None:
            return f"{sentence}."
        return f"{sentence}; {int(report.unknown.sum()):,} of them called unknown."
    sentence = (
        f"{scores.accuracy.value:.2f} accuracy on {count(scores.count, 'held-out particle')} from "
        f"{count(scores.tomogram_count, 'tomogram')}, {classes}{labels}"
    )
    others = "".join(f"; {other.name} {other.accuracy:.2f}" for other in report.comparisons)
    return f"{sentence}{others}."


def key_figures(report: ReportInput, scores: Scores | None, calibration: Calibration | None) -> str:
    """The figures of the first screen."""
    cards: list[tuple[str, str, str, str]] = []
    if scores is not None and calibration is not None:
        for name, interval, meaning in (
            ("Accuracy", scores.accuracy, "share of particles called right"),
            ("Balanced accuracy", scores.balanced_accuracy, "mean recall over classes"),
            ("Macro F1", scores.macro_f1, "mean F1 over classes"),
        ):
            cards.append((name, number(interval.value), _range(interval), meaning))
        cards.append(
            ("Calibration error", number(calibration.expected_error, 3), "", "mean gap of confidence to accuracy")
        )
        cards.append(("Commonest class", number(scores.majority_accuracy), "", "accuracy of always calling it"))
    else:
        cards.append(("Particles", f"{len(report.particles):,}", "", "in all"))
        cards.append(
            ("Mean confidence", number(float(report.confidence.mean())), "", f"of the predicted {report.groups[0]}")
        )
        sure = float((report.confidence >= 0.9).mean())
        cards.append(("Confident", number(sure), "", "share at 0.90 or above"))
    if report.unknown is not None:
        cards.append(("Unknown", f"{int(report.unknown.sum()):,}", "", _unknown_rule(report)))
    items = "".join(
        f"<div><dt>{name}</dt><dd><b>{value}</b>{extent}<small>{escape(meaning)}</small></dd></div>"
        for name, value, extent, meaning in cards
    )
    return f'<dl class="cards">{items}</dl>'


def comparison_table(report: ReportInput, scores: Scores) -> str:
    """This classifier beside the others, on one scale."""
    rows = [("This classifier", scores.accuracy, "this")]
    rows += [(other.name, Interval(other.accuracy, other.low, other.high), "") for other in report.comparisons]
    rows.append(("Always the commonest class", Interval(scores.majority_accuracy, np.nan, np.nan), "floor"))
    body = "".join(
        f'<li class="{kind}"><span class="name">{escape(name)}</span>'
        f'<span class="bar" aria-hidden="true">'
        f'<i style="width:{interval.value * 100:.1f}%"></i>{_whisker(interval)}</span>'
        f'<span class="value">{interval_text(interval)}</span></li>'
        for name, interval, kind in rows
    )
    return f'<h3>Accuracy compared</h3><ul class="bars" aria-label="Accuracy compared">{body}</ul>'


def confusion_section(report: ReportInput, scores: Scores) -> str:
    """The confusion matrix as a table one can read, with the commonest mistakes in words."""
    matrix, names = scores.confusion, report.class_names
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    off = matrix - np.diag(np.diag(matrix))
    order = [int(cell) for cell in np.argsort(-off, axis=None, kind="stable")[:5] if off.flat[int(cell)] > 0]
    mistakes = "".join(
        f"<li><b>{escape(names[cell // len(names)])}</b> called <b>{escape(names[cell % len(names)])}</b>: "
        f"{off.flat[cell]} of {matrix[cell // len(names)].sum()}</li>"
        for cell in order
    )
    body = f"<h3>Commonest mistakes</h3><ol>{mistakes}</ol>" if mistakes else "<p>No particle was called wrong.</p>"
    if len(names) > LARGEST_CONFUSION:
        body = f"<p>The matrix of {len(names)} classes is too large to print here.</p>{body}"
    else:
        rows = []
        for t, name in enumerate(names):
            empty = bool(matrix[t].sum() == 0)
            cells = [
                _cell(int(matrix[t, p]), float(share[t, p]), t == p, empty, names[t], names[p])
                for p in range(len(names))
            ]
            total = f'<td class="total">{matrix[t].sum()}</td>'
            rows.append(f'<tr><th scope="row">{escape(name)}</th>{"".join(cells)}{total}</tr>')
        head = "".join(f'<th scope="col"><span>{escape(name)}</span></th>' for name in names)
        head += '<th scope="col" class="total"><span>particles</span></th>'
        caption = "Rows: true class. Columns: predicted class."
        size = " dense" if len(names) > 14 else ""
        matrix_html = (
            f'<div class="scroll" tabindex="0" role="group" aria-label="Confusion matrix">'
            f'<table class="confusion{size}"><caption>{caption}</caption>'
            f'<thead><tr><th scope="col" class="corner">true ↓ &nbsp; predicted →</th>{head}</tr></thead>'
            f"<tbody>{''.join(rows)}</tbody></table></div>"
        )
        body = matrix_html + body
    lead = "Each cell: share of the true class, and below it the number of particles. Right answers are framed."
    return section("confusion", "Confusion matrix", body, lead)


def classes_section(scores: Scores) -> str:
    """Precision, recall and F1 per class."""
    rows = [
        [
            escape(one.name),
            *(f"{track(score)}{interval_text(score)}" for score in (one.precision, one.recall, one.f1)),
            str(one.count),
            str(one.predicted_count),
        ]
        for one in scores.classes
    ]
    header = ["Class", "Precision", "Recall", "F1", "True", "Called"]
    body = table("Scores per class with 95 % intervals", header, rows, "scores")
    missing = [one.name for one in scores.classes if one.count == 0]
    if missing:
        body += f'<p class="note">No test particle: {escape(", ".join(missing))}. Recall is not defined there.</p>'
    lead = (
        "Precision: of the particles called so, how many are. Recall: of the particles that are, how many were found. "
        + escape(basis(scores))
    )
    return section("classes", "Scores per class", body, lead)


def trust_section(report: ReportInput, calibration: Calibration, selective: Selective) -> str:
    """Calibration, and what a threshold for ``unknown`` costs and buys."""
    rows = []
    for goal in _GOALS:
        found = selective.threshold_for(goal)
        if found is None:
            rows.append([f"{goal:.2f}", "not reached", "–"])
        else:
            rows.append([f"{goal:.2f}", f"{found[0]:.3f}", f"{found[1]:.0%}"])
    goals = table("Threshold for a wanted accuracy", ["Wanted accuracy", "Confidence at least", "Kept"], rows)
    body = (
        '<div class="pair"><figure>'
        f"{reliability_figure(calibration)}<figcaption>Calibration. On the dashed line a confidence of 0.8 means right "
        f"in 8 of 10. Mean gap: <b>{calibration.expected_error:.3f}</b>. Bars: Wilson 95 %.</figcaption>"
        "</figure><figure>"
        f"{coverage_figure(selective, report.min_confidence)}<figcaption>Leaving the least confident particles "
        "unknown: how right the rest is.</figcaption></figure></div>"
        f'{goals}<p class="note">Thresholds were read off these same particles; expect a little less on others.</p>'
    )
    return section("trust", "How far to trust the confidence", body)


def counts_section(report: ReportInput) -> str:
    """What was predicted, per class and per tomogram."""
    k, predicted, n = len(report.class_names), report.predicted, len(report.particles)
    below = report.unknown
    counts = np.bincount(predicted, minlength=k)
    header = [report.groups[0].capitalize(), "Called", "Share", "Mean confidence"]
    header += ["Unknown among them"] if below is not None else []
    header += ["True"] if report.has_truth else []
    rows = []
    for c, name in enumerate(report.class_names):
        members = predicted == c
        share = counts[c] / n
        bar = f'<span class="share" aria-hidden="true"><i style="width:{share * 100:.1f}%"></i></span>'
        mean = number(float(report.confidence[members].mean())) if counts[c] else "–"
        row = [escape(name), f"{counts[c]:,}", f"{bar}{share:.1%}", mean]
        row += [str(int(below[members].sum()))] if below is not None else []
        row += [str(int((report.truth == c).sum()))] if report.has_truth else []
        rows.append(row)
    body = table(f"Predicted {report.groups[1]}", header, rows, "counts")
    return section("counts", "What was found", body + _tomogram_table(report))


def provenance_section(provenance: Mapping[str, Any], notes: tuple[str, ...]) -> str:
    """Notes first, then everything needed to repeat the run."""
    body = ""
    if notes:
        body += f'<h3>Notes</h3><ul class="notes">{"".join(f"<li>{escape(note)}</li>" for note in notes)}</ul>'
    items = ""
    for name, value in provenance.items():
        if isinstance(value, Mapping | list | tuple):
            shown = json.dumps(value, indent=2, default=_plain, ensure_ascii=False)
            lines, block = shown.count("\n") + 1, f"<pre>{escape(shown)}</pre>"
            if lines > LONGEST_SHOWN:
                block = f"<details><summary>{lines} lines</summary>{block}</details>"
            items += f"<dt>{escape(name)}</dt><dd>{block}</dd>"
        else:
            items += f"<dt>{escape(name)}</dt><dd><code>{escape(value)}</code></dd>"
    body += f'<dl class="provenance">{items}</dl>' if items else "<p>Nothing was recorded.</p>"
    return section("provenance", "How this was made", body)


def _plain(value: object) -> object:
    return dict(value) if isinstance(value, Mapping) else str(value)


def _tomogram_table(report: ReportInput) -> str:
    names, group = np.unique(report.particles.tomogram.astype(str), return_inverse=True)
    k = len(report.class_names)
    counts = np.bincount(group * k + report.predicted, minlength=len(names) * k).reshape(len(names), k)
    known = np.bincount(group, report.truth >= 0, len(names))
    right = known - np.bincount(group, report.wrong, len(names))
    rows = []
    for t, name in enumerate(names[:MOST_TOMOGRAMS]):
        accuracy = [number(right[t] / known[t]) if known[t] else "–"] if report.has_truth else []
        rows.append([escape(name), *accuracy, str(counts[t].sum()), *(str(value) for value in counts[t])])
    columns = [*(["accuracy"] if report.has_truth else []), "all", *report.class_names]
    header = ["Tomogram", *(f"<span>{escape(name)}</span>" for name in columns)]
    left = len(names) - MOST_TOMOGRAMS
    rest = f'<p class="note">{count(left, "more tomogram")} not shown.</p>' if left > 0 else ""
    return f"<h3>Per tomogram</h3>{table('Particles called so, per tomogram', header, rows, 'upright')}{rest}"


def _unknown_rule(report: ReportInput) -> str:
    rules = {"confidence": report.min_confidence, "similarity": report.min_similarity}
    return " or ".join(f"{name} below {limit:.2f}" for name, limit in rules.items() if limit is not None)


def _range(interval: Interval) -> str:
    return f'<span class="ci">{interval.low:.2f}–{interval.high:.2f}</span>' if np.isfinite(interval.low) else ""


def _whisker(interval: Interval) -> str:
    if not np.isfinite(interval.low):
        return ""
    width = max(interval.high - interval.low, 0) * 100
    return f'<em style="left:{interval.low * 100:.1f}%;width:{width:.1f}%"></em>'


def _cell(number_of: int, share: float, right: bool, empty: bool, true: str, predicted: str) -> str:
    if empty:
        return '<td class="none">–</td>'
    classes = " ".join(
        [*(["right"] if right else []), *(["deep"] if share > 0.5 else []), *(["zero"] if number_of == 0 else [])]
    )
    shown = f"{share:.2f}<small>{number_of}</small>" if number_of else "·"
    title = escape(f"{true} called {predicted}: {number_of}")
    return f'<td class="{classes}" style="--v:{share:.3f}" title="{title}">{shown}</td>'
