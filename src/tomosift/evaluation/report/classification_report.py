"""The report on a classification: header and sections."""

from pathlib import Path

from tomosift.evaluation.report.header import render_header
from tomosift.evaluation.report.layout import render_page, write_page
from tomosift.evaluation.report.report_input import ReportInput
from tomosift.evaluation.report.sections import load_sections


def write_report(path: Path, report: ReportInput) -> None:
    """Write the report to an HTML file, which is complete or absent.

    Parameters
    ----------
    path
        HTML file to write; it needs nothing else to be opened.
    report
        Predictions, and whatever else is known about the particles.
    """
    write_page(path, render_report(report))


def render_report(report: ReportInput) -> str:
    """Return the report as HTML; sections whose input is missing are left out.

    Examples
    --------
    >>> import numpy as np
    >>> from tomosift.evaluation.report import ReportInput
    >>> from tomosift.particles import Particles
    >>> particles = Particles.create(["TS_01", "TS_01"], np.zeros((2, 3)))
    >>> probabilities = np.array([[0.9, 0.1], [0.2, 0.8]])
    >>> page = render_report(ReportInput("Two particles", particles, probabilities, ("ribosome", "proteasome")))
    >>> "2 particles from 1 tomogram sorted into 2 classes" in page
    True
    """
    sections = [(section.id, section.title, section.render(report)) for section in load_sections()]
    return render_page(report.title, render_header(report), sections, "map.js")
