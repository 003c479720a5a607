"""Common mistakes in coordinates, each as a hypothesis: where the picks would lie if it were corrected."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

FITTING_SHARE = 0.98
"""Share of the picks that must lie inside under a hypothesis before it is offered."""
_FILLED = 0.3  # share of the extent in y and x that corrected picks fill, for any set of points fits into a corner
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


def is_inside(voxel_zyx: NDArray[np.float64], shape_zyx: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return whether each position lies in its volume (n,), up to half a voxel beyond the outermost centers."""
    return np.asarray(((voxel_zyx >= -0.5) & (voxel_zyx <= shape_zyx - 0.5)).all(axis=1), dtype=np.bool_)


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """A mistake in the coordinates, and the picks after its correction."""

    name: str
    change: str
    """What is done to the picks, as a clause."""
    advice: str
    """What seems to be wrong and what to do, as a clause."""
    voxel_zyx: NDArray[np.float64]
    """(n, 3) in voxels of the tomogram."""
    handicap: float = 0.0
    """Larger for rarer mistakes, to choose where several fit alike; subtracted from the filled share of the volume."""
    shift_voxels: float = 0.0
    """Length of a common offset."""
    tomogram: NDArray[Any] | None = None
    """(n,) key of each pick's tomogram, where it is another one."""

    def fits(self, shape_zyx: NDArray[np.float64]) -> bool:
        """Return whether the picks lie inside and fill a good part of the volume."""
        return float(is_inside(self.voxel_zyx, shape_zyx).mean()) >= FITTING_SHARE and self.filled(shape_zyx) > _FILLED

    def filled(self, shape_zyx: NDArray[np.float64]) -> float:
        """Return the share of the extent in y and x over which the picks are distributed."""
        extent = np.minimum(np.ptp(self.voxel_zyx / shape_zyx, axis=0), 1)
        return float(np.sqrt(extent[1] * extent[2]))


def list_mistakes(picks: PickGeometry) -> Iterator[Hypothesis]:
    """Yield the corrections of mistakes that move picks out of their volume: other origins, axes and scales."""
    yield from _other_origins(picks)
    yield from _other_axes(picks)
    yield from _other_scales(picks)


def list_mirrors(picks: PickGeometry) -> Iterator[Hypothesis]:
    """Yield the corrections that picks inside their volume do not show: mirrored axes, also after an exchange."""
    far = picks.shape_zyx - 1
    for order in permutations(range(3)):
        moved = picks.voxel_zyx[:, list(order)]
        swapped = "".join("zyx"[axis] for axis in order)
        for is_mirrored in product((False, True), repeat=3):
            axes = "".join(name for name, flag in zip("zyx", is_mirrored, strict=True) if flag)
            if not axes:
                continue
            voxel = np.where(is_mirrored, far - moved, moved)
            if order == (0, 1, 2):
                listed = " and ".join(axes)
                advice = f"mirror {listed} (size - 1 - coordinate), as for volumes of another program's handedness"
                handicap = 0.02 if axes == "z" else 0.04
                yield Hypothesis(
                    f"mirrored {axes}",
                    f"{listed} {'is' if len(axes) == 1 else 'are'} mirrored",
                    advice,
                    voxel,
                    handicap,
                )
            else:
                change = f"the axes are taken in the order {', '.join(swapped)} and {' and '.join(axes)} mirrored"
                advice = "the volume seems to be rotated against the picks; rotate it, or the coordinates"
                yield Hypothesis(f"axes {swapped} with {axes} mirrored", change, advice, voxel, 0.12)


def rescale(picks: PickGeometry, factor: float) -> Hypothesis:
    """Return the picks multiplied by this factor, about the center where the table counts from there."""
    center = picks.shape_zyx / 2 if picks.source == "relion5" else 0.0
    name = f"{factor:.3g} times too small" if factor > 1 else f"{1 / factor:.3g} times too large"
    change = f"they are multiplied by {factor:.3g}"
    advice = f"the coordinates seem to be {name}: correct the pixel size of the table or the voxel spacing"
    return Hypothesis(name, change, advice, center + (picks.voxel_zyx - center) * factor, 0.06)


def _other_origins(picks: PickGeometry) -> Iterator[Hypothesis]:
    half = picks.shape_zyx / 2
    change = "they count from the tomogram's center"
    advice = "the coordinates seem to count from the tomogram's center: declare this, or add half its size"
    yield Hypothesis("centered", change, advice, picks.voxel_zyx + half)
    change = "they count from the tomogram's corner"
    advice = (
        "the coordinates seem to count from the corner but were read as counting from the center: "
        "give them as rlnCoordinateX/Y/Z"
    )
    yield Hypothesis("corner", change, advice, picks.voxel_zyx - half)


def _other_axes(picks: PickGeometry) -> Iterator[Hypothesis]:
    for order in permutations(range(3)):
        if order != (0, 1, 2):
            axes = "".join("zyx"[axis] for axis in order)
            change = f"z, y, x are read as {', '.join(axes)}"
            advice = f"the axes seem swapped: z, y, x are probably {', '.join(axes)}; exchange the columns"
            # Exchanging two axes is more common than a rotation of all three.
            handicap = 0.05 if sum(axis == k for k, axis in enumerate(order)) == 1 else 0.1
            yield Hypothesis(f"axes {axes}", change, advice, picks.voxel_zyx[:, list(order)], handicap)


def _other_scales(picks: PickGeometry) -> Iterator[Hypothesis]:
    if picks.source == "relion5":
        for factor in _FACTORS:
            yield rescale(picks, float(factor))
            yield rescale(picks, 1.0 / factor)
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
        advice = f"the coordinates seem to be {name}; correct the pixel size"
        yield Hypothesis(name, f"they are taken as {name}", advice, voxel * scale)
    for factor in _FACTORS:
        for size, binning, scaled in (("large", "less", voxel / factor), ("small", "more", voxel * factor)):
            name = f"{factor} times too {size}"
            change = f"they are {'divided' if size == 'large' else 'multiplied'} by {factor}"
            advice = (
                f"the coordinates seem to be {name}: pixels of data that are {factor} times {binning} binned; "
                "correct the pixel size"
            )
            yield Hypothesis(name, change, advice, scaled, 0.02)


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
    fitting = [hypothesis for hypothesis in list_mistakes(picks) if hypothesis.fits(shape)]
    if not fitting:
        return (
            "no other scale, order of axes or origin would bring them all inside; check that these are the tomograms "
            "that were picked",
            [],
        )
    fitting.sort(key=lambda one: one.handicap - one.filled(shape))
    names = [hypothesis.name for hypothesis in fitting]
    others = f" (it would also fit if they were: {', '.join(names[1:3])})" if len(names) > 1 else ""
    return fitting[0].advice + others, names
