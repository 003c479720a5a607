"""Figures of the benchmark: learning curves, or one accuracy per method where there is one label budget."""

from collections.abc import Sequence
from statistics import mean
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from tomosift.evaluation.benchmark.results import Row, budgets_of, rows_of
from tomosift.evaluation.report.figures import STYLE

# Colors that most color-blind readers tell apart, on light and dark alike (Okabe & Ito), and markers for print.
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


def accuracy_figure(rows: Sequence[Row], style: Any = STYLE) -> Figure:
    """Accuracy of the methods of one protocol at one noise level; mean over seeds, with the range.

    Methods that were measured at a single budget have no curve; beside others that do, they are left to the table.

    ``style`` holds matplotlib's settings; by default stand-in colors that `tomosift.evaluation.report.figures.svg` replaces.
    """
    with rc_context(style):
        return _learning_curves(rows) if len(budgets_of(rows)) > 1 else _points(rows)


def _learning_curves(rows: Sequence[Row]) -> Figure:
    figure = Figure(figsize=(5.6, 3.9))
    axes = figure.subplots()
    figure.subplots_adjust(left=0.11, right=0.98, bottom=0.13, top=0.98)
    curves = {}
    for method in dict.fromkeys(row.method for row in rows):
        points = [rows_of(rows, method, budget) for budget in budgets_of(rows)]
        curves[method] = [found for found in points if found]
    longest = max(len(points) for points in curves.values())
    curves = {method: points for method, points in curves.items() if len(points) > 1 or longest == 1}
    for number, (method, points) in enumerate(curves.items()):
        color, marker = _LINES[number % len(_LINES)]
        dash = "-" if number < len(_LINES) else "--"
        labels = [mean(row.labels_per_class for row in found) for found in points]
        values = [mean(row.accuracy for row in found) for found in points]
        axes.plot(labels, values, dash, marker=marker, color=color, linewidth=1.4, markersize=5, label=method)
        low, high = ([f(row.accuracy for row in found) for found in points] for f in (min, max))
        axes.fill_between(labels, low, high, color=color, alpha=0.15, linewidth=0)
    axes.set(xscale="log", xlabel="Labels per class", ylabel="Accuracy")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter("")
    axes.legend(frameon=False, loc="lower right")
    return figure


def _points(rows: Sequence[Row]) -> Figure:
    found = {method: [r.accuracy for r in rows if r.method == method] for method in {r.method for r in rows}}
    order = sorted(found, key=lambda method: mean(found[method]))
    height = 0.9 + 0.3 * len(order)
    figure = Figure(figsize=(5.6, height))
    axes = figure.subplots()
    figure.subplots_adjust(left=0.24, right=0.97, bottom=0.6 / height, top=0.97)
    for place, method in enumerate(order):
        axes.plot(
            [min(found[method]), max(found[method])], [place, place], color=_LINES[0][0], linewidth=1.4, alpha=0.5
        )
        axes.plot(mean(found[method]), place, marker="o", color=_LINES[0][0], markersize=6)
    axes.set(yticks=range(len(order)), yticklabels=order, xlabel="Accuracy", ylim=(-0.6, len(order) - 0.4))
    return figure
