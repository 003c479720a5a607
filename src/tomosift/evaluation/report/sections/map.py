"""Section: a map of the embeddings; pointing at a particle shows it."""

import json
from typing import Any

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray

from tomosift.evaluation.embedding_map import map_embeddings
from tomosift.evaluation.report.markup import encode_png_uri, escape, format_count, render_section
from tomosift.evaluation.report.pictures import render_thumbnails
from tomosift.evaluation.report.report_input import ReportInput
from tomosift.evaluation.report.section import Section

MAP_POINTS = 2000
"""Particles drawn in the map; more would only make the file large."""
_WIDTH, _HEIGHT, _MARGIN = 960, 600, 20
_FEW_POINTS, _LARGE_THUMBNAIL, _SMALL_THUMBNAIL = 1000, 48, 32
_SYMBOLS = (
    '<circle r="4"/>',
    '<path d="M-3.6-3.6h7.2v7.2h-7.2z"/>',
    '<path d="M0-4.8L4.6 3.6H-4.6z"/>',
    '<path d="M0-5.2L4.6 0 0 5.2-4.6 0z"/>',
    '<path d="M-1.5-4.6h3v3.1h3.1v3h-3.1v3.1h-3v-3.1h-3.1v-3h3.1z"/>',
    '<path d="M0 4.8L4.6-3.6H-4.6z"/>',
    '<path d="M-4.2-2.1L-2.1-4.2 0-2.1 2.1-4.2 4.2-2.1 2.1 0 4.2 2.1 2.1 4.2 0 2.1-2.1 4.2-4.2 2.1-2.1 0z"/>',
    '<path d="M-2.4-4.2h4.8L4.9 0 2.4 4.2h-4.8L-4.9 0z"/>',
)
"""Shapes beside the eight colors: with both, 64 classes differ, and color alone never distinguishes two."""


def render(report: ReportInput) -> str:
    """Return the section; empty without embeddings."""
    if report.embeddings is None:
        return ""
    n = len(report.particles)
    rows = np.sort(np.random.default_rng(report.seed).permutation(n)[:MAP_POINTS])
    plane, method = map_embeddings(report.embeddings[rows], report.seed)
    x = np.rint(_MARGIN + plane[:, 0] * (_WIDTH - 2 * _MARGIN)).astype(int)
    y = np.rint(_HEIGHT - _MARGIN - plane[:, 1] * (_HEIGHT - 2 * _MARGIN)).astype(int)
    data = _collect_data(report, rows, x, y)
    sprite = ""
    if report.volumes is not None:
        size = _LARGE_THUMBNAIL if len(rows) <= _FEW_POINTS else _SMALL_THUMBNAIL
        pictures = render_thumbnails(report.volumes, rows, size)
        columns = int(np.ceil(np.sqrt(len(rows))))
        data |= {"edge": int(pictures.shape[1]), "columns": columns}
        sprite = f' style="--sprite:url({encode_png_uri(_tile(pictures, columns))})"'
    body = (
        f'<div class="map"{sprite}>{_render_plot(report, rows, x, y)}</div>'
        f'<script type="application/json" id="map-data">{_to_safe_json(data)}</script>'
    )
    return render_section("map", "Map of embeddings", body, _describe(report, method))


def choose_symbol(label: int) -> tuple[int, int]:
    """Return (shape, color) of a class: every pair is used once before any is used again."""
    return (label + label // 8) % 8, label % 8


def _describe(report: ReportInput, method: str) -> str:
    n = len(report.particles)
    particles = f"{MAP_POINTS:,} of {n:,} particles, drawn at random" if n > MAP_POINTS else format_count(n, "particle")
    lead = f"{method} of the embeddings of {particles}. Neighbors are similar."
    lead += " Errors are outlined." if report.has_truth else ""
    return lead + (" Distances between groups and sizes of groups mean nothing." if method == "t-SNE" else "")


def _collect_data(
    report: ReportInput, rows: NDArray[np.int64], x: NDArray[np.int64], y: NDArray[np.int64]
) -> dict[str, Any]:
    return {
        "names": list(report.class_names),
        "x": x.tolist(),
        "y": y.tolist(),
        "predicted": report.predicted[rows].tolist(),
        "true": report.truth[rows].tolist(),
        "confidence": [round(float(value), 3) for value in report.confidence[rows]],
        "id": [str(value) for value in report.particles.particle_id[rows]],
        "tomogram": [str(value) for value in report.particles.tomogram[rows]],
    }


def _render_plot(report: ReportInput, rows: NDArray[np.int64], x: NDArray[np.int64], y: NDArray[np.int64]) -> str:
    points = "".join(
        _render_point(int(px), int(py), int(report.predicted[row]), bool(report.is_wrong[row]))
        for px, py, row in zip(x, y, rows, strict=True)
    )
    shapes = "".join(f'<g id="mark{k}">{shape}</g>' for k, shape in enumerate(_SYMBOLS))
    legend = "".join(_render_legend_entry(c, name) for c, name in enumerate(report.class_names))
    controls = ""
    if report.has_truth:
        controls = (
            '<div class="controls"><label><input type="checkbox" id="map-truth"> show true classes</label>'
            '<label><input type="checkbox" id="map-wrong"> only errors</label></div>'
        )
    return (
        f'{controls}<svg id="map-plot" viewBox="0 0 {_WIDTH} {_HEIGHT}" tabindex="0" role="group" '
        'aria-label="Map of embeddings. Arrow keys step from particle to particle.">'
        f'<defs>{shapes}</defs><g id="map-points">{points}</g><circle id="map-cursor" r="10" hidden="hidden"/></svg>'
        '<div id="map-detail" aria-live="polite"><p class="note">Point at a particle to see it; click to hold it.</p>'
        "</div>"
        f'<ul class="legend" id="map-legend" aria-label="Classes; press one to see it alone">{legend}</ul>'
    )


def _render_point(x: int, y: int, label: int, is_wrong: bool) -> str:
    shape, color = choose_symbol(label)
    return f'<use href="#mark{shape}" class="c{color}{" wrong" if is_wrong else ""}" x="{x}" y="{y}"/>'


def _render_legend_entry(label: int, name: str) -> str:
    shape, color = choose_symbol(label)
    icon = f'<svg viewBox="-6 -6 12 12" aria-hidden="true"><use href="#mark{shape}" class="c{color}"/></svg>'
    return f'<li><button type="button" aria-pressed="false" data-class="{label}">{icon}{escape(name)}</button></li>'


def _tile(pictures: UInt8[np.ndarray, "n e e"], columns: int) -> UInt8[np.ndarray, "h w"]:
    """Return one sheet of all thumbnails, row by row."""
    n, edge, _ = pictures.shape
    lines = -(-n // columns)
    sheet = np.zeros((lines * columns, edge, edge), dtype=np.uint8)
    sheet[:n] = pictures
    return sheet.reshape(lines, columns, edge, edge).swapaxes(1, 2).reshape(lines * edge, columns * edge)


def _to_safe_json(data: Any) -> str:
    """Return JSON that cannot end the script element around it."""
    text = json.dumps(data, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


SECTION = Section("map", "Map", render, 70)
