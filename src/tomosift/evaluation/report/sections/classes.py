"""Section: precision, recall and F1 of each class."""

from tomosift.evaluation.report.header import describe_intervals
from tomosift.evaluation.report.markup import escape, format_interval, render_section, render_table, render_track
from tomosift.evaluation.report.report_input import ReportInput
from tomosift.evaluation.report.section import Section


def render(report: ReportInput) -> str:
    """Return the section; empty where no true class is known."""
    scores = report.scores
    if scores is None:
        return ""
    rows = [
        [
            escape(one.name),
            *(f"{render_track(score)}{format_interval(score)}" for score in (one.precision, one.recall, one.f1)),
            str(one.count),
            str(one.predicted_count),
        ]
        for one in scores.classes
    ]
    header = ["Class", "Precision", "Recall", "F1", "True", "Predicted"]
    body = render_table("Scores per class with 95 % intervals", header, rows, "scores")
    absent = [one.name for one in scores.classes if one.count == 0]
    if absent:
        body += f'<p class="note">No test particle: {escape(", ".join(absent))}. Recall is not defined there.</p>'
    lead = (
        "Precision: share of the particles predicted as a class that belong to it. Recall: share of the particles of a "
        f"class that are predicted as it. {escape(describe_intervals(scores))}"
    )
    return render_section("classes", "Scores per class", body, lead)


SECTION = Section("classes", "Classes", render, 30)
