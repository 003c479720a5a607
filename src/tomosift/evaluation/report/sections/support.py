"""Section: the examples of each class, and particles beside their most similar example."""

import numpy as np
from jaxtyping import Bool, UInt8
from numpy.typing import NDArray

from tomosift.evaluation.report.markup import escape, render_picture, render_section
from tomosift.evaluation.report.pictures import render_slab
from tomosift.evaluation.report.report_input import ReportInput
from tomosift.evaluation.report.section import Section
from tomosift.evaluation.report.support_examples import SupportExamples

MOST_PARTICLES = 16
"""Particles beside their most similar example."""
MOST_EXAMPLES = 8
"""Examples of each class."""


def render(report: ReportInput) -> str:
    """Return the section; empty without examples. Errors come first, or the least similar or confident particles."""
    support = report.support
    if support is None:
        return ""
    body = _render_examples(report, support)
    rows, order = _choose_particles(report)
    cards = ""
    if report.volumes is not None and len(rows):
        boxes = report.volumes(np.ascontiguousarray(rows))
        masks = [None] * len(rows) if support.masks is None else support.masks(rows)
        cards = "".join(
            _render_card(report, support, int(row), box, mask)
            for row, box, mask in zip(rows, boxes, masks, strict=True)
        )
    body += f'<h3>Beside the most similar example: {order}</h3><div class="gallery">{cards}</div>'
    lead = "The examples of each class, and particles beside their most similar example of any class."
    lead += " White lines show the predicted mask of the particle." if support.masks is not None else ""
    return render_section("support", "Examples", body, lead)


def draw_outline(picture: UInt8[np.ndarray, "h w"], mask: Bool[np.ndarray, "h w"]) -> UInt8[np.ndarray, "_ _"]:
    """Return the picture, twice as large, with the border of the mask in white."""
    large, inside = (np.kron(image, np.ones((2, 2), dtype=image.dtype)) for image in (picture, mask.astype(np.uint8)))
    padded = np.pad(inside, 1)
    neighbors = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    border = (inside > 0) & np.any([side == 0 for side in neighbors], axis=0)
    return np.where(border, 255, np.minimum(large, 208)).astype(np.uint8)


def _render_examples(report: ReportInput, support: SupportExamples) -> str:
    body = ""
    for c, name in enumerate(report.class_names):
        rows = np.flatnonzero(support.label == c)
        pictures = "".join(_render_figure(support.volumes[row], "xy") for row in rows[:MOST_EXAMPLES])
        more = f" ({MOST_EXAMPLES} of {len(rows)})" if len(rows) > MOST_EXAMPLES else ""
        body += f'<h3>{escape(name)}{more}</h3><div class="gallery"><div class="views">{pictures}</div></div>'
    return body


def _choose_particles(report: ReportInput) -> tuple[NDArray[np.int64], str]:
    """Return the rows to show and their order in words."""
    by_confidence = np.argsort(-report.confidence, kind="stable")
    if report.is_wrong.any():
        wrong = by_confidence[report.is_wrong[by_confidence]]
        count = min(MOST_PARTICLES, len(wrong))
        return wrong[:MOST_PARTICLES], f"wrong, most confident first ({count} of {len(wrong):,})"
    if report.similarity is not None:
        return np.argsort(report.similarity, kind="stable")[:MOST_PARTICLES], "least similar first"
    return by_confidence[::-1][:MOST_PARTICLES], "least confident first"


def _render_figure(box: NDArray[np.floating], caption: str, mask: NDArray[np.bool_] | None = None) -> str:
    picture = render_slab(box, 0)
    if mask is None:
        picture = np.kron(picture, np.ones((2, 2), dtype=np.uint8))
    else:
        picture = draw_outline(picture, mask[len(box) // 2])
    return render_picture(picture, f"{caption}, central xy slab", caption)


def _render_card(
    report: ReportInput, support: SupportExamples, row: int, box: NDArray[np.float32], mask: NDArray[np.bool_] | None
) -> str:
    example = int(support.nearest[row])
    pictures = _render_figure(box, "particle", mask) + _render_figure(support.volumes[example], "example")
    predicted, true = report.class_name(int(report.predicted[row])), report.class_name(int(report.truth[row]))
    verdict = "✗ " if report.is_wrong[row] else ""
    truth = f"<dt>true</dt><dd>{escape(true)}</dd>" if report.has_truth else ""
    nearest = escape(report.class_name(int(support.label[example])))
    similarity = ""
    if report.similarity is not None:
        similarity = f"<dt>similarity</dt><dd>{report.similarity[row]:.2f}</dd>"
    return (
        f'<div class="example{" wrong" if report.is_wrong[row] else ""}"><div class="views">{pictures}</div><dl>'
        f"<dt>predicted</dt><dd><b>{verdict}{escape(predicted)}</b></dd>{truth}"
        f"<dt>most similar</dt><dd>{nearest}</dd>"
        f"<dt>confidence</dt><dd>{report.confidence[row]:.2f}</dd>{similarity}</dl>"
        f'<p class="id">{escape(report.particles.particle_id[row])}</p></div>'
    )


SECTION = Section("support", "Examples", render, 60)
