"""Section: notes, and everything that is needed to repeat the run."""

import json
from collections.abc import Mapping

from tomosift.evaluation.report.markup import escape, render_section
from tomosift.evaluation.report.report_input import ReportInput
from tomosift.evaluation.report.section import Section

_MOST_LINES = 40
"""Lines of a nested value that are shown unfolded."""


def render(report: ReportInput) -> str:
    """Return the section."""
    body = ""
    if report.notes:
        body += f'<h3>Notes</h3><ul class="notes">{"".join(f"<li>{escape(note)}</li>" for note in report.notes)}</ul>'
    items = "".join(
        f"<dt>{escape(name)}</dt><dd>{_render_value(value)}</dd>" for name, value in report.provenance.items()
    )
    body += f'<dl class="provenance">{items}</dl>' if items else "<p>Nothing was recorded.</p>"
    return render_section("provenance", "Provenance", body)


def _render_value(value: object) -> str:
    if not isinstance(value, Mapping | list | tuple):
        return f"<code>{escape(value)}</code>"
    text = json.dumps(value, indent=2, default=_to_plain, ensure_ascii=False)
    lines, block = text.count("\n") + 1, f"<pre>{escape(text)}</pre>"
    return block if lines <= _MOST_LINES else f"<details><summary>{lines} lines</summary>{block}</details>"


def _to_plain(value: object) -> object:
    return dict(value) if isinstance(value, Mapping) else str(value)


SECTION = Section("provenance", "Provenance", render, 110)
