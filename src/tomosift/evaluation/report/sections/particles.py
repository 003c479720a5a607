"""Section: pictures of single particles, the most confident errors first."""

import numpy as np
from numpy.typing import NDArray

from tomosift.evaluation.report.markup import escape, format_count, render_picture, render_section
from tomosift.evaluation.report.pictures import render_slab, slab_thickness
from tomosift.evaluation.report.report_input import ReportInput
from tomosift.evaluation.report.section import Section

MOST_WRONG = 16
MOST_RIGHT = 8
_VIEWS = ((0, "xy"), (1, "xz"))


def render(report: ReportInput) -> str:
    """Return the section; empty without volumes."""
    if report.volumes is None:
        return ""
    body, box_size = "", 0
    for title, rows in _choose_groups(report):
        if len(rows):
            boxes = report.volumes(np.ascontiguousarray(rows))
            box_size = boxes.shape[1]
            cards = "".join(_render_card(report, int(row), box) for row, box in zip(rows, boxes, strict=True))
            body += f'<h3>{escape(title)}</h3><div class="gallery">{cards}</div>'
    slices = format_count(slab_thickness(box_size), "central slice")
    lead = f"Mean of the {slices}, viewed along z (xy) and y (xz); high density is bright."
    return render_section("examples", "Single particles", body, lead)


def _choose_groups(report: ReportInput) -> list[tuple[str, NDArray[np.int64]]]:
    """Return titles and rows of the groups of particles to show."""
    by_confidence = np.argsort(-report.confidence, kind="stable")
    if not report.has_truth:
        first = _first_of_each_class(report, by_confidence)[:MOST_WRONG]
        return [
            ("Least confident", by_confidence[::-1][:MOST_RIGHT]),
            (f"Most confident of each {report.groups[0]}", first),
        ]
    wrong = by_confidence[report.is_wrong[by_confidence]]
    right = by_confidence[(report.truth >= 0)[by_confidence] & ~report.is_wrong[by_confidence]]
    count = min(len(wrong), MOST_WRONG)
    return [
        (f"Wrong, most confident first ({count} of {len(wrong):,})", wrong[:MOST_WRONG]),
        ("Right, least confident first", right[::-1][:MOST_RIGHT]),
        ("Right, most confident of each class", _first_of_each_class(report, right)[:MOST_RIGHT]),
    ]


def _first_of_each_class(report: ReportInput, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    _, first = np.unique(report.predicted[rows], return_index=True)
    return rows[np.sort(first)]


def _render_card(report: ReportInput, row: int, box: NDArray[np.float32]) -> str:
    pictures = "".join(render_picture(render_slab(box, axis), f"{name} slab", name) for axis, name in _VIEWS)
    predicted, true = report.class_name(int(report.predicted[row])), report.class_name(int(report.truth[row]))
    verdict = "✗ " if report.is_wrong[row] else "✓ " if report.truth[row] >= 0 else ""
    truth = f"<dt>true</dt><dd>{escape(true)}</dd>" if report.has_truth else ""
    identifier, tomogram = escape(report.particles.particle_id[row]), escape(report.particles.tomogram[row])
    return (
        f'<div class="example{" wrong" if report.is_wrong[row] else ""}"><div class="views">{pictures}</div><dl>'
        f"<dt>predicted</dt><dd><b>{verdict}{escape(predicted)}</b></dd>{truth}"
        f"<dt>confidence</dt><dd>{report.confidence[row]:.2f}</dd></dl>"
        f'<p class="id" title="{identifier} in {tomogram}">{identifier}</p></div>'
    )


SECTION = Section("examples", "Particles", render, 90)
