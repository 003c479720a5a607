"""One self-contained HTML file that shows how a classification went.

It opens without a network, follows light and dark, prints, and needs no script except for pointing at the map.
"""

from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path

import numpy as np

from tomosift.evaluation.metrics.classification import calibration, score, selective
from tomosift.evaluation.report.galleries import averages_section, examples_section, map_section
from tomosift.evaluation.report.markup import escape
from tomosift.evaluation.report.report_input import Comparison, ReportInput
from tomosift.evaluation.report.sections import (
    basis,
    classes_section,
    comparison_table,
    confusion_section,
    counts_section,
    headline,
    key_figures,
    provenance_section,
    trust_section,
)
from tomosift.evaluation.report.support_section import SupportExamples, support_section
from tomosift.files import written_then_renamed

__all__ = ["Comparison", "ReportInput", "page", "render_report", "write_report"]

_NAVIGATION = {
    "clusters": "Clusters",
    "confusion": "Confusion",
    "classes": "Classes",
    "trust": "Trust",
    "domains": "Domains",
    "support": "Examples",
    "map": "Map",
    "averages": "Averages",
    "examples": "Particles",
    "counts": "Counts",
    "provenance": "Provenance",
}


def write_report(
    path: Path, report: ReportInput, support: SupportExamples | None = None, clusters: str = "", domains: str = ""
) -> None:
    """Write the report to ``path``; the file is complete or absent."""
    text = render_report(report, support, clusters, domains)
    with written_then_renamed(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def render_report(
    report: ReportInput, support: SupportExamples | None = None, clusters: str = "", domains: str = ""
) -> str:
    """The report as HTML text. Parts whose input is missing are left out: truth, embeddings, volumes, examples.

    ``clusters`` is the section of that name, where the classes are clusters; ``domains`` that of two domains, where the
    labels are of another one.
    """
    scores = reliability = None
    sections: dict[str, str] = {"clusters": clusters}
    hint = '<p class="basis">No true classes were given, so nothing here says how many calls are right.</p>'
    hint = "" if clusters else hint
    compared = ""
    if report.has_truth:
        tomogram = report.particles.tomogram
        scores = score(report.truth, report.predicted, report.class_names, tomogram, seed=report.seed)
        reliability = calibration(report.probabilities, report.truth)
        hint = f'<p class="basis">{escape(basis(scores))}</p>'
        compared = comparison_table(report, scores)
        sections["confusion"] = confusion_section(report, scores)
        sections["classes"] = classes_section(scores)
        sections["trust"] = trust_section(report, reliability, selective(report.probabilities, report.truth))
    sections["domains"] = domains
    sections["support"] = "" if support is None else support_section(report, support)
    sections["map"] = map_section(report)
    sections["averages"] = averages_section(report)
    sections["examples"] = examples_section(report)
    sections["counts"] = counts_section(report)
    sections["provenance"] = provenance_section(report.provenance, report.notes)
    links = "".join(f'<a href="#{name}">{_NAVIGATION[name]}</a>' for name, body in sections.items() if body)
    tomograms = np.unique(report.particles.tomogram.astype(str))
    shown = ", ".join(tomograms[:4]) + (f" and {len(tomograms) - 4} more" if len(tomograms) > 4 else "")
    header = (
        f'<p class="headline">{escape(headline(report, scores))}</p>{key_figures(report, scores, reliability)}{hint}'
        f'{compared}<p class="basis">Tomograms: {escape(shown)}</p>'
    )
    return page(report.title, header, f'<nav aria-label="Sections">{links}</nav>', sections.values(), "map.js")


def page(title: str, header: str, navigation: str, sections: Iterable[str], script: str | None = None) -> str:
    """A whole page around ready HTML: title, style, header, navigation, sections and a script of this package."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        # Nothing may be loaded from anywhere, whatever a name in the data looks like.
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{_page_file('colors.css')}{_page_file('style.css')}</style></head><body>"
        f'<header><p class="kicker">tomosift report</p><h1>{escape(title)}</h1>{header}</header>'
        f"{navigation}<main>{''.join(sections)}</main>"
        f"{f'<script>{_page_file(script)}</script>' if script else ''}</body></html>\n"
    )


def _page_file(name: str) -> str:
    return (files("tomosift.evaluation.report") / "page" / name).read_text(encoding="utf-8")
