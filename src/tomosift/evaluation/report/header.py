"""The first screen of a report: the result in one sentence, key figures and other classifiers."""

import numpy as np

from tomosift.evaluation.metrics.classification import Scores
from tomosift.evaluation.metrics.intervals import Interval
from tomosift.evaluation.report.markup import escape, format_count, format_interval, format_number
from tomosift.evaluation.report.report_input import ReportInput

_HIGH_CONFIDENCE = 0.9
_TOMOGRAMS = 4
"""Tomograms named in the header."""


def render_header(report: ReportInput) -> str:
    """Return the header of the report as HTML."""
    scores = report.scores
    below = ""
    if scores is not None:
        below = f'<p class="basis">{escape(describe_intervals(scores))}</p>{_render_comparisons(report, scores)}'
    elif report.clusters is None:
        below = '<p class="basis">No true classes were given, so the accuracy of the predictions is not known.</p>'
    names = np.unique(report.particles.tomogram.astype(str))
    more = f" and {len(names) - _TOMOGRAMS} more" if len(names) > _TOMOGRAMS else ""
    return (
        f'<p class="headline">{escape(_write_headline(report))}</p>{_render_key_figures(report)}{below}'
        f'<p class="basis">Tomograms: {escape(", ".join(names[:_TOMOGRAMS]) + more)}</p>'
    )


def describe_intervals(scores: Scores) -> str:
    """Return one sentence on how the intervals were computed."""
    if scores.resampled_by == "tomogram":
        return f"95 % intervals: bootstrap over {format_count(scores.tomogram_count, 'tomogram')}."
    return (
        f"95 % intervals: bootstrap over {format_count(scores.count, 'particle')}, because "
        f"{format_count(scores.tomogram_count, 'tomogram')} cannot be resampled. "
        "Particles of one tomogram are similar, so the true value may lie outside more often."
    )


def _write_headline(report: ReportInput) -> str:
    """Return the result in one sentence of plain text."""
    tomograms = format_count(len(np.unique(report.particles.tomogram.astype(str))), "tomogram")
    classes = format_count(len(report.class_names), *report.groups)
    labels = "" if report.labels_per_class is None else f", {format_count(report.labels_per_class, 'label')} each"
    scores = report.scores
    if scores is None:
        sentence = f"{format_count(len(report.particles), 'particle')} from {tomograms} sorted into {classes}{labels}"
        if report.is_unknown is None:
            return f"{sentence}."
        return f"{sentence}; {int(report.is_unknown.sum()):,} of them unknown."
    sentence = (
        f"{scores.accuracy.value:.2f} accuracy on {format_count(scores.count, 'held-out particle')} from "
        f"{format_count(scores.tomogram_count, 'tomogram')}, {classes}{labels}"
    )
    others = "".join(f"; {other.name} {other.accuracy:.2f}" for other in report.comparisons)
    return f"{sentence}{others}."


def _render_key_figures(report: ReportInput) -> str:
    """Return cards of name, value, interval and meaning."""
    cards = _score_cards(report) if report.has_truth else _confidence_cards(report)
    if report.is_unknown is not None:
        cards.append(("Unknown", f"{int(report.is_unknown.sum()):,}", "", _describe_thresholds(report)))
    items = "".join(
        f"<div><dt>{name}</dt><dd><b>{value}</b>{extent}<small>{escape(meaning)}</small></dd></div>"
        for name, value, extent, meaning in cards
    )
    return f'<dl class="cards">{items}</dl>'


def _score_cards(report: ReportInput) -> list[tuple[str, str, str, str]]:
    scores, calibration = report.scores, report.calibration
    assert scores is not None
    assert calibration is not None
    cards = [
        (name, format_number(interval.value), _format_range(interval), meaning)
        for name, interval, meaning in (
            ("Accuracy", scores.accuracy, "share of particles predicted right"),
            ("Balanced accuracy", scores.balanced_accuracy, "mean recall over classes"),
            ("Macro F1", scores.macro_f1, "mean F1 over classes"),
        )
    ]
    error = format_number(calibration.expected_error, 3)
    cards.append(("Calibration error", error, "", "mean difference of confidence and accuracy"))
    majority = format_number(scores.majority_accuracy)
    cards.append(("Most frequent class", majority, "", "accuracy of predicting it always"))
    return cards


def _confidence_cards(report: ReportInput) -> list[tuple[str, str, str, str]]:
    mean = format_number(float(report.confidence.mean()))
    confident = format_number(float((report.confidence >= _HIGH_CONFIDENCE).mean()))
    return [
        ("Particles", f"{len(report.particles):,}", "", "in total"),
        ("Mean confidence", mean, "", f"of the predicted {report.groups[0]}"),
        ("Confident", confident, "", "share at 0.90 or above"),
    ]


def _describe_thresholds(report: ReportInput) -> str:
    rules = {"confidence": report.min_confidence, "similarity": report.min_similarity}
    return " or ".join(f"{name} below {limit:.2f}" for name, limit in rules.items() if limit is not None)


def _render_comparisons(report: ReportInput, scores: Scores) -> str:
    """Return bars of the accuracy of this classifier and others, on one scale."""
    rows = [("This classifier", scores.accuracy, "this")]
    rows += [(other.name, Interval(other.accuracy, other.low, other.high), "") for other in report.comparisons]
    rows.append(("Most frequent class, always", Interval(scores.majority_accuracy, np.nan, np.nan), "floor"))
    body = "".join(
        f'<li class="{kind}"><span class="name">{escape(name)}</span>'
        f'<span class="bar" aria-hidden="true">'
        f'<i style="width:{interval.value * 100:.1f}%"></i>{_render_whisker(interval)}</span>'
        f'<span class="value">{format_interval(interval)}</span></li>'
        for name, interval, kind in rows
    )
    return f'<h3>Accuracy compared</h3><ul class="bars" aria-label="Accuracy compared">{body}</ul>'


def _format_range(interval: Interval) -> str:
    return f'<span class="ci">{interval.low:.2f}–{interval.high:.2f}</span>' if np.isfinite(interval.low) else ""


def _render_whisker(interval: Interval) -> str:
    if not np.isfinite(interval.low):
        return ""
    width = max(interval.high - interval.low, 0) * 100
    return f'<em style="left:{interval.low * 100:.1f}%;width:{width:.1f}%"></em>'
