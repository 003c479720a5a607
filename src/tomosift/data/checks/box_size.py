"""Does the box fit the particle, and does the particle sit in its middle? Read off the mean of many boxes."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tomosift.conventions import center_index
from tomosift.data.checks.findings import Finding
from tomosift.data.extraction.crop import crop_box
from tomosift.data.extraction.tomograms import Tomogram

SURE = 5.0
"""Standard errors by which the mean must stand out before its size is believed."""
GROUPS = 5
"""Leave-one-out groups behind the standard errors."""
ROOMY = 1.25
"""Box over diameter below which neighbors and the missing wedge have no room."""
WASTEFUL = 4.0
"""Box over diameter above which a box is mostly neighbors."""
OFF_CENTER_VOXELS = 1.0


@dataclass(frozen=True)
class MeanParticle:
    """What the mean of unturned boxes shows."""

    diameter_angstrom: float | None
    """Full width at half height of the radial profile; None where nothing stands out."""
    offset_zyx_voxels: NDArray[np.float64] | None
    """(3,) center of mass of what stands out, from where the picks are, in voxels of the tomogram."""
    offset_error_voxels: float
    """Standard error of the largest of them."""
    boxes: int


def mean_particle(
    tomograms: Mapping[str, Tomogram],
    position_of: Mapping[str, NDArray[np.float64]],
    edge_angstrom: float,
    most_boxes: int = 240,
) -> MeanParticle:
    """Average boxes at the picks of these tomograms, on the voxels of the file, and measure what is in the middle.

    Poses are not undone, so long particles look round and about as wide as they are on average. Tomograms whose voxel
    spacing is another than the first one's are left out.
    """
    spacing = next(iter(tomograms.values())).grid.voxel_spacing_angstrom
    size = int(np.clip(round(edge_angstrom / spacing), 12, 96))
    sums, counts = np.zeros((GROUPS, size, size, size)), np.zeros(GROUPS, dtype=int)
    taken = 0
    for name, position in position_of.items():
        tomogram = tomograms[name]
        if abs(tomogram.grid.voxel_spacing_angstrom / spacing - 1) > 1e-3:
            continue
        data, share = tomogram.open().data, max(1, most_boxes // len(position_of))
        some = position[np.unique(np.linspace(0, len(position) - 1, share).astype(int))]
        for center in np.rint(some / spacing):
            if (center < 0).any() or (center >= np.asarray(data.shape)).any():
                continue
            box = crop_box(data, center, size).volume.astype(np.float64)
            spread = box.std()
            if np.isfinite(spread) and spread > 0:
                sums[taken % GROUPS] += (box - box.mean()) / spread
                counts[taken % GROUPS] += 1
                taken += 1
    if taken < 4 * GROUPS:
        return MeanParticle(None, None, np.inf, taken)
    return _measured(sums, counts, spacing)


def _measured(sums: NDArray[np.float64], counts: NDArray[np.int_], spacing: float) -> MeanParticle:
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
    if sign * (mean[core].mean() - mean[~core].mean()) < SURE * max(error, 1e-12):
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


def check_box(
    box_angstrom: float, box_size: int, found: MeanParticle, stated_diameter_angstrom: float | None
) -> Finding:
    """The box against the particle's diameter, stated or seen."""
    seen = found.diameter_angstrom
    measured = {"box_angstrom": box_angstrom, "diameter_seen_angstrom": seen, "boxes": found.boxes}
    box = f"the box of {box_size} voxels is {box_angstrom:.0f} A wide"
    diameter = stated_diameter_angstrom or seen
    if diameter is None:
        few = (
            f"{found.boxes} boxes are too few"
            if found.boxes < 4 * GROUPS
            else f"nothing stands out in the mean of {found.boxes} boxes"
        )
        sentence = f"{box} and {few} to tell the particle's size; state --particle-diameter"
        return Finding("box size", "note", sentence, measured)
    which = (
        f"the particle, as stated, {diameter:.0f} A"
        if stated_diameter_angstrom
        else f"the mean of {found.boxes} boxes shows something about {diameter:.0f} A across"
    )
    ratio = box_angstrom / diameter
    want = int(np.ceil(1.5 * diameter / (box_angstrom / box_size) / 2) * 2)
    if ratio < ROOMY:
        sentence = f"{box} and {which}, so particles are cut off or barely fit; take --box-size {want} or more"
        return Finding("box size", "error" if ratio < 0.8 else "warning", sentence, measured)
    if ratio > WASTEFUL:
        sentence = f"{box} and {which}, so boxes hold mostly neighbors; --box-size {want} would do"
        return Finding("box size", "warning", sentence, measured)
    if stated_diameter_angstrom and seen and not 0.5 <= seen / stated_diameter_angstrom <= 1.6:
        sentence = (
            f"{box} and {which}, but the mean of {found.boxes} boxes shows about {seen:.0f} A; check voxel spacing and "
            "picks"
        )
        return Finding("box size", "warning", sentence, measured)
    return Finding("box size", "ok", f"{box} and {which}", measured)


def check_centering(found: MeanParticle) -> Finding | None:
    """Whether what stands out in the mean box lies where the picks are; None where nothing stands out."""
    if found.offset_zyx_voxels is None:
        return None
    offset = found.offset_zyx_voxels
    measured = {"offset_zyx_voxels": [round(float(v), 2) for v in offset], "error_voxels": found.offset_error_voxels}
    shown = ", ".join(f"{value:+.1f}" for value in offset)
    if np.abs(offset).max() > max(OFF_CENTER_VOXELS, 4 * found.offset_error_voxels):
        sentence = (
            f"on average particles lie {shown} voxels (z, y, x) beside the picks; check how positions are counted "
            "(corner or center, from 0 or from 1) and the binning"
        )
        return Finding("centering", "warning", sentence, measured)
    return Finding("centering", "ok", f"on average particles lie {shown} voxels (z, y, x) from the picks", measured)
