"""Section: calibration of the confidence, and the accuracy above a threshold on it."""

from tomosift.evaluation.metrics.calibration import SelectiveAccuracy
from tomosift.evaluation.report.figures import draw_coverage, draw_reliability
from tomosift.evaluation.report.markup import render_section, render_table
from tomosift.evaluation.report.report_input import ReportInput
from tomosift.evaluation.report.section import Section

_GOALS = (0.90, 0.95, 0.99)
"""Accuracies for which a threshold is given."""


def render(report: ReportInput) -> str:
    """Return the section; empty where no true class is known."""
    calibration, selective = report.calibration, report.selective_accuracy
    if calibration is None or selective is None:
        return ""
    body = (
        '<div class="pair"><figure>'
        f"{draw_reliability(calibration)}<figcaption>Calibration. On the dashed line, of the predictions with "
        f"confidence 0.8, 8 of 10 are correct. Mean difference: <b>{calibration.expected_error:.3f}</b>. Bars: Wilson "
        "95 %.</figcaption></figure><figure>"
        f"{draw_coverage(selective, report.min_confidence)}<figcaption>Accuracy of the other particles when the least "
        "confident ones are classified as unknown.</figcaption></figure></div>"
        f'{_render_goals(selective)}<p class="note">The thresholds were chosen on these same particles; expect a lower '
        "accuracy on others.</p>"
    )
    return render_section("calibration", "Calibration", body)


def _render_goals(selective: SelectiveAccuracy) -> str:
    rows = []
    for goal in _GOALS:
        threshold = selective.threshold_for(goal)
        if threshold is None:
            rows.append([f"{goal:.2f}", "not reached", "–"])
        else:
            rows.append([f"{goal:.2f}", f"{threshold[0]:.3f}", f"{threshold[1]:.0%}"])
    return render_table("Threshold for a given accuracy", ["Accuracy", "Confidence at least", "Kept"], rows)


SECTION = Section("calibration", "Calibration", render, 40)
