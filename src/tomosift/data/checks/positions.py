"""Do the picks lie where the tomograms are? If not, which common mistake would explain it?"""

from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from tomosift.data.checks.findings import Finding, plural
from tomosift.errors import FormatError
from tomosift.io.particles import relion_columns as relion
from tomosift.particles import Particles

FITS = 0.98
"""Share of the picks that must lie inside under a hypothesis before it is offered."""
FEWEST_FOR_EXTENT = 20
"""Picks needed before their extent says anything about their scale."""
CROWDED = 0.6
"""Picks that reach no farther than this share of the tomogram in y and in x look like coordinates at another scale."""
_FACTORS = (2, 3, 4, 5, 6, 8, 10, 12, 16)


@dataclass(frozen=True)
class Placed:
    """Picks with the tomograms they belong to; finite positions only."""

    position_zyx_angstrom: NDArray[np.float64]
    """(n, 3) from the center of voxel 0."""
    shape_zyx: NDArray[np.float64]
    """(n, 3) of each pick's tomogram."""
    voxel_spacing_angstrom: NDArray[np.float64]
    """(n,) of each pick's tomogram."""
    tomogram: NDArray[Any]
    """(n,) key of each pick's tomogram."""
    pixel_angstrom: float | None
    """One pixel of the table's coordinates, where the table says so."""
    source: str
    """Dialect of the table."""

    @property
    def voxel_zyx(self) -> NDArray[np.float64]:
        """(n, 3) positions in voxels of the tomogram."""
        result: NDArray[np.float64] = self.position_zyx_angstrom / self.voxel_spacing_angstrom[:, None]
        return result


def table_pixel_angstrom(particles: Particles) -> float | None:
    """Median pixel size that a STAR table states for its coordinates; None where it states none."""
    if not len(particles.columns.columns):
        return None
    try:
        found = relion.pixel_size(
            Path("particles"), particles.columns, particles.tables.get("optics"), relion.COORDINATE_PIXEL_SIZES
        )
    except FormatError:
        return None
    return None if found is None else float(np.median(found))


