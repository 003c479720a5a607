"""Section: number of particles of each predicted class, over all and per tomogram."""

import numpy as np

from tomosift.evaluation.report.markup import escape, format_count, format_number, render_section, render_table
from tomosift.evaluation.report.report_input import ReportInput
from tomosift.evaluation.report.section import Section

MOST_TOMOGRAMS = 40
"""Rows of the table of tomograms."""


def render(report: ReportInput) -> str:
    """Return the section."""
    title = f"Predicted {report.groups[1]}"
    return render_section("counts", title, _render_classes(report, title) + _render_tomograms(report))


def _render_classes(report: ReportInput, caption: str) -> str:
    k, predicted, n = len(report.class_names), report.predicted, len(report.particles)
    counts = np.bincount(predicted, minlength=k)
    header = [report.groups[0].capitalize(), "Predicted", "Share", "Mean confidence"]
    header += ["Of these unknown"] if report.is_unknown is not None else []
    header += ["True"] if report.has_truth else []
    rows = []
    for c, name in enumerate(report.class_names):
        is_member = predicted == c
        share = counts[c] / n
        bar = f'<span class="share" aria-hidden="true"><i style="width:{share * 100:.1f}%"></i></span>'
        mean = format_number(float(report.confidence[is_member].mean())) if counts[c] else "–"
        row = [escape(name), f"{counts[c]:,}", f"{bar}{share:.1%}", mean]
        row += [str(int(report.is_unknown[is_member].sum()))] if report.is_unknown is not None else []
        row += [str(int((report.truth == c).sum()))] if report.has_truth else []
        rows.append(row)
    return render_table(caption, header, rows, "counts")


def _render_tomograms(report: ReportInput) -> str:
    names, group = np.unique(report.particles.tomogram.astype(str), return_inverse=True)
    k = len(report.class_names)
    counts = np.bincount(group * k + report.predicted, minlength=len(names) * k).reshape(len(names), k)
    known = np.bincount(group, report.truth >= 0, len(names))
    right = known - np.bincount(group, report.is_wrong, len(names))
    rows = []
    for t, name in enumerate(names[:MOST_TOMOGRAMS]):
        accuracy = [format_number(right[t] / known[t]) if known[t] else "–"] if report.has_truth else []
        rows.append([escape(name), *accuracy, str(counts[t].sum()), *(str(value) for value in counts[t])])
    columns = [*(["accuracy"] if report.has_truth else []), "all", *report.class_names]
    header = ["Tomogram", *(f"<span>{escape(name)}</span>" for name in columns)]
    table = render_table("Predicted particles per tomogram", header, rows, "upright")
    left = len(names) - MOST_TOMOGRAMS
    rest = f'<p class="note">{format_count(left, "more tomogram")} not shown.</p>' if left > 0 else ""
    return f"<h3>Per tomogram</h3>{table}{rest}"


SECTION = Section("counts", "Counts", render, 100)
