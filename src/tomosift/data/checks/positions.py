"""Do the picks lie inside their tomograms? If not, which common mistake explains it?"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from tomosift.data.checks.findings import Finding, Level, count_noun
from tomosift.errors import FormatError
from tomosift.io.particles import relion_columns as relion
from tomosift.particles import Particles

FITTING_SHARE = 0.98
"""Share of the picks that must lie inside under a hypothesis before it is offered."""
FEW_OUTSIDE = 0.2
"""Share of the picks that may lie outside where no mistake explains it; they are left out."""
NEARLY_INSIDE_VOXELS = 2.0
"""Distance by which a single pick may lie outside whatever explains it."""
FEWEST_FOR_EXTENT = 20
"""Picks needed before their extent says anything about their scale."""
LOW_EXTENT = 0.6
"""Share of the tomogram in y and x; picks that reach no farther are probably coordinates at another scale."""
_FACTORS = (2, 3, 4, 5, 6, 8, 10, 12, 16)


@dataclass(frozen=True)
class PickGeometry:
    """Picks with the grids of their tomograms; finite positions only."""

    position_zyx_angstrom: NDArray[np.float64]
    """(n, 3) from the center of voxel 0."""
    shape_zyx: NDArray[np.float64]
    """(n, 3) of each pick's tomogram."""
    voxel_spacing_angstrom: NDArray[np.float64]
    """(n,) of each pick's tomogram."""
    tomogram: NDArray[Any]
    """(n,) key of each pick's tomogram."""
    pixel_angstrom: float | None
    """One pixel of the table's coordinates, where the table states it."""
    source: str
    """Dialect of the table."""

    @property
    def voxel_zyx(self) -> NDArray[np.float64]:
        """(n, 3) positions in voxels of the tomogram."""
        result: NDArray[np.float64] = self.position_zyx_angstrom / self.voxel_spacing_angstrom[:, None]
        return result


def table_pixel_angstrom(particles: Particles) -> float | None:
    """Return the median pixel size that a STAR table states for its coordinates; None where it states none."""
    if not len(particles.columns.columns):
        return None
    try:
        found = relion.pixel_size(
            Path("particles"), particles.columns, particles.tables.get("optics"), relion.COORDINATE_PIXEL_SIZES
        )
    except FormatError:
        return None
    return None if found is None else float(np.median(found))


