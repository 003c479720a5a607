"""Section: the confusion matrix as a table, and the most frequent errors in words."""

import numpy as np
from jaxtyping import Int

from tomosift.evaluation.report.markup import escape, render_section
from tomosift.evaluation.report.report_input import ReportInput
from tomosift.evaluation.report.section import Section

MOST_CLASSES = 60
"""Classes of a confusion matrix that is printed; for more, only the most frequent errors are."""
_ERRORS = 5
_DENSE = 14
"""Classes above which the cells of the matrix are small."""


def render(report: ReportInput) -> str:
    """Return the section; empty where no true class is known."""
    if report.scores is None:
        return ""
    matrix, names = report.scores.confusion, report.class_names
    body = _render_errors(matrix, names)
    if len(names) > MOST_CLASSES:
        body = f"<p>The matrix of {len(names)} classes is too large to print here.</p>{body}"
    else:
        body = _render_matrix(matrix, names) + body
    lead = "Each cell: share of the true class, and below it the number of particles. Correct predictions are framed."
    return render_section("confusion", "Confusion matrix", body, lead)


def _render_errors(matrix: Int[np.ndarray, "k k"], names: tuple[str, ...]) -> str:
    errors = matrix - np.diag(np.diag(matrix))
    order = [int(cell) for cell in np.argsort(-errors, axis=None, kind="stable")[:_ERRORS]]
    items = "".join(
        f"<li><b>{escape(names[cell // len(names)])}</b> predicted as <b>{escape(names[cell % len(names)])}</b>: "
        f"{errors.flat[cell]} of {matrix[cell // len(names)].sum()}</li>"
        for cell in order
        if errors.flat[cell] > 0
    )
    return f"<h3>Most frequent errors</h3><ol>{items}</ol>" if items else "<p>Every prediction is correct.</p>"


def _render_matrix(matrix: Int[np.ndarray, "k k"], names: tuple[str, ...]) -> str:
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    rows = []
    for t, name in enumerate(names):
        total = int(matrix[t].sum())
        cells = "".join(
            _render_cell(int(matrix[t, p]), float(share[t, p]), t == p, f"{name} predicted as {names[p]}")
            if total
            else '<td class="none">–</td>'
            for p in range(len(names))
        )
        rows.append(f'<tr><th scope="row">{escape(name)}</th>{cells}<td class="total">{total}</td></tr>')
    head = "".join(f'<th scope="col"><span>{escape(name)}</span></th>' for name in names)
    head += '<th scope="col" class="total"><span>particles</span></th>'
    size = " dense" if len(names) > _DENSE else ""
    return (
        '<div class="scroll" tabindex="0" role="group" aria-label="Confusion matrix">'
        f'<table class="confusion{size}"><caption>Rows: true class. Columns: predicted class.</caption>'
        f'<thead><tr><th scope="col" class="corner">true ↓ &nbsp; predicted →</th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _render_cell(count: int, share: float, is_right: bool, meaning: str) -> str:
    classes = [*(["right"] if is_right else []), *(["deep"] if share > 0.5 else []), *(["zero"] if not count else [])]
    text = f"{share:.2f}<small>{count}</small>" if count else "·"
    return (
        f'<td class="{" ".join(classes)}" style="--v:{share:.3f}" title="{escape(f"{meaning}: {count}")}">{text}</td>'
    )


SECTION = Section("confusion", "Confusion", render, 20)
