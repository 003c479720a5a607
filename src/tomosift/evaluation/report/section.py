"""A section of a report: a title and a function that renders it."""

from collections.abc import Callable
from dataclasses import dataclass

from tomosift.evaluation.report.report_input import ReportInput


@dataclass(frozen=True)
class Section:
    """A section of a report; each module of `tomosift.evaluation.report.sections` defines one as ``SECTION``.

    Parameters
    ----------
    id
        Anchor of the section in the page.
    title
        Entry in the navigation.
    render
        Return the section as HTML, or an empty string when the report lacks its input.
    order
        Position in the report, ascending.
    """

    id: str
    title: str
    render: Callable[[ReportInput], str]
    order: int