def is_inside(voxel_zyx: NDArray[np.float64], shape_zyx: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return whether each position lies in its volume (n,), up to half a voxel beyond the outermost centers."""
    return np.asarray(((voxel_zyx >= -0.5) & (voxel_zyx <= shape_zyx - 0.5)).all(axis=1), dtype=np.bool_)


def check_inside(picks: PickGeometry, box_voxels: float) -> Finding:
    """Check that the picks lie inside their tomograms; where not, say by how much and why."""
    voxel, shape = picks.voxel_zyx, picks.shape_zyx
    within = is_inside(voxel, shape)
    outside, n = int((~within).sum()), len(voxel)
    beyond = np.maximum(np.maximum(-0.5 - voxel, voxel - (shape - 0.5)), 0).max(axis=1)
    low = voxel - box_voxels / 2
    crossing = int((within & ((low < -0.5) | (low + box_voxels > shape + 0.5)).any(axis=1)).sum())
    measured = {"outside": outside, "picks": n, "worst_voxels": float(beyond.max()), "boxes_over_the_border": crossing}
    if outside:
        worst = int(np.argmax(beyond))
        listed = (
            f"{outside} of {count_noun(n, 'pick')} lie outside their tomogram; the worst is {beyond[worst]:.0f} voxels "
            f"out, at z, y, x = {', '.join(f'{v:.0f}' for v in voxel[worst])} of "
            f"{' x '.join(f'{v:.0f}' for v in shape[worst])} voxels in {picks.tomogram[worst]}"
        )
        advice, fitting = find_mistake(picks)
        is_few = outside / n <= 1 - FITTING_SHARE or (outside / n <= FEW_OUTSIDE and not fitting)
        if outside < n and (is_few or (outside == 1 and beyond.max() <= NEARLY_INSIDE_VOXELS)):
            advice = "they will be left out; remove them, or check whether these tomograms were cropped"
            return Finding("positions", "warning", f"{listed}; {advice}", measured)
        return Finding("positions", "error", f"{listed}; {advice}", {**measured, "hypotheses": fitting})
    reach = (voxel.max(axis=0) / shape.max(axis=0))[1:]
    if n >= FEWEST_FOR_EXTENT and (reach < LOW_EXTENT).all():
        advice, fitting = find_mistake(picks)
        sentence = (
            f"every pick lies in the lower {100 * max(reach):.0f} % of its tomogram in y and x, which happens when "
            f"coordinates are at another scale; {advice}"
        )
        return Finding("positions", "warning", sentence, {**measured, "hypotheses": fitting})
    border = f"; the boxes of {crossing} reach over the border and will be filled up" if crossing else ""
    level: Level = "note" if crossing > n / 2 else "ok"
    return Finding("positions", level, f"all {count_noun(n, 'pick')} lie inside their tomogram{border}", measured)


def find_mistake(picks: PickGeometry) -> tuple[str, list[str]]:
    """Find the single mistake whose correction brings the picks inside.

    Hypotheses are another scale (binned or unbinned pixels, Angstrom taken for pixels), axes in another order, and
    another origin (center instead of corner). Corrected picks must also fill the volume, for any set of points fits
    into a corner.

    Returns
    -------
    advice
        What to do, as a clause.
    hypotheses
        Names of all that fit, best first.
    """
    shape = picks.shape_zyx
    fitting: list[tuple[float, Hypothesis]] = []
    for hypothesis in (*_other_origins(picks), *_other_axes(picks), *_other_scales(picks)):
        share = float(is_inside(hypothesis.voxel_zyx, shape).mean())
        span = np.ptp(hypothesis.voxel_zyx / shape, axis=0)
        filled = float(np.sqrt(min(span[1], 1) * min(span[2], 1)))
        if share >= FITTING_SHARE and filled > 0.3:
            fitting.append((filled - hypothesis.handicap, hypothesis))
    if not fitting:
        return (
            "no other scale, order of axes or origin would bring them all inside; check that these are the tomograms "
            "that were picked",
            [],
        )
    fitting.sort(key=lambda one: -one[0])
    names = [hypothesis.name for _, hypothesis in fitting]
    others = f" (it would also fit if they were: {', '.join(names[1:3])})" if len(names) > 1 else ""
    return fitting[0][1].advice + others, names


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """A mistake in the coordinates, and the picks after its correction."""

    name: str
    advice: str
    voxel_zyx: NDArray[np.float64]
    handicap: float = 0.0
    """Subtracted from the filled share of the volume: larger for rarer mistakes."""


def _other_origins(picks: PickGeometry) -> Iterator[Hypothesis]:
    half = picks.shape_zyx / 2
    advice = "the coordinates seem to count from the tomogram's center: declare this, or add half its size"
    yield Hypothesis("centered", advice, picks.voxel_zyx + half)
    advice = (
        "the coordinates seem to count from the corner but were read as counting from the center: "
        "give them as rlnCoordinateX/Y/Z"
    )
    yield Hypothesis("corner", advice, picks.voxel_zyx - half)


def _other_axes(picks: PickGeometry) -> Iterator[Hypothesis]:
    for order in permutations(range(3)):
        if order != (0, 1, 2):
            axes = "".join("zyx"[axis] for axis in order)
            advice = f"the axes seem swapped: z, y, x are probably {', '.join(axes)}; exchange the columns"
            # Exchanging two axes is more common than a rotation of all three.
            handicap = 0.05 if _is_swap(order) else 0.1
            yield Hypothesis(f"axes {axes}", advice, picks.voxel_zyx[:, list(order)], handicap)


def _is_swap(order: tuple[int, ...]) -> bool:
    return sum(axis == k for k, axis in enumerate(order)) == 1


def _other_scales(picks: PickGeometry) -> Iterator[Hypothesis]:
    if picks.source == "relion5":
        return
    voxel, spacing = picks.voxel_zyx, picks.voxel_spacing_angstrom[:, None]
    scales: dict[str, NDArray[np.float64]] = {}
    if picks.pixel_angstrom is not None:
        scales[f"pixels of the tomogram rather than of {picks.pixel_angstrom:g} A"] = 1 / (
            picks.pixel_angstrom / spacing
        )
        scales["Angstrom rather than pixels"] = 1 / np.full_like(spacing, picks.pixel_angstrom)
    else:
        scales["Angstrom rather than pixels"] = 1 / spacing
        scales["pixels rather than Angstrom"] = spacing
    for name, scale in scales.items():
        yield Hypothesis(name, f"the coordinates seem to be {name}; correct the pixel size", voxel * scale)
    for factor in _FACTORS:
        for size, binning, scaled in (("large", "less", voxel / factor), ("small", "more", voxel * factor)):
            name = f"{factor} times too {size}"
            advice = (
                f"the coordinates seem to be {name}: pixels of data that are {factor} times {binning} binned; "
                "correct the pixel size"
            )
            yield Hypothesis(name, advice, scaled, 0.02)


def check_duplicates(picks: PickGeometry, closer_than_angstrom: float) -> Finding:
    """Find picks that have the same position as another one of their tomogram, or nearly."""
    nearest = np.full(len(picks.tomogram), np.inf)
    for name in np.unique(picks.tomogram.astype(str)):
        rows = np.flatnonzero(picks.tomogram.astype(str) == name)
        if len(rows) > 1:
            distance, _ = cKDTree(picks.position_zyx_angstrom[rows]).query(picks.position_zyx_angstrom[rows], k=2)
            nearest[rows] = np.asarray(distance)[:, 1]
    same = int((nearest <= 0.5 * picks.voxel_spacing_angstrom).sum())
    close = int((nearest < closer_than_angstrom).sum())
    measured = {"same_place": same, "close": close, "closer_than_angstrom": closer_than_angstrom}
    if same:
        sentence = (
            f"{count_noun(same, 'pick')} of {len(nearest)} have the position of another one (within half a voxel); a "
            "particle picked twice counts twice: remove the copies"
        )
        return Finding("duplicates", "warning", sentence, measured)
    if close:
        sentence = (
            f"{count_noun(close, 'pick')} of {len(nearest)} have another one closer than {closer_than_angstrom:.0f} A, "
            "less than particles of this size can be; they may be one particle picked twice"
        )
        return Finding("duplicates", "warning" if close > 0.05 * len(nearest) else "note", sentence, measured)
    finite = nearest[np.isfinite(nearest)]
    least = f"; the nearest two are {finite.min():.0f} A apart" if len(finite) else ""
    return Finding(
        "duplicates", "ok", f"no pick is closer than {closer_than_angstrom:.0f} A to another{least}", measured
    )


def check_origin(picks: PickGeometry) -> Finding | None:
    """Report which convention of the tomogram's center is in use; None for tables that count from the corner."""
    if picks.source != "relion5":
        return None
    pixel = picks.pixel_angstrom or float(np.median(picks.voxel_spacing_angstrom))
    voxels = pixel / float(np.median(picks.voxel_spacing_angstrom))
    sentence = (
        "positions count from the tomogram's center, taken as size/2 as RELION 5 does; its Python picker uses "
        f"size/2 - 1, which moves every pick by {pixel:g} A or {voxels:.2g} voxels along each axis"
    )
    return Finding("center", "note", sentence, {"convention": "size/2", "difference_voxels": voxels})
