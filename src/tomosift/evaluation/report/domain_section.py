"""The section of a report that sets two domains side by side: their boxes, and where an encoder puts them."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tomosift.evaluation.embedding_map import map_embeddings
from tomosift.evaluation.metrics.realism import NEAREST, prdc, reduce_dimensions, two_sample_accuracy
from tomosift.evaluation.report.figures import STYLE, domain_colors, svg
from tomosift.evaluation.report.markup import escape, png_uri, section, table
from tomosift.evaluation.report.pictures import gray_levels, slab, slab_thickness, window

SHOWN = 6
"""Boxes of each kind."""
_MOST_POINTS = 600


@dataclass(frozen=True, eq=False)
class DomainComparison:
    """What is known of source and target."""

    boxes: dict[str, Float[np.ndarray, "_ d d d"]]
    """Kind of boxes, such as source, warped source and target, and some of them."""
    before: tuple[Float[np.ndarray, "n e"], Float[np.ndarray, "m e"]]
    """Embeddings of source and target by the model that was started from."""
    after: tuple[Float[np.ndarray, "n f"], Float[np.ndarray, "m f"]]
    """The same by the adapted one."""


def domain_section(domains: DomainComparison, seed: int) -> str:
    """Pictures of both domains, maps of embeddings before and after, and how far these are apart in numbers."""
    rows = [_numbers(name, *pair, seed) for name, pair in (("before", domains.before), ("after", domains.after))]
    header = ["Embeddings", "Told apart (AUROC)", "Precision", "Recall", "Density", "Coverage"]
    lead = (
        "The source is what labels are of, the target what is to be named. Told apart: how well a linear classifier "
        "says of which domain a box is, 0.5 where it cannot. Precision and density: source boxes near target boxes; "
        f"recall and coverage: target boxes near source boxes, each within the distance of its {NEAREST}th neighbor. "
        "Domains that hold other classes, or other shares of them, are apart whatever adaptation does."
    )
    body = table("Domains", header, rows, "scores") + _maps(domains, seed) + pictured(domains.boxes)
    return section("domains", "Two domains", body, lead)


def pictured(kinds: dict[str, Float[np.ndarray, "_ d d d"]]) -> str:
    """A row of central slabs for each kind of boxes, with its name above."""
    cards = ""
    for kind, boxes in kinds.items():
        images = slab(boxes[:SHOWN], 0, slab_thickness(boxes.shape[-1]))
        pictures = "".join(
            f'<figure><img src="{png_uri(gray_levels(image, *window(image)))}" alt="{escape(kind)}, central xy slab">'
            "</figure>"
            for image in images
        )
        cards += f'<h3>{escape(kind)}</h3><div class="views">{pictures}</div>'
    return cards


def _numbers(name: str, source: NDArray[np.floating], target: NDArray[np.floating], seed: int) -> list[str]:
    first, second = reduce_dimensions(source, target)
    found = prdc(second, first)
    shares = (two_sample_accuracy(second, first, seed), found.precision, found.recall, found.density, found.coverage)
    return [name, *(f"{value:.2f}" for value in shares)]


def _maps(domains: DomainComparison, seed: int) -> str:
    with rc_context(STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(9.2, 4.4))
        panels = figure.subplots(1, 2, gridspec_kw={"left": 0.01, "right": 0.99, "bottom": 0.02, "top": 0.9})
        for axes, title, (source, target) in zip(
            panels, ("before", "after"), (domains.before, domains.after), strict=True
        ):
            some = [points[: _MOST_POINTS // 2] for points in reduce_dimensions(source, target)]
            plane, method = map_embeddings(np.concatenate(some), seed)
            for place, (name, color, marker) in enumerate(domain_colors()):
                mine = plane[: len(some[0])] if place == 0 else plane[len(some[0]) :]
                axes.plot(*mine.T, marker, color=color, markersize=4, alpha=0.65, linestyle="none", label=name)
            axes.set(xticks=[], yticks=[], title=f"{title} ({method})")
        panels[1].legend(frameon=False, loc="best")
        told = "Maps of embeddings of source and target, before and after adaptation"
        return svg(figure, "domains", told).replace('class="plot"', 'class="plot wide"', 1)
