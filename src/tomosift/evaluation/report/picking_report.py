"""One self-contained HTML file on a scan: what was found, where, and what it looks like."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tomosift.data.extraction.crop import crop_block
from tomosift.data.extraction.tomograms import Tomogram
from tomosift.data.set_reader import normalized
from tomosift.evaluation.report import page
from tomosift.evaluation.report.figures import STYLE, svg
from tomosift.evaluation.report.markup import count, escape, png_uri, section, table
from tomosift.evaluation.report.pictures import gray_levels, slab, slab_thickness, window
from tomosift.files import written_then_renamed
from tomosift.particles import Particles

_TOMOGRAMS = 6
"""Pictures of whole tomograms."""
_SHOWN = 6
"""Particles of each class, from the surest and from the least sure."""
_AVERAGED = 60
_BOX_ANGSTROM = 320.0
_THICKNESS_ANGSTROM = 60.0
_LARGEST_EDGE = 700


def write_scan_report(
    path: Path,
    particles: Particles,
    tomograms: Mapping[str, Tomogram],
    class_names: Sequence[str],
    provenance: Mapping[str, Any],
) -> None:
    """Write the report to ``path``; the file is complete or absent."""
    parts = {
        "classes": ("Classes", _classes(particles, tomograms, class_names)),
        "tomograms": ("Tomograms", _pictures(particles, tomograms, class_names)),
        "probabilities": ("Probabilities", _probabilities(particles, class_names)),
        "provenance": ("Provenance", f"<pre>{escape(json.dumps(dict(provenance), indent=2, default=str))}</pre>"),
    }
    header = (
        f'<p class="headline">{count(len(particles), "particle")} in {count(len(tomograms), "tomogram")}</p>'
        '<p class="basis">Found without picks by a detector that looked at every place. A probability is what the '
        "detector says; how many of its particles are right only labels can tell: look at the least sure ones of each "
        "class first.</p>"
    )
    links = "".join(f'<a href="#{name}">{shown}</a>' for name, (shown, _) in parts.items())
    sections = [section(name, shown, body) for name, (shown, body) in parts.items()]
    text = page("Particles found", header, f'<nav aria-label="Sections">{links}</nav>', sections)
    with written_then_renamed(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _classes(particles: Particles, tomograms: Mapping[str, Tomogram], names: Sequence[str]) -> str:
    cards = []
    for name in names:
        rows = np.flatnonzero(particles.class_name == name)
        rows = rows[np.argsort(-particles.score[rows], kind="stable")]
        if not len(rows):
            cards.append(f"<h3>{escape(name)}</h3><p>None was found.</p>")
            continue
        rest = rows[_SHOWN:]
        average = _boxes(particles, rows[:_AVERAGED], tomograms).mean(axis=0, keepdims=True)
        groups = {
            f"Mean of the {min(len(rows), _AVERAGED)} surest as they lie, and the surest": np.concatenate(
                [average, _boxes(particles, rows[: _SHOWN - 1], tomograms)]
            ),
            "The least sure": _boxes(particles, rest[-_SHOWN:], tomograms) if len(rest) else average[:0],
        }
        pictures = "".join(
            f'<p class="basis">{escape(what)}</p><div class="views">{_row(boxes, name)}</div>'
            for what, boxes in groups.items()
            if len(boxes)
        )
        cards.append(f"<h3>{escape(name)}: {count(len(rows), 'particle')}</h3>{pictures}")
    return "".join(cards)


def _boxes(particles: Particles, rows: NDArray[np.int64], tomograms: Mapping[str, Tomogram]) -> NDArray[np.float32]:
    """Boxes about particles, at the voxel spacing of their tomogram, each of mean 0 and variance 1."""
    boxes = []
    for row in rows:
        tomogram = tomograms[str(particles.tomogram[row])]
        spacing = tomogram.grid.voxel_spacing_angstrom
        box = tomogram.crop(np.rint(particles.position_zyx_angstrom[row] / spacing), round(_BOX_ANGSTROM / spacing))
        boxes.append(normalized(box))
    edges = {len(box) for box in boxes}
    if len(edges) > 1:  # tomograms of several spacings: what the smallest shows
        least = min(edges)
        boxes = [box[tuple(slice((len(box) - least) // 2, (len(box) + least) // 2) for _ in range(3))] for box in boxes]
    return np.array(boxes, dtype=np.float32)


def _row(boxes: NDArray[np.float32], name: str) -> str:
    images = slab(boxes, 0, slab_thickness(boxes.shape[-1]))
    return "".join(
        f'<figure><img src="{png_uri(gray_levels(image, *window(image)))}" alt="{escape(name)}, central xy slab">'
        "</figure>"
        for image in images
    )


def _pictures(particles: Particles, tomograms: Mapping[str, Tomogram], names: Sequence[str]) -> str:
    """A central slab of some tomograms with a ring about each particle in it."""
    colors = _colors(len(names))
    legend = "".join(
        f'<span style="white-space:nowrap"><svg width="14" height="14" aria-hidden="true"><circle cx="7" cy="7" r="5" '
        f'fill="none" stroke="{color}" stroke-width="2.5"/></svg> {escape(name)}</span> '
        for name, color in zip(names, colors, strict=True)
    )
    figures = []
    for name, tomogram in list(tomograms.items())[:_TOMOGRAMS]:
        spacing, shape = tomogram.grid.voxel_spacing_angstrom, tomogram.grid.shape_zyx
        thickness = min(shape[0], max(1, round(_THICKNESS_ANGSTROM / spacing)))
        low = (shape[0] - thickness) // 2
        block = crop_block(tomogram.open().data, np.array([low, 0, 0], dtype=float), (thickness, *shape[1:])).volume
        factor = -(-max(shape[1:]) // _LARGEST_EDGE)
        height, width = (edge // factor for edge in shape[1:])
        flat = block.mean(axis=0)[: height * factor, : width * factor]
        image = flat.reshape(height, factor, width, factor).mean(axis=(1, 3)) * (-1 if tomogram.inverted else 1)
        mine = particles.tomogram == name
        inside = np.abs(particles.position_zyx_angstrom[:, 0] / spacing - low - thickness / 2) <= thickness
        rings = "".join(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{90 / spacing / factor:.1f}" fill="none" '
            f'stroke="{colors[names.index(str(particles.class_name[row]))]}" stroke-width="1.5">'
            f"<title>{escape(particles.class_name[row])}, {particles.score[row]:.2f}</title></circle>"
            for row in np.flatnonzero(mine & inside)
            for _, y, x in [(particles.position_zyx_angstrom[row] / spacing + 0.5) / factor]
        )
        figures.append(
            f"<figure><figcaption>{escape(name)}: {count(int(mine.sum()), 'particle')}, those about the middle "
            f'shown</figcaption><svg viewBox="0 0 {width} {height}" role="img" style="width:100%;max-width:52rem" '
            f'aria-label="{escape(name)}, central slab with particles"><image width="{width}" height="{height}" '
            f'href="{png_uri(gray_levels(image, *window(image)))}"/>{rings}</svg></figure>'
        )
    return f"<p>{legend}</p>" + "".join(figures)


def _probabilities(particles: Particles, names: Sequence[str]) -> str:
    rows = []
    for name in names:
        score = particles.score[particles.class_name == name]
        above = [str(int((score >= least).sum())) for least in (0.5, 0.7, 0.9, 0.99)]
        rows.append([escape(name), str(len(score)), *above])
    header = ["Class", "Particles", "at least 0.5", "0.7", "0.9", "0.99"]
    with rc_context(STYLE):
        figure = Figure(figsize=(7.5, 3.0))
        axes = figure.subplots(gridspec_kw={"left": 0.09, "right": 0.99, "bottom": 0.17, "top": 0.97})
        axes.hist(particles.score, bins=np.linspace(0, 1, 41).tolist(), color=STYLE["axes.labelcolor"], alpha=0.6)
        axes.set(xlabel="Probability", ylabel="Particles", xlim=(0, 1))
        drawn = svg(figure, "probabilities", "How probable the particles are that were found")
    return table("Particles by least probability", header, rows, "scores") + drawn


def _colors(number: int) -> list[str]:
    """Colors that can be told apart on gray, evenly around the circle of hues."""
    return [f"hsl({(360 * k / max(number, 1) + 20) % 360:.0f} 85% 60%)" for k in range(number)]