def inside(voxel_zyx: NDArray[np.float64], shape_zyx: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(n,) whether each position lies in its volume, up to half a voxel beyond the outermost centers."""
    return np.asarray(((voxel_zyx >= -0.5) & (voxel_zyx <= shape_zyx - 0.5)).all(axis=1), dtype=np.bool_)


def check_inside(placed: Placed, box_voxels: float) -> Finding:
    """How many picks lie outside their tomogram, by how much, and why that may be."""
    voxel, shape = placed.voxel_zyx, placed.shape_zyx
    within = inside(voxel, shape)
    outside, n = int((~within).sum()), len(voxel)
    beyond = np.maximum(np.maximum(-0.5 - voxel, voxel - (shape - 0.5)), 0).max(axis=1)
    low = voxel - box_voxels / 2
    crossing = int((within & ((low < -0.5) | (low + box_voxels > shape + 0.5)).any(axis=1)).sum())
    measured = {"outside": outside, "picks": n, "worst_voxels": float(beyond.max()), "boxes_over_the_border": crossing}
    if outside:
        worst = int(np.argmax(beyond))
        seen = (
            f"{outside} of {plural(n, 'pick')} lie outside their tomogram; the worst is {beyond[worst]:.0f} voxels "
            f"out, at z, y, x = {', '.join(f'{v:.0f}' for v in voxel[worst])} of "
            f"{' x '.join(f'{v:.0f}' for v in shape[worst])} voxels in {placed.tomogram[worst]}"
        )
        if outside / n <= 1 - FITS and outside < n:
            advice = "they will be left out; remove them, or check whether these tomograms were cropped"
            return Finding("positions", "warning", f"{seen}; {advice}", measured)
        advice, fitting = explain(placed)
        return Finding("positions", "error", f"{seen}; {advice}", {**measured, "hypotheses": fitting})
    reach = (voxel.max(axis=0) / shape.max(axis=0))[1:]
    if n >= FEWEST_FOR_EXTENT and (reach < CROWDED).all():
        advice, fitting = explain(placed)
        sentence = (
            f"every pick lies in the lower {100 * max(reach):.0f} % of its tomogram in y and x, which happens when "
            f"coordinates are at another scale; {advice}"
        )
        return Finding("positions", "warning", sentence, {**measured, "hypotheses": fitting})
    border = f"; the boxes of {crossing} reach over the border and will be filled up" if crossing else ""
    level = "note" if crossing > n / 2 else "ok"
    return Finding("positions", level, f"all {plural(n, 'pick')} lie inside their tomogram{border}", measured)  # type: ignore[arg-type]


def explain(placed: Placed) -> tuple[str, list[str]]:
    """Which one mistake would bring the picks inside: advice, and all hypotheses that fit, best first.

    Tried are, one at a time: another scale (binned or unbinned pixels, Angstrom taken for pixels), axes in another
    order, and another origin (center instead of corner). A scale must also let the picks fill the volume, for any
    set of points fits into a corner.
    """
    voxel, shape, spacing = placed.voxel_zyx, placed.shape_zyx, placed.voxel_spacing_angstrom[:, None]
    fitting: list[tuple[float, str, str]] = []

    def test(moved: NDArray[np.float64], name: str, advice: str, handicap: float = 0.0) -> None:
        share = float(inside(moved, shape).mean())
        span = np.ptp(moved / shape, axis=0)
        filled = float(np.sqrt(min(span[1], 1) * min(span[2], 1)))
        if share >= FITS and filled > 0.3:
            fitting.append((filled - handicap, name, advice))

    middle = shape / 2
    test(voxel + middle, "centered", "the coordinates seem to count from the tomogram's center: say so, or add "
         "half its size")  # fmt: skip
    test(voxel - middle, "corner", "the coordinates seem to count from the corner but were read as counting from the "
         "center: give them as rlnCoordinateX/Y/Z")  # fmt: skip
    for order in permutations(range(3)):
        if order != (0, 1, 2):
            axes = "".join("zyx"[axis] for axis in order)
            advice = (
                f"the axes seem swapped: what is read as z, y, x looks like {', '.join(axes)}; exchange the columns"
            )
            # Beyond exchanging two axes, a rotation of all three is rarer.
            test(voxel[:, list(order)], f"axes {axes}", advice, 0.05 if _is_swap(order) else 0.1)
    if placed.source != "relion5":
        scales: dict[str, NDArray[np.float64]] = {}
        if placed.pixel_angstrom is not None:
            scales[f"pixels of the tomogram rather than of {placed.pixel_angstrom:g} A"] = 1 / (
                placed.pixel_angstrom / spacing
            )
            scales["Angstrom rather than pixels"] = 1 / np.full_like(spacing, placed.pixel_angstrom)
        else:
            scales["Angstrom rather than pixels"] = 1 / spacing
            scales["pixels rather than Angstrom"] = spacing
        for name, scale in scales.items():
            test(voxel * scale, name, f"the coordinates seem to be {name}; correct the pixel size", 0.0)
        for factor in _FACTORS:
            test(voxel / factor, f"{factor} times too large", f"the coordinates seem to be {factor} times too large: "
                 f"pixels of data that are {factor} times less binned; correct the pixel size", 0.02)  # fmt: skip
            test(voxel * factor, f"{factor} times too small", f"the coordinates seem to be {factor} times too small: "
                 f"pixels of data that are {factor} times more binned; correct the pixel size", 0.02)  # fmt: skip
    fitting.sort(key=lambda one: -one[0])
    names = [name for _, name, _ in fitting]
    if not fitting:
        return (
            "no other scale, order of axes or origin would bring them all inside; check that these are the tomograms "
            "that were picked",
            [],
        )
    others = f" (it would also fit if they were: {', '.join(names[1:3])})" if len(names) > 1 else ""
    return fitting[0][2] + others, names


def _is_swap(order: tuple[int, ...]) -> bool:
    return sum(axis == k for k, axis in enumerate(order)) == 1


def check_duplicates(placed: Placed, closer_than_angstrom: float) -> Finding:
    """Picks that share their place, or nearly, with another one of the same tomogram."""
    nearest = np.full(len(placed.tomogram), np.inf)
    for name in np.unique(placed.tomogram.astype(str)):
        rows = np.flatnonzero(placed.tomogram.astype(str) == name)
        if len(rows) > 1:
            distance, _ = cKDTree(placed.position_zyx_angstrom[rows]).query(placed.position_zyx_angstrom[rows], k=2)
            nearest[rows] = np.asarray(distance)[:, 1]
    same = int((nearest <= 0.5 * placed.voxel_spacing_angstrom).sum())
    close = int((nearest < closer_than_angstrom).sum())
    measured = {"same_place": same, "close": close, "closer_than_angstrom": closer_than_angstrom}
    if same:
        sentence = (
            f"{plural(same, 'pick')} of {len(nearest)} share their place with another one (within half a voxel); a "
            "particle that is there twice counts twice: remove the copies"
        )
        return Finding("duplicates", "warning", sentence, measured)
    if close:
        sentence = (
            f"{plural(close, 'pick')} of {len(nearest)} have another one closer than {closer_than_angstrom:.0f} A, "
            "less than particles of this size can be; they may be one particle picked twice"
        )
        return Finding("duplicates", "warning" if close > 0.05 * len(nearest) else "note", sentence, measured)
    finite = nearest[np.isfinite(nearest)]
    least = f"; the nearest two are {finite.min():.0f} A apart" if len(finite) else ""
    return Finding(
        "duplicates", "ok", f"no pick is closer than {closer_than_angstrom:.0f} A to another{least}", measured
    )


def check_origin(placed: Placed) -> Finding | None:
    """Which convention of the tomogram's center is in use; None for tables that count from the corner."""
    if placed.source != "relion5":
        return None
    pixel = placed.pixel_angstrom or float(np.median(placed.voxel_spacing_angstrom))
    voxels = pixel / float(np.median(placed.voxel_spacing_angstrom))
    sentence = (
        "positions count from the tomogram's center, taken as size/2 as RELION 5 does; its Python picker meant "
        f"size/2 - 1, which would move every pick by {pixel:g} A or {voxels:.2g} voxels along each axis"
    )
    return Finding("center", "note", sentence, {"convention": "size/2", "difference_voxels": voxels})
