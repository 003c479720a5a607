"""Section: source and target domain side by side, as subtomograms and as embeddings before and after adaptation."""

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tomosift.evaluation.embedding_map import map_embeddings
from tomosift.evaluation.metrics.realism import NEAREST, prdc, reduce_dimensions, two_sample_auroc
from tomosift.evaluation.report.domain_comparison import DomainComparison
from tomosift.evaluation.report.figures import DOMAIN_STYLES, STYLE, render_svg, widen
from tomosift.evaluation.report.markup import render_section, render_table
from tomosift.evaluation.report.pictures import render_gallery
from tomosift.evaluation.report.report_input import ReportInput
from tomosift.evaluation.report.section import Section

_MOST_POINTS = 600


def render(report: ReportInput) -> str:
    """Return the section; empty without domains."""
    domains, seed = report.domains, report.seed
    if domains is None:
        return ""
    rows = [_measure(name, *pair, seed) for name, pair in (("before", domains.before), ("after", domains.after))]
    header = ["Embeddings", "Separability (AUROC)", "Precision", "Recall", "Density", "Coverage"]
    lead = (
        "The labels are of the source domain, the predictions of the target domain. Separability: how well a linear "
        "classifier predicts the domain of a subtomogram; 0.5 is chance. Precision and density: source subtomograms "
        "near target ones; recall and coverage: target subtomograms near source ones. Near is within the distance of "
        f"the {NEAREST}th neighbor. Domains with other classes, or other shares of them, stay separable after any "
        "adaptation."
    )
    body = render_table("Domains", header, rows, "scores") + _draw_maps(domains, seed) + render_gallery(domains.volumes)
    return render_section("domains", "Two domains", body, lead)


def _measure(name: str, source: NDArray[np.floating], target: NDArray[np.floating], seed: int) -> list[str]:
    first, second = reduce_dimensions(source, target)
    scores = prdc(second, first)
    auroc = two_sample_auroc(second, first, seed)
    values = (auroc, scores.precision, scores.recall, scores.density, scores.coverage)
    return [name, *(f"{value:.2f}" for value in values)]


def _draw_maps(domains: DomainComparison, seed: int) -> str:
    with rc_context(STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(9.2, 4.4))
        panels = figure.subplots(1, 2, gridspec_kw={"left": 0.01, "right": 0.99, "bottom": 0.02, "top": 0.9})
        for axes, title, pair in zip(panels, ("before", "after"), (domains.before, domains.after), strict=True):
            parts = [points[: _MOST_POINTS // 2] for points in reduce_dimensions(*pair)]
            plane, method = map_embeddings(np.concatenate(parts), seed)
            for points, (name, color, marker) in zip(np.split(plane, [len(parts[0])]), DOMAIN_STYLES, strict=True):
                axes.plot(*points.T, marker, color=color, markersize=4, alpha=0.65, linestyle="none", label=name)
            axes.set(xticks=[], yticks=[], title=f"{title} ({method})")
        panels[1].legend(frameon=False, loc="best")
        description = "Maps of embeddings of source and target, before and after adaptation"
        return widen(render_svg(figure, "domains", description))


SECTION = Section("domains", "Domains", render, 50)
