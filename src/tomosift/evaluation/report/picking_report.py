"""The report on particle picking: examples of each class, tomograms with their particles, probabilities."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tomosift.data.extraction.crop import crop_block
from tomosift.data.extraction.tomograms import Tomogram
from tomosift.data.normalization import normalize_volumes
from tomosift.evaluation.report.figures import STYLE, render_svg
from tomosift.evaluation.report.layout import provenance_json, render_page, write_page
from tomosift.evaluation.report.markup import encode_png_uri, escape, format_count, render_section, render_table
from tomosift.evaluation.report.pictures import choose_gray_range, render_row, to_gray_levels
from tomosift.particles import Particles

_TOMOGRAMS = 6
"""Pictures of whole tomograms."""
_EXAMPLES = 6
"""Particles of each class, of the most and of the least probable."""
_AVERAGED = 60
_BOX_ANGSTROM = 320.0
_THICKNESS_ANGSTROM = 60.0
_RING_RADIUS_ANGSTROM = 90.0
_LARGEST_EDGE = 700


def write_picking_report(
    path: Path,
    particles: Particles,
    tomograms: Mapping[str, Tomogram],
    class_names: Sequence[str],
    provenance: Mapping[str, Any],
) -> None:
    """Write the report to an HTML file, which is complete or absent.

    Parameters
    ----------
    path
        HTML file to write.
    particles
        Picked particles with class names, scores and the tomograms below.
    tomograms
        By name.
    class_names
        Names of all classes, also of those without particles.
    provenance
        Everything that is needed to repeat the run.
    """
    header = (
        f'<p class="headline">{format_count(len(particles), "particle")} in '
        f"{format_count(len(tomograms), 'tomogram')}</p>"
        '<p class="basis">A detector evaluated every grid point of the tomograms. The probabilities are its own; only '
        "labels tell how many of its particles are right. Check the least probable particles of each class first.</p>"
    )
    contents = {
        "classes": ("Classes", _render_classes(particles, tomograms, class_names)),
        "tomograms": ("Tomograms", _render_tomograms(particles, tomograms, class_names)),
        "probabilities": ("Probabilities", _render_probabilities(particles, class_names)),
    }
    sections = [(name, title, render_section(name, title, body)) for name, (title, body) in contents.items()]
    write_page(path, render_page("Picked particles", header, [*sections, provenance_json(provenance)]))


def _render_classes(particles: Particles, tomograms: Mapping[str, Tomogram], names: Sequence[str]) -> str:
    return "".join(_render_class(particles, tomograms, name) for name in names)


def _render_class(particles: Particles, tomograms: Mapping[str, Tomogram], name: str) -> str:
    rows = np.flatnonzero(particles.class_name == name)
    rows = rows[np.argsort(-particles.score[rows], kind="stable")]
    if not len(rows):
        return f"<h3>{escape(name)}</h3><p>No particle was picked.</p>"
    rest = rows[_EXAMPLES:]
    average = _read_boxes(particles, rows[:_AVERAGED], tomograms).mean(axis=0, keepdims=True)
    most_probable = np.concatenate([average, _read_boxes(particles, rows[: _EXAMPLES - 1], tomograms)])
    count = min(len(rows), _AVERAGED)
    groups = {
        f"Mean of the {count} most probable without alignment, and the most probable": most_probable,
        "The least probable": _read_boxes(particles, rest[-_EXAMPLES:], tomograms) if len(rest) else average[:0],
    }
    pictures = "".join(
        f'<p class="basis">{escape(what)}</p>{render_row(boxes, name)}' for what, boxes in groups.items() if len(boxes)
    )
    return f"<h3>{escape(name)}: {format_count(len(rows), 'particle')}</h3>{pictures}"


def _read_boxes(
    particles: Particles, rows: NDArray[np.int64], tomograms: Mapping[str, Tomogram]
) -> NDArray[np.float32]:
    """Return normalized boxes about particles, at the voxel spacing of their tomogram."""
    boxes = []
    for row in rows:
        tomogram = tomograms[str(particles.tomogram[row])]
        spacing = tomogram.grid.voxel_spacing_angstrom
        box = tomogram.crop(np.rint(particles.position_zyx_angstrom[row] / spacing), round(_BOX_ANGSTROM / spacing))
        boxes.append(normalize_volumes(box))
    edges = {len(box) for box in boxes}
    if len(edges) > 1:  # of tomograms of several voxel spacings; all are cropped to the smallest
        least = min(edges)
        boxes = [box[tuple(slice((len(box) - least) // 2, (len(box) + least) // 2) for _ in range(3))] for box in boxes]
    return np.array(boxes, dtype=np.float32)


def _render_tomograms(particles: Particles, tomograms: Mapping[str, Tomogram], names: Sequence[str]) -> str:
    """Return the central slab of some tomograms with a ring about each particle in it."""
    colors = dict(zip(names, _choose_colors(len(names)), strict=True))
    legend = "".join(
        f'<span style="white-space:nowrap"><svg width="14" height="14" aria-hidden="true"><circle cx="7" cy="7" r="5" '
        f'fill="none" stroke="{color}" stroke-width="2.5"/></svg> {escape(name)}</span> '
        for name, color in colors.items()
    )
    figures = [
        _render_tomogram(particles.select(np.flatnonzero(particles.tomogram == name)), name, tomogram, colors)
        for name, tomogram in list(tomograms.items())[:_TOMOGRAMS]
    ]
    return f"<p>{legend}</p>{''.join(figures)}"


def _render_tomogram(particles: Particles, name: str, tomogram: Tomogram, colors: Mapping[str, str]) -> str:
    spacing, shape = tomogram.grid.voxel_spacing_angstrom, tomogram.grid.shape_zyx
    thickness = min(shape[0], max(1, round(_THICKNESS_ANGSTROM / spacing)))
    low = (shape[0] - thickness) // 2
    block = crop_block(tomogram.open().data, np.array([low, 0, 0], dtype=float), (thickness, *shape[1:])).volume
    factor = -(-max(shape[1:]) // _LARGEST_EDGE)
    height, width = (edge // factor for edge in shape[1:])
    flat = block.mean(axis=0)[: height * factor, : width * factor]
    image = flat.reshape(height, factor, width, factor).mean(axis=(1, 3)) * (-1 if tomogram.is_inverted else 1)
    is_inside = np.abs(particles.position_zyx_angstrom[:, 0] / spacing - low - thickness / 2) <= thickness
    rings = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{_RING_RADIUS_ANGSTROM / spacing / factor:.1f}" fill="none" '
        f'stroke="{colors[str(particles.class_name[row])]}" stroke-width="1.5">'
        f"<title>{escape(particles.class_name[row])}, {particles.score[row]:.2f}</title></circle>"
        for row in np.flatnonzero(is_inside)
        for _, y, x in [(particles.position_zyx_angstrom[row] / spacing + 0.5) / factor]
    )
    return (
        f"<figure><figcaption>{escape(name)}: {format_count(len(particles), 'particle')}; rings show those near the "
        f'central slab</figcaption><svg viewBox="0 0 {width} {height}" role="img" style="width:100%;max-width:52rem" '
        f'aria-label="{escape(name)}, central slab with particles"><image width="{width}" height="{height}" '
        f'href="{encode_png_uri(to_gray_levels(image, *choose_gray_range(image)))}"/>{rings}</svg></figure>'
    )


def _render_probabilities(particles: Particles, names: Sequence[str]) -> str:
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
        histogram = render_svg(figure, "probabilities", "Histogram of the probabilities of the picked particles")
    return render_table("Particles by least probability", header, rows, "scores") + histogram


def _choose_colors(number: int) -> list[str]:
    """Return colors that are distinct on gray, evenly spaced in hue."""
    return [f"hsl({(360 * k / max(number, 1) + 20) % 360:.0f} 85% 60%)" for k in range(number)]
