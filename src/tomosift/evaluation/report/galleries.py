"""The sections of a report that are made of pictures: the map of embeddings, averages, examples."""

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomosift.evaluation.embedding_map import map_embeddings
from tomosift.evaluation.report.markup import count, escape, png_uri, section
from tomosift.evaluation.report.pictures import (
    AVERAGED_PER_CLASS,
    DisplayedAverage,
    average_by_class,
    gray_levels,
    slab,
    slab_thickness,
    thumbnails,
    window,
)
from tomosift.evaluation.report.report_input import ReportInput

MAP_POINTS = 2000
"""Particles drawn in the map; more would only make the file large."""
WRONG_EXAMPLES = 16
RIGHT_EXAMPLES = 8
_VIEWS = ((0, "xy"), (1, "xz"), (2, "yz"))
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
"""Shapes beside the eight colors: with both, 64 classes differ, and colors alone never decide."""


def mark(label: int) -> tuple[int, int]:
    """(shape, color) of a class: every pair is used once before any comes back."""
    return (label + label // 8) % 8, label % 8


def map_section(report: ReportInput) -> str:
    """Embeddings in the plane; hovering shows the particle."""
    if report.embeddings is None:
        return ""
    n = len(report.particles)
    rows = np.sort(np.random.default_rng(report.seed).permutation(n)[:MAP_POINTS])
    plane, method = map_embeddings(report.embeddings[rows], report.seed)
    x, y = np.rint(20 + plane[:, 0] * 920), np.rint(580 - plane[:, 1] * 560)
    points = "".join(
        _point(int(px), int(py), int(report.predicted[row]), bool(report.wrong[row]))
        for px, py, row in zip(x, y, rows, strict=True)
    )
    shapes = "".join(f'<g id="mark{k}">{shape}</g>' for k, shape in enumerate(_SYMBOLS))
    data: dict[str, Any] = {
        "names": list(report.class_names),
        "x": x.astype(int).tolist(),
        "y": y.astype(int).tolist(),
        "predicted": report.predicted[rows].tolist(),
        "true": report.truth[rows].tolist(),
        "confidence": [round(float(value), 3) for value in report.confidence[rows]],
        "id": [str(value) for value in report.particles.particle_id[rows]],
        "tomogram": [str(value) for value in report.particles.tomogram[rows]],
    }
    sprite = ""
    if report.volumes is not None:
        pictures = thumbnails(report.volumes, rows, 48 if len(rows) <= 1000 else 32)
        columns = int(np.ceil(np.sqrt(len(rows))))
        data |= {"edge": int(pictures.shape[1]), "columns": columns}
        sprite = f' style="--sprite:url({png_uri(_sheet(pictures, columns))})"'
    legend = "".join(_legend_entry(c, name) for c, name in enumerate(report.class_names))
    controls = outlined = ""
    if report.has_truth:
        outlined = " Mistakes are outlined."
        controls = (
            '<div class="controls"><label><input type="checkbox" id="map-truth"> show true classes</label>'
            '<label><input type="checkbox" id="map-wrong"> only mistakes</label></div>'
        )
    body = (
        f'<div class="map"{sprite}>{controls}'
        '<svg id="map-plot" viewBox="0 0 960 600" tabindex="0" role="group" aria-label="Map of embeddings. Arrow keys '
        f'step from particle to particle."><defs>{shapes}</defs><g id="map-points">{points}</g>'
        '<circle id="map-cursor" r="10" hidden="hidden"/></svg>'
        '<div id="map-detail" aria-live="polite"><p class="note">Point at a particle to see it; click to hold it.</p>'
        "</div>"
        f'<ul class="legend" id="map-legend" aria-label="Classes; press one to see it alone">{legend}</ul></div>'
        f'<script type="application/json" id="map-data">{_safe_json(data)}</script>'
    )
    drawn = f"{MAP_POINTS:,} of {n:,} particles, drawn at random" if n > MAP_POINTS else count(n, "particle")
    lead = f"{method} of what the network sees in {drawn}. Near means alike.{outlined}"
    if method == "t-SNE":
        lead += " Distances between groups and their sizes mean nothing."
    return section("map", "Map of embeddings", body, lead)


def averages_section(report: ReportInput) -> str:
    """Central slices of the average of each class."""
    if report.volumes is None:
        return ""
    labelings = [report.predicted, report.truth] if report.has_truth else [report.predicted]
    averages = average_by_class(report.volumes, labelings, report.pose, len(report.class_names), report.seed)
    cards = ""
    for c, name in enumerate(report.class_names):
        kinds = ["called", "true"][: len(averages)]
        rows = "".join(_average_row(kind, one[c]) for kind, one in zip(kinds, averages, strict=True))
        if report.averages is not None and report.averages[c].any():
            rows += _views("compared with", report.averages[c])
        cards += f'<div class="average"><h3>{escape(name)}</h3>{rows}</div>'
    spacing = report.voxel_spacing_angstrom
    size = next((one.density.shape[0] for kind in averages for one in kind if one is not None), 0)
    scale = f" A picture is {size * spacing / 10:.0f} nm wide." if spacing else ""
    lead = (
        "Central slices, dense is bright. <b>Aligned</b>: each particle was turned back by its known pose first, "
        "where at least half have one; otherwise particles are averaged as they lie. At most "
        f"{AVERAGED_PER_CLASS} particles each, a plain mean: the missing wedge is not compensated.{scale}"
    )
    if report.averages is not None:
        lead += (
            " <b>Compared with</b>: what the model found by turning the surest particles of a class onto each other, "
            "cut out along its outline; it told classes apart with these."
        )
    return section(
        "averages", f"{report.groups[0].capitalize()} averages", f'<div class="gallery wide">{cards}</div>', lead
    )


def examples_section(report: ReportInput) -> str:
    """Single particles: the most confident mistakes first."""
    if report.volumes is None:
        return ""
    groups: list[tuple[str, NDArray[np.int64]]] = []
    by_confidence = np.argsort(-report.confidence, kind="stable")
    if report.has_truth:
        wrong = by_confidence[report.wrong[by_confidence]]
        right = by_confidence[(report.truth >= 0)[by_confidence] & ~report.wrong[by_confidence]]
        shown = min(len(wrong), WRONG_EXAMPLES)
        groups.append((f"Wrong, most confident first ({shown} of {len(wrong):,})", wrong[:WRONG_EXAMPLES]))
        groups.append(("Right, least confident first", right[::-1][:RIGHT_EXAMPLES]))
        groups.append(("Right, most confident of each class", _first_of_each(report, right)[:RIGHT_EXAMPLES]))
    else:
        groups.append(("Least confident", by_confidence[::-1][:RIGHT_EXAMPLES]))
        groups.append(
            (f"Most confident of each {report.groups[0]}", _first_of_each(report, by_confidence)[:WRONG_EXAMPLES])
        )
    body, box_size = "", 0
    for title, rows in groups:
        if len(rows):
            boxes = report.volumes(np.ascontiguousarray(rows))
            box_size = boxes.shape[1]
            cards = "".join(_example(report, int(row), box) for row, box in zip(rows, boxes, strict=True))
            body += f'<h3>{escape(title)}</h3><div class="gallery">{cards}</div>'
    slices = count(slab_thickness(box_size), "central slice")
    lead = f"Mean of the {slices}, seen along z (xy) and y (xz); dense is bright."
    return section("examples", "Single particles", body, lead)


def _point(x: int, y: int, label: int, wrong: bool) -> str:
    shape, color = mark(label)
    return f'<use href="#mark{shape}" class="c{color}{" wrong" if wrong else ""}" x="{x}" y="{y}"/>'


def _legend_entry(label: int, name: str) -> str:
    shape, color = mark(label)
    icon = f'<svg viewBox="-6 -6 12 12" aria-hidden="true"><use href="#mark{shape}" class="c{color}"/></svg>'
    return f'<li><button type="button" aria-pressed="false" data-class="{label}">{icon}{escape(name)}</button></li>'


def _sheet(pictures: NDArray[np.uint8], columns: int) -> NDArray[np.uint8]:
    n, edge, _ = pictures.shape
    lines = -(-n // columns)
    sheet = np.zeros((lines * columns, edge, edge), dtype=np.uint8)
    sheet[:n] = pictures
    return sheet.reshape(lines, columns, edge, edge).swapaxes(1, 2).reshape(lines * edge, columns * edge)


def _safe_json(data: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(data, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _picture(image: NDArray[Any], limits: tuple[float, float], description: str, caption: str) -> str:
    uri = png_uri(gray_levels(image, *limits))
    return f'<figure><img src="{uri}" alt="{escape(description)}"><figcaption>{caption}</figcaption></figure>'


def _average_row(kind: str, average: DisplayedAverage | None) -> str:
    if average is None:
        return f'<p class="kind">{kind}: no particle</p>'
    how = "aligned" if average.aligned else "not aligned"
    return _views(f"{kind}: mean of {average.count:,} of {average.members:,}, <b>{how}</b>", average.density)


def _views(heading: str, density: NDArray[Any]) -> str:
    views = [slab(density[None], axis, 1)[0] for axis, _ in _VIEWS]
    limits = window(np.stack(views))
    pictures = "".join(
        _picture(view, limits, f"central {name} slice", name) for view, (_, name) in zip(views, _VIEWS, strict=True)
    )
    return f'<p class="kind">{heading}</p><div class="views">{pictures}</div>'


def _example(report: ReportInput, row: int, box: NDArray[np.float32]) -> str:
    thickness = slab_thickness(box.shape[0])
    pictures = "".join(
        _picture(image, window(image), f"{name} slab", name)
        for axis, name in _VIEWS[:2]
        for image in slab(box[None], axis, thickness)
    )
    predicted, true = report.class_name(int(report.predicted[row])), report.class_name(int(report.truth[row]))
    verdict = "✗ " if report.wrong[row] else "✓ " if report.truth[row] >= 0 else ""
    truth = f"<dt>true</dt><dd>{escape(true)}</dd>" if report.has_truth else ""
    identifier, tomogram = escape(report.particles.particle_id[row]), escape(report.particles.tomogram[row])
    return (
        f'<div class="example{" wrong" if report.wrong[row] else ""}"><div class="views">{pictures}</div><dl>'
        f"<dt>called</dt><dd><b>{verdict}{escape(predicted)}</b></dd>{truth}"
        f"<dt>confidence</dt><dd>{report.confidence[row]:.2f}</dd></dl>"
        f'<p class="id" title="{identifier} in {tomogram}">{identifier}</p></div>'
    )


def _first_of_each(report: ReportInput, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    _, first = np.unique(report.predicted[rows], return_index=True)
    return rows[np.sort(first)]
