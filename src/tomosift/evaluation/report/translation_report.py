"""One self-contained HTML file on a translator: what it makes, how real that looks, and how training went."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib import rc_context
from matplotlib.figure import Figure

from tomosift.evaluation.metrics.realism import NEAREST, RealismScores
from tomosift.evaluation.report import page
from tomosift.evaluation.report.domain_section import pictured
from tomosift.evaluation.report.figures import STYLE, domain_colors, svg
from tomosift.evaluation.report.markup import escape, section, table
from tomosift.files import written_then_renamed
from tomosift.simulate.maps import Faithfulness

_CURVES = (
    ("Critics", "measured_critic", "map_critic", "of boxes", "of maps"),
    ("Cycles", "measured_cycle", "map_cycle", "boxes", "maps"),
    ("Diversity", "diversity", "", "two draws of one map", ""),
)


@dataclass(frozen=True, eq=False)
class Translated:
    """What a report is made of."""

    boxes: dict[str, Float[np.ndarray, "_ d d d"]]
    """Kind of boxes, such as maps, the same translated, and measured ones, and some of each."""
    judged: dict[str, RealismScores]
    """Kind of made boxes, and what judges say of them against measured boxes that were held out."""
    held_out: int
    """How many those are."""
    faithful: Faithfulness
    log: list[dict[str, Any]]
    """Lines of the run's log."""


def write_translation_report(path: Path, title: str, made: Translated, provenance: Mapping[str, Any]) -> None:
    """Write the report to ``path``; the file is complete or absent."""
    parts = {
        "boxes": ("Boxes", pictured(made.boxes)),
        "realism": ("Realism", _realism(made)),
        "training": ("Training", _training(made)),
        "provenance": ("Provenance", f"<pre>{escape(json.dumps(dict(provenance), indent=2, default=str))}</pre>"),
    }
    found = made.faithful
    header = (
        f'<p class="headline">{found.class_kept:.0%} of translated maps look most like their own class, beyond '
        "chance.</p>"
        f'<p class="basis">The mean of several translations of a map correlates with that map by '
        f"{found.density_kept:.2f}, with one of the same class in another pose by {found.density_elsewhere:.2f} "
        "(below a quarter of Nyquist). A translator that made up what it shows would not tell these apart.</p>"
    )
    links = "".join(f'<a href="#{name}">{shown}</a>' for name, (shown, _) in parts.items())
    sections = [section(name, shown, body) for name, (shown, body) in parts.items()]
    text = page(title, header, f'<nav aria-label="Sections">{links}</nav>', sections)
    with written_then_renamed(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _realism(made: Translated) -> str:
    header = ["Boxes", "Told apart (AUROC)", "Precision", "Recall", "Density", "Coverage"]
    header += ["Density, voxels", "Coverage, voxels", "Spectrum", "Autocorrelation"]
    rows = []
    for kind, each in made.judged.items():
        by = each.embedded
        numbers = [each.two_sample_accuracy, by.precision, by.recall, by.density, by.coverage, each.raw.density]
        numbers += [each.raw.coverage, each.spectrum, each.autocorrelation]
        rows.append([escape(kind), *(f"{number:.2f}" for number in numbers)])
    lead = (
        f"Against {made.held_out} measured boxes that training did not see. Told apart: how well a linear classifier "
        "of embeddings says which boxes are measured, 0.5 where it cannot. Precision and density: made boxes near "
        "measured ones; recall and coverage: measured boxes near made ones, each within the distance of its "
        f"{NEAREST}th neighbor. Spectrum: root mean square difference of the logarithms of power in shells, 0 where "
        "equal. Autocorrelation: largest difference of the correlation of voxels up to four apart. What counts is none "
        "of these, but how well a classifier trained on such boxes names measured ones."
    )
    return f'<p class="lead">{lead}</p>' + table("How real made boxes look", header, rows, "scores")


def _training(made: Translated) -> str:
    with rc_context(STYLE):
        figure = Figure(figsize=(9.2, 3.2))
        panels = figure.subplots(1, len(_CURVES), gridspec_kw={"left": 0.06, "right": 0.99, "bottom": 0.16, "top": 0.9})
        for axes, (title, first, second, first_name, second_name) in zip(panels, _CURVES, strict=True):
            named = ((first, first_name), (second, second_name))
            for (name, label), (_, color, _) in zip(named, domain_colors(), strict=True):
                points = [(line["step"], line[name]) for line in made.log if name in line]
                if points:
                    axes.plot(*zip(*points, strict=True), "-", color=color, linewidth=1.4, label=label)
            axes.set(title=title, xlabel="Step")
            if axes.lines:
                axes.legend(frameon=False, loc="best", fontsize=9)
        drawn = svg(figure, "training", "Losses of critics and cycles, and diversity, over training")
    lead = (
        "The critics' loss is how far they tell both kinds apart, with its sign turned: near zero they cannot. "
        "Diversity is half the mean squared difference of two translations of one map: near zero, noise does nothing "
        "and the translator has collapsed."
    )
    return f'<p class="lead">{lead}</p>' + drawn.replace('class="plot"', 'class="plot wide"', 1)
