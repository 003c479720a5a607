"""Does the box fit the particle, and is the particle in its center? Both are measured in the mean of many boxes."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tomosift.conventions import center_index
from tomosift.data.checks.findings import Finding
from tomosift.data.extraction.crop import crop_box
from tomosift.data.extraction.tomograms import Tomogram

SIGNIFICANT = 5.0
"""Standard errors by which the center of the mean must differ from its surroundings for a measurement."""
GROUPS = 5
"""Leave-one-out groups behind the standard errors."""
MIN_RATIO = 1.25
"""Box over diameter below which the box has no margin for the missing wedge."""
MAX_RATIO = 4.0
"""Box over diameter above which a box holds mostly neighbors."""
OFF_CENTER_VOXELS = 1.0
_MAX_SPACING_DIFFERENCE = 1e-3  # relative; boxes of one mean have the same voxels


@dataclass(frozen=True)
class MeanParticle:
    """Size and center of the particle in the mean of unrotated boxes."""

    diameter_angstrom: float | None
    """Full width at half height of the radial profile; None where no density is significant."""
    offset_zyx_voxels: NDArray[np.float64] | None
    """(3,) center of mass of that density relative to the picks, in voxels of the tomogram."""
    offset_error_voxels: float
    """Largest standard error of the three components."""
    boxes: int


def measure_mean_particle(
    tomograms: Mapping[str, Tomogram],
    position_of: Mapping[str, NDArray[np.float64]],
    edge_angstrom: float,
    most_boxes: int = 240,
) -> MeanParticle:
    """Average boxes at the picks, on the voxels of the files, and measure size and center of the mean density.

    Boxes are not rotated by the poses, so long particles appear round and of their average width. Tomograms whose voxel
    spacing differs from that of the first one are left out.

    Parameters
    ----------
    tomograms
        By name.
    position_of
        Tomogram name -> (n, 3) picks in Angstrom.
    edge_angstrom
        Edge of the boxes.
    most_boxes
        Picks beyond this number are thinned out evenly.
    """
    spacing = next(iter(tomograms.values())).grid.voxel_spacing_angstrom
    size = int(np.clip(round(edge_angstrom / spacing), 12, 96))
    sums, counts = np.zeros((GROUPS, size, size, size)), np.zeros(GROUPS, dtype=int)
    taken = 0
    for name, position in position_of.items():
        tomogram = tomograms[name]
        if abs(tomogram.grid.voxel_spacing_angstrom / spacing - 1) > _MAX_SPACING_DIFFERENCE:
            continue
        data, share = tomogram.open().data, max(1, most_boxes // len(position_of))
        some = position[np.unique(np.linspace(0, len(position) - 1, share).astype(int))]
        for center in np.rint(some / spacing):
            if (center < 0).any() or (center >= np.asarray(data.shape)).any():
                continue
            box = crop_box(data, center, size).volume.astype(np.float64)
            deviation = box.std()
            if np.isfinite(deviation) and deviation > 0:
                sums[taken % GROUPS] += (box - box.mean()) / deviation
                counts[taken % GROUPS] += 1
                taken += 1
    if taken < 4 * GROUPS:
        return MeanParticle(None, None, np.inf, taken)
    return _measure(sums, counts, spacing)


def _measure(sums: NDArray[np.float64], counts: NDArray[np.int_], spacing: float) -> MeanParticle:
    n, size = int(counts.sum()), sums.shape[1]
    mean = sums.sum(axis=0) / n
    grid = np.indices(mean.shape) - center_index(size)
    radius = np.rint(np.linalg.norm(grid, axis=0)).astype(int)
    reach = size // 2
    rings = [radius == r for r in range(reach)]
    profile = np.array([mean[ring].mean() for ring in rings])
    profile -= profile[round(0.75 * reach) :].mean()
    core = radius <= max(1, reach // 4)
    sign = 1.0 if mean[core].mean() >= mean[radius >= round(0.75 * reach)].mean() else -1.0
    profile *= sign
    groups = sums / np.maximum(counts, 1)[:, None, None, None]
    error = float(np.std([group[core].mean() for group in groups], ddof=1)) / np.sqrt(GROUPS)
    top = int(np.argmax(profile[: max(2, reach // 2)]))
    if sign * (mean[core].mean() - mean[~core].mean()) < SIGNIFICANT * max(error, 1e-12):
        return MeanParticle(None, None, np.inf, n)
    below = np.flatnonzero(profile[top:] < 0.5 * profile[top])
    if not below.size:
        return MeanParticle(None, None, np.inf, n)
    outer = top + int(below[0])
    inner, drop = profile[outer - 1], profile[outer - 1] - profile[outer]
    half_width = outer - 1 + (inner - 0.5 * profile[top]) / max(drop, 1e-12)
    near = radius <= half_width + 2

    def centroid(volume: NDArray[np.float64]) -> NDArray[np.float64]:
        weight = np.where(near, sign * (volume - volume[~near].mean()) - 0.3 * profile[top], 0).clip(min=0)
        result: NDArray[np.float64] = (grid * weight).sum(axis=(1, 2, 3)) / max(float(weight.sum()), 1e-12)
        return result

    without = np.stack([centroid((sums.sum(axis=0) - sums[g]) / (n - counts[g])) for g in range(GROUPS)])
    offset_error = float(np.sqrt((GROUPS - 1) * without.var(axis=0)).max())
    return MeanParticle(2 * (half_width + 0.5) * spacing, centroid(mean), offset_error, n)


def check_box_size(
    box_angstrom: float, box_size: int, mean: MeanParticle, stated_diameter_angstrom: float | None
) -> Finding:
    """Compare the box with the particle's diameter, stated or measured."""
    estimate = mean.diameter_angstrom
    measured = {"box_angstrom": box_angstrom, "diameter_seen_angstrom": estimate, "boxes": mean.boxes}
    box = f"the box of {box_size} voxels is {box_angstrom:.0f} A wide"
    diameter = stated_diameter_angstrom or estimate
    if diameter is None:
        reason = (
            f"{mean.boxes} boxes are too few"
            if mean.boxes < 4 * GROUPS
            else f"the mean of {mean.boxes} boxes shows no density"
        )
        sentence = f"{box} and {reason} to measure the particle's size; state --particle-diameter"
        return Finding("box size", "note", sentence, measured)
    origin = (
        f"the stated diameter of the particle is {diameter:.0f} A"
        if stated_diameter_angstrom
        else f"the mean of {mean.boxes} boxes shows a density about {diameter:.0f} A across"
    )
    ratio = box_angstrom / diameter
    best = int(np.ceil(1.5 * diameter / (box_angstrom / box_size) / 2) * 2)
    if ratio < MIN_RATIO:
        sentence = f"{box} and {origin}, so particles are cut off or barely fit; take --box-size {best} or more"
        return Finding("box size", "error" if ratio < 0.8 else "warning", sentence, measured)
    if ratio > MAX_RATIO:
        sentence = f"{box} and {origin}, so boxes hold mostly neighbors; --box-size {best} is enough"
        return Finding("box size", "warning", sentence, measured)
    if stated_diameter_angstrom and estimate and not 0.5 <= estimate / stated_diameter_angstrom <= 1.6:
        sentence = (
            f"{box} and {origin}, but the mean of {mean.boxes} boxes shows about {estimate:.0f} A; check voxel spacing "
            "and picks"
        )
        return Finding("box size", "warning", sentence, measured)
    return Finding("box size", "ok", f"{box} and {origin}", measured)


def check_centering(mean: MeanParticle) -> Finding | None:
    """Check that the mean density lies where the picks are; None where no density is significant."""
    if mean.offset_zyx_voxels is None:
        return None
    offset = mean.offset_zyx_voxels
    measured = {"offset_zyx_voxels": [round(float(v), 2) for v in offset], "error_voxels": mean.offset_error_voxels}
    listed = ", ".join(f"{value:+.1f}" for value in offset)
    if np.abs(offset).max() > max(OFF_CENTER_VOXELS, 4 * mean.offset_error_voxels):
        sentence = (
            f"on average particles lie {listed} voxels (z, y, x) beside the picks; check how positions are counted "
            "(corner or center, from 0 or from 1) and the binning"
        )
        return Finding("centering", "warning", sentence, measured)
    return Finding("centering", "ok", f"on average particles lie {listed} voxels (z, y, x) from the picks", measured)
