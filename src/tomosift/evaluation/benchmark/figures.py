"""Figures of the benchmark: learning curves, or one accuracy per entry where there is one label budget."""

from collections.abc import Sequence
from statistics import mean
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from tomosift.evaluation.benchmark.results import Row, list_budgets, select_rows
from tomosift.evaluation.report.figures import STYLE

# Colors that most color-blind readers can distinguish, on light and dark alike (Okabe & Ito), and markers for print.
_LINES = (
    ("#0072b2", "o"),
    ("#56b4e9", "s"),
    ("#009e73", "D"),
    ("#d55e00", "^"),
    ("#e69f00", "v"),
    ("#cc79a7", "P"),
    ("#808080", "X"),
    ("#a08040", "*"),
)


def draw_accuracy(rows: Sequence[Row], style: Any = STYLE) -> Figure:
    """Draw the accuracy of the entries of one protocol at one SNR: mean over seeds, with the range.

    Entries that were measured at a single budget have no curve and are left out beside others that do.

    Parameters
    ----------
    rows
        Of one protocol and SNR.
    style
        Settings of matplotlib; by default with placeholder colors for `tomosift.evaluation.report.figures.render_svg`.
    """
    with rc_context(style):
        return _draw_curves(rows) if len(list_budgets(rows)) > 1 else _draw_points(rows)


def _draw_curves(rows: Sequence[Row]) -> Figure:
    figure = Figure(figsize=(5.6, 3.9))
    axes = figure.subplots()
    figure.subplots_adjust(left=0.11, right=0.98, bottom=0.13, top=0.98)
    curves = {}
    for method in dict.fromkeys(row.method for row in rows):
        points = [select_rows(rows, method, budget) for budget in list_budgets(rows)]
        curves[method] = [point for point in points if point]
    longest = max(len(points) for points in curves.values())
    curves = {method: points for method, points in curves.items() if len(points) > 1 or longest == 1}
    for number, (method, points) in enumerate(curves.items()):
        color, marker = _LINES[number % len(_LINES)]
        dash = "-" if number < len(_LINES) else "--"
        labels = [mean(row.labels_per_class for row in point) for point in points]
        values = [mean(row.accuracy for row in point) for point in points]
        axes.plot(labels, values, dash, marker=marker, color=color, linewidth=1.4, markersize=5, label=method)
        low, high = ([bound(row.accuracy for row in point) for point in points] for bound in (min, max))
        axes.fill_between(labels, low, high, color=color, alpha=0.15, linewidth=0)
    axes.set(xscale="log", xlabel="Labels per class", ylabel="Accuracy")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter("")
    axes.legend(frameon=False, loc="lower right")
    return figure


def _draw_points(rows: Sequence[Row]) -> Figure:
    accuracy = {
        method: [r.accuracy for r in rows if r.method == method] for method in dict.fromkeys(r.method for r in rows)
    }
    order = sorted(accuracy, key=lambda method: mean(accuracy[method]))
    height = 0.9 + 0.3 * len(order)
    figure = Figure(figsize=(5.6, height))
    axes = figure.subplots()
    figure.subplots_adjust(left=0.24, right=0.97, bottom=0.6 / height, top=0.97)
    color = _LINES[0][0]
    for y, method in enumerate(order):
        values = accuracy[method]
        axes.plot([min(values), max(values)], [y, y], color=color, linewidth=1.4, alpha=0.5)
        axes.plot(mean(values), y, marker="o", color=color, markersize=6)
    axes.set(yticks=range(len(order)), yticklabels=order, xlabel="Accuracy", ylim=(-0.6, len(order) - 0.4))
    return figure
