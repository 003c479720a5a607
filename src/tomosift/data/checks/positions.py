"""Do the picks lie inside their tomograms, where density is? If not, which common mistake explains it?"""

from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from tomosift.data.checks.findings import Finding, Level, count_noun
from tomosift.data.checks.hypotheses import CLEAR_Z, Verdict
from tomosift.data.checks.mistakes import FITTING_SHARE, PickGeometry, find_mistake, is_inside
from tomosift.errors import FormatError
from tomosift.io.particles import relion_columns as relion
from tomosift.particles import Particles

_KEPT_IN_BOX = 0.45  # box edges by which a particle is still in its box
FEW_OUTSIDE = 0.2
"""Share of the picks that may lie outside where no mistake explains it; they are left out."""
NEARLY_INSIDE_VOXELS = 2.0
"""Distance by which a single pick may lie outside whatever explains it."""
FEWEST_FOR_EXTENT = 20
"""Picks needed before their extent says anything about their scale."""
LOW_EXTENT = 0.6
"""Share of the tomogram in y and x; picks that reach no farther are probably coordinates at another scale."""


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


def check_positions(picks: PickGeometry, box_voxels: float, verdict: Verdict | None = None) -> Finding:
    """Check that the picks lie inside their tomograms and where density is; where not, say by how much and why.

    Parameters
    ----------
    picks
        With finite positions.
    box_voxels
        Edge of the boxes in voxels of the tomograms.
    verdict
        Of `tomosift.data.checks.hypotheses.weigh_hypotheses`; without it, only the size of the tomograms counts.
    """
    voxel, shape = picks.voxel_zyx, picks.shape_zyx
    within = is_inside(voxel, shape)
    outside, n = int((~within).sum()), len(voxel)
    beyond = np.maximum(np.maximum(-0.5 - voxel, voxel - (shape - 0.5)), 0).max(axis=1)
    low = voxel - box_voxels / 2
    crossing = int((within & ((low < -0.5) | (low + box_voxels > shape + 0.5)).any(axis=1)).sum())
    measured: dict[str, Any] = {
        "outside": outside,
        "picks": n,
        "worst_voxels": float(beyond.max()),
        "boxes_over_the_border": crossing,
    }
    if verdict is not None:
        measured["z_score"] = verdict.z_given
    if outside:
        worst = int(np.argmax(beyond))
        listed = (
            f"{outside} of {count_noun(n, 'pick')} lie outside their tomogram; the worst is {beyond[worst]:.0f} voxels "
            f"out, at z, y, x = {', '.join(f'{v:.0f}' for v in voxel[worst])} of "
            f"{' x '.join(f'{v:.0f}' for v in shape[worst])} voxels in {picks.tomogram[worst]}"
        )
        if verdict is not None and verdict.is_mistaken:
            sentence, level = f"{listed}; {verdict.describe()}", _level_of(verdict, box_voxels)
            return Finding("positions", level, sentence, {**measured, **verdict.as_measured()})
        advice, fitting = find_mistake(picks)
        is_few = outside / n <= 1 - FITTING_SHARE or (outside / n <= FEW_OUTSIDE and not fitting)
        if outside < n and (is_few or (outside == 1 and beyond.max() <= NEARLY_INSIDE_VOXELS)):
            advice = "they will be left out; remove them, or check whether these tomograms were cropped"
            return Finding("positions", "warning", f"{listed}; {advice}", measured)
        return Finding("positions", "error", f"{listed}; {advice}", {**measured, "hypotheses": fitting})
    if verdict is not None and verdict.is_mistaken:
        level = _level_of(verdict, box_voxels)
        return Finding("positions", level, verdict.describe(), {**measured, **verdict.as_measured()})
    reach = (voxel.max(axis=0) / shape.max(axis=0))[1:]
    stands_out = verdict is not None and verdict.z_given >= CLEAR_Z
    if n >= FEWEST_FOR_EXTENT and (reach < LOW_EXTENT).all() and not stands_out:
        advice, fitting = find_mistake(picks)
        sentence = (
            f"every pick lies in the lower {100 * max(reach):.0f} % of its tomogram in y and x, which happens when "
            f"coordinates are at another scale; {advice}"
        )
        return Finding("positions", "warning", sentence, {**measured, "hypotheses": fitting})
    density = f", and density stands out at them (z-score {verdict.z_given:.1f})" if verdict and stands_out else ""
    border = f"; the boxes of {crossing} reach over the border and will be filled up" if crossing else ""
    level = "note" if crossing > n / 2 else "ok"
    sentence = f"all {count_noun(n, 'pick')} lie inside their tomogram{density}{border}"
    return Finding("positions", level, sentence, measured)


def _level_of(verdict: Verdict, box_voxels: float) -> Level:
    """An offset that leaves particles inside their boxes is a warning; every other mistake is an error.

    Particles of several times the assumed diameter can stand out beside their center.
    """
    shift = 0.0 if verdict.mistake is None else verdict.mistake.shift_voxels
    return "warning" if 0 < shift < _KEPT_IN_BOX * box_voxels else "error"


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
