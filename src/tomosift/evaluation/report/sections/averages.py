"""Section: central slices of the average of each class."""

import numpy as np
from numpy.typing import NDArray

from tomosift.evaluation.report.markup import escape, render_picture, render_section
from tomosift.evaluation.report.pictures import (
    MOST_AVERAGED,
    DisplayedAverage,
    average_by_class,
    choose_gray_range,
    project_slab,
    to_gray_levels,
)
from tomosift.evaluation.report.report_input import ReportInput
from tomosift.evaluation.report.section import Section

_VIEWS = ((0, "xy"), (1, "xz"), (2, "yz"))


def render(report: ReportInput) -> str:
    """Return the section; empty without volumes."""
    if report.volumes is None:
        return ""
    labelings = [report.predicted, report.truth] if report.has_truth else [report.predicted]
    averages = average_by_class(report.volumes, labelings, report.orientations, len(report.class_names), report.seed)
    cards = ""
    for c, name in enumerate(report.class_names):
        kinds = ["predicted", "true"][: len(averages)]
        rows = "".join(_render_average(kind, one[c]) for kind, one in zip(kinds, averages, strict=True))
        if report.class_averages is not None and report.class_averages[c].any():
            rows += _render_views("compared with", report.class_averages[c])
        cards += f'<div class="average"><h3>{escape(name)}</h3>{rows}</div>'
    size = next((one.density.shape[0] for kind in averages for one in kind if one is not None), 0)
    title = f"{report.groups[0].capitalize()} averages"
    return render_section("averages", title, f'<div class="gallery wide">{cards}</div>', _describe(report, size))


def _describe(report: ReportInput, box_size: int) -> str:
    spacing = report.voxel_spacing_angstrom
    scale = f" A picture is {box_size * spacing / 10:.0f} nm wide." if spacing else ""
    lead = (
        "Central slices; high density is bright. <b>Aligned</b>: the known orientation of each particle was undone "
        "first, where at least half of them have one. Otherwise particles are averaged without alignment. At most "
        f"{MOST_AVERAGED} particles each, a plain mean: the missing wedge is not compensated.{scale}"
    )
    if report.class_averages is not None:
        lead += (
            " <b>Compared with</b>: the class average of the model, from the aligned most confident particles of the "
            "class, within its mask. The model compares every particle with it."
        )
    return lead


def _render_average(kind: str, average: DisplayedAverage | None) -> str:
    if average is None:
        return f'<p class="kind">{kind}: no particle</p>'
    how = "aligned" if average.is_aligned else "not aligned"
    heading = f"{kind}: mean of {average.count:,} of {average.members:,}, <b>{how}</b>"
    return _render_views(heading, average.density)


def _render_views(heading: str, density: NDArray[np.floating]) -> str:
    views = [project_slab(density[None], axis, 1)[0] for axis, _ in _VIEWS]
    limits = choose_gray_range(np.stack(views))
    pictures = "".join(
        render_picture(to_gray_levels(view, *limits), f"central {name} slice", name)
        for view, (_, name) in zip(views, _VIEWS, strict=True)
    )
    return f'<p class="kind">{heading}</p><div class="views">{pictures}</div>'


SECTION = Section("averages", "Averages", render, 80)
