"""Figures as inline SVG whose colors are those of the page, light or dark.

matplotlib draws with placeholder colors; `render_svg` replaces these by CSS variables of the page.
"""

import io
import re
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from tomosift.evaluation.metrics.calibration import Calibration, SelectiveAccuracy
from tomosift.evaluation.report.markup import escape

_INK, _MUTED, _ACCENT, _RULE, _SECOND = "#010203", "#010204", "#010205", "#010206", "#010207"
_VARIABLES = {_INK: "--ink", _MUTED: "--muted", _ACCENT: "--accent", _RULE: "--rule", _SECOND: "--second"}
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "tomosift",
    "text.parse_math": False,
    "font.size": 10,
    "axes.edgecolor": _RULE,
    "axes.labelcolor": _INK,
    "text.color": _INK,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "axes.grid": True,
    "grid.color": _RULE,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.major.pad": 6,
    "ytick.major.pad": 6,
}
"""Settings of matplotlib for figures of a report."""
DOMAIN_STYLES = (("source", _MUTED, "o"), ("target", _ACCENT, "^"))
"""Name, color and marker of source and target, for figures that show both."""
_MARGINS: Any = {"left": 0.12, "right": 0.98, "bottom": 0.115, "top": 0.98}


def draw_reliability(calibration: Calibration) -> str:
    """Return an SVG of accuracy against confidence with Wilson intervals, above the number of particles per bin."""
    with rc_context(STYLE):
        figure = Figure(figsize=(5.2, 4.6))
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1), gridspec_kw=_MARGINS | {"hspace": 0.08})
        top.plot([0, 1], [0, 1], "--", color=_MUTED, linewidth=1)
        top.text(0.03, 0.07, "perfect", color=_MUTED, rotation=38, fontsize=9)
        below, above = calibration.accuracy - calibration.low, calibration.high - calibration.accuracy
        top.errorbar(
            calibration.confidence,
            calibration.accuracy,
            [below.clip(0), above.clip(0)],
            fmt="o-",
            color=_ACCENT,
            elinewidth=1.2,
            linewidth=1.2,
            markersize=5.5,
            capsize=2.5,
        )
        top.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="Accuracy")
        bottom.vlines(calibration.confidence, 0, calibration.count, color=_ACCENT, linewidth=7, alpha=0.55)
        bottom.set(ylim=(0, None), xlabel="Confidence", ylabel="Particles")
        bottom.locator_params(axis="y", nbins=2)
        figure.align_ylabels()
        description = f"Accuracy against confidence; mean difference {calibration.expected_error:.3f}"
        return render_svg(figure, "reliability", description)


def draw_coverage(selective: SelectiveAccuracy, threshold: float | None) -> str:
    """Return an SVG of the accuracy of the particles kept against the share kept, with a mark at ``threshold``."""
    with rc_context(STYLE):
        figure = Figure(figsize=(5.2, 4.6))
        axes = figure.subplots(gridspec_kw=_MARGINS)
        axes.plot(selective.coverage, selective.accuracy, "-", color=_ACCENT, linewidth=1.8)
        axes.plot(selective.coverage[-1:], selective.accuracy[-1:], "o", color=_ACCENT, markersize=6)
        lowest = float(selective.accuracy.min())
        if threshold is not None and (selective.threshold >= threshold).any():
            at = int((selective.threshold >= threshold).sum()) - 1
            x, y = float(selective.coverage[at]), float(selective.accuracy[at])
            axes.plot([x, x], [0, y], ":", color=_SECOND, linewidth=1.4)
            axes.plot([x], [y], "D", color=_SECOND, markersize=7)
            side = "left" if x < 0.6 else "right"
            text = f" unknown below {threshold:.2f} "
            axes.text(x, y - 0.03 * (1.02 - min(lowest, 0.5)), text, ha=side, va="top", color=_SECOND)
        axes.set(xlim=(0, 1.02), ylim=(min(lowest - 0.05, 0.5) if lowest > 0.05 else 0, 1.02))
        axes.set(xlabel="Share of particles kept", ylabel="Accuracy of those kept")
        return render_svg(figure, "coverage", "Accuracy of the particles kept against the share of particles kept")


def render_svg(figure: Figure, prefix: str, description: str) -> str:
    """Return the figure as inline SVG.

    Parameters
    ----------
    figure
        Drawn with `STYLE`; its placeholder colors become those of the page.
    prefix
        Of every id, so that two figures of a page share none.
    description
        Plain text for screen readers.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    # A style element inside inline SVG would reach the whole page; style.css sets its one rule for `.plot` instead.
    text = re.sub(r"<(metadata|style).*?</\1>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r'\sxmlns(:xlink)?="[^"]*"', "", text).replace("xlink:href", "href")
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = re.sub(r'href="#', f'href="#{prefix}-', text)
    text = re.sub(r"url\(#", f"url(#{prefix}-", text)
    for placeholder, variable in _VARIABLES.items():
        text = text.replace(placeholder, f"var({variable})")
    return re.sub(
        r'<svg width="[^"]*" height="[^"]*"',
        f'<svg class="plot" role="img" aria-label="{escape(description)}"',
        text,
        count=1,
    )


def widen(svg: str) -> str:
    """Return a figure of `render_svg` that takes the whole width of the page."""
    return svg.replace('class="plot"', 'class="plot wide"', 1)
