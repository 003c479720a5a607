"""The page around the sections: head, style, header, navigation and script."""

import json
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from tomosift.evaluation.report.markup import escape, render_section
from tomosift.files import written_then_renamed


def render_page(title: str, header: str, sections: Iterable[tuple[str, str, str]], script: str | None = None) -> str:
    """Return a whole page.

    Parameters
    ----------
    title
        Plain text, escaped here.
    header
        HTML below the title.
    sections
        Id, entry in the navigation (plain text) and HTML of each section. Sections without HTML are left out.
    script
        File name of a script in the folder ``page`` of this package.
    """
    present = [(identifier, name, html) for identifier, name, html in sections if html]
    links = "".join(f'<a href="#{identifier}">{escape(name)}</a>' for identifier, name, _ in present)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        # The page loads nothing from anywhere, whatever names from the data contain.
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{_read_asset('colors.css')}{_read_asset('style.css')}</style></head>"
        f'<body><header><p class="kicker">tomosift report</p><h1>{escape(title)}</h1>{header}</header>'
        f'<nav aria-label="Sections">{links}</nav><main>{"".join(html for _, _, html in present)}</main>'
        f"{f'<script>{_read_asset(script)}</script>' if script else ''}</body></html>\n"
    )


def write_page(path: Path, text: str) -> None:
    """Write a page to ``path``; the file is complete or absent."""
    with written_then_renamed(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def provenance_json(provenance: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return a section of `render_page` that shows the provenance as JSON."""
    text = json.dumps(dict(provenance), indent=2, default=str)
    return "provenance", "Provenance", render_section("provenance", "Provenance", f"<pre>{escape(text)}</pre>")


def _read_asset(name: str) -> str:
    return (files("tomosift.evaluation.report") / "page" / name).read_text(encoding="utf-8")
