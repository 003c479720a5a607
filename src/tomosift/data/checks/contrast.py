"""Is protein bright or dark in the files? Measured at the picks of all tomograms together.

No file format states its contrast. Density must be positive in memory, so the sign of dark files is turned: where the
user states it (``--inverted``), and where the picks show it clearly. A statement that the picks clearly contradict is
refused, and where nothing is clear the statement holds.

The difference between the mean within a quarter of the box size around a pick and the mean of the shell between 0.4 and
0.5 box sizes, in standard deviations of the box, is averaged over the boxes. The same is measured at positions with the
same z and random y and x and subtracted, so that the border of the ice does not count. The standard error takes the
larger scatter of the two, so that a few outliers such as gold beads decide nothing. False picks weaken the result and
do not turn it, for random positions show no difference. Picks beside their particles could turn it: nothing is decided
where the mean box deviates more strongly beside its center than in it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import erf, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter
from scipy.special import log_ndtr, ndtri_exp
from scipy.stats import t as student

from tomosift.conventions import center_index
from tomosift.data.checks.findings import Finding, count_noun, join_names
from tomosift.data.extraction.tomograms import Tomogram
from tomosift.io.volumes.volume import SupportsSlicing

CLEAR = 5.0
"""Standard errors of the mean difference between center and rim from which on its sign is clear, for all tomograms
together and for one that contradicts another one."""
_FEWEST_BOXES, _MOST_BOXES = 5, 240
_FEWEST_ELSEWHERE = 80  # positions of each tomogram for comparison, where a few picks have so many
_MOST_VOXELS = 4e8  # read for all boxes, so that finely sampled tomograms take seconds
_SMALLEST_BOX = 8  # voxels; center and rim of smaller ones touch
_CELLS = 8  # edge of the coarse mean box that shows whether density is centered
_OFF_CENTER = 1.5  # a deviation beside the picks, stronger by this factor, is another thing than the particle
_CORE, _RIM = 0.25, (0.4, 0.5)  # radii in box sizes


@dataclass(frozen=True)
class Contrast:
    """Whether density at the picks is higher or lower in the files than around them."""

    standard_errors: float
    """Mean difference between center and rim in its standard errors, negative for dark."""
    boxes: int
    """Number of boxes compared."""
    is_centered: bool = True
    """False where a stronger deviation lies beside the picks, which are then probably misplaced."""

    @property
    def sign(self) -> int:
        """+1: protein is bright in the files; -1: it is dark; 0: undecided."""
        is_clear = abs(self.standard_errors) >= CLEAR and self.boxes >= _FEWEST_BOXES and self.is_centered
        return int(np.sign(self.standard_errors)) if is_clear else 0

    @property
    def confidence(self) -> float:
        """Probability that chance alone, with as many boxes, would have shown a weaker difference."""
        return erf(abs(self.standard_errors) / sqrt(2))


@dataclass(frozen=True)
class BoxDifferences:
    """What is kept of the boxes at some positions."""

    value: NDArray[np.float64]
    """(n,) mean of the center less mean of the rim, in standard deviations of the box."""
    coarse: NDArray[np.float64]
    """(c, c, c) sum of the boxes, coarsely binned, in the same unit."""


def measure_differences(
    tomograms: Mapping[str, Tomogram], position_of: Mapping[str, NDArray[np.float64]], box_angstrom: float
) -> dict[str, tuple[BoxDifferences, BoxDifferences]]:
    """Compare centers and rims of boxes at the picks, and at other positions of the same z; contrast as in the files.

    Parameters
    ----------
    tomograms
        By name.
    position_of
        Tomogram name -> (n, 3) picks in Angstrom; tomograms without an entry are not read.
    box_angstrom
        Edge of the boxes; about twice the particle's diameter works best.
    """
    result = {}
    for name, position in position_of.items():
        grid, data = tomograms[name].grid, tomograms[name].open().data
        size = max(_SMALLEST_BOX, round(box_angstrom / grid.voxel_spacing_angstrom))
        most = int(np.clip(_MOST_VOXELS / (2 * size**3), _FEWEST_BOXES, _MOST_BOXES)) // len(position_of)
        centers = _thin_out(position / grid.voxel_spacing_angstrom, max(2, most), size)
        repeats = int(np.clip(np.ceil(_FEWEST_ELSEWHERE / len(centers)), 1, 4))
        elsewhere = _move_within_plane(np.tile(centers, (repeats, 1)), grid.shape_zyx)
        result[name] = (_measure_boxes(data, centers, size), _measure_boxes(data, elsewhere, size))
    return result


def estimate_contrast(at_picks: list[BoxDifferences], elsewhere: list[BoxDifferences]) -> Contrast:
    """Test the differences at the picks against those elsewhere or, where there are few of those, against zero."""
    value, other = (np.concatenate([np.zeros(0), *(one.value for one in some)]) for some in (at_picks, elsewhere))
    n = len(value)
    if n < 2:
        return Contrast(0.0, n)
    if len(other) < _FEWEST_BOXES:
        return Contrast(
            _as_normal(float(value.mean()), float(value.std(ddof=1)) / sqrt(n), n - 1), n, _is_centered(at_picks, [])
        )
    scatter = float(other.var(ddof=1))
    error = sqrt(max(float(value.var(ddof=1)), scatter) / n + scatter / len(other))
    errors = float(value.mean() - other.mean()) / max(error, 1e-9)
    return Contrast(errors, n, _is_centered(at_picks, elsewhere))


def decide_contrast(
    tomograms: Mapping[str, Tomogram],
    position_of: Mapping[str, NDArray[np.float64]],
    box_angstrom: float,
    is_stated_inverted: bool,
) -> tuple[dict[str, Tomogram], Finding]:
    """Return the tomograms with the sign of their density decided, and the finding that says how.

    Parameters
    ----------
    tomograms
        By name.
    position_of
        Tomogram name -> (n, 3) picks in Angstrom, of the tomograms that are to be read.
    box_angstrom
        Edge of the boxes to be extracted.
    is_stated_inverted
        The user states that density is dark in the files.
    """
    pairs = measure_differences(tomograms, position_of, box_angstrom)
    every = estimate_contrast([pair[0] for pair in pairs.values()], [pair[1] for pair in pairs.values()])
    by_sign: dict[int, list[str]] = {1: [], -1: [], 0: []}
    for name, (at_picks, elsewhere) in pairs.items():
        by_sign[estimate_contrast([at_picks], [elsewhere]).sign].append(name)
    if by_sign[1] and by_sign[-1]:
        sentence = (
            f"picked positions are dark in {join_names(by_sign[-1])} and bright in {join_names(by_sign[1])}; bring the "
            "tomograms to one contrast, or check the picks"
        )
        is_inverted, finding = is_stated_inverted, Finding("contrast", "error", sentence, {"boxes": every.boxes})
    else:
        is_inverted, finding = _conclude(every, len(position_of), is_stated_inverted)
    return {name: replace(one, is_inverted=is_inverted) for name, one in tomograms.items()}, finding


def decide_contrast_of_boxes(boxes: Iterable[NDArray[np.float32]], is_stated_inverted: bool) -> tuple[bool, Finding]:
    """Return whether the sign of subtomograms of another program is to be turned, and the finding that says how."""
    parts = [
        _measure_boxes(box, np.full((1, 3), center_index(len(box))), len(box))
        for box in boxes
        if len(box) >= _SMALLEST_BOX
    ]
    return _conclude(estimate_contrast(parts, []), 0, is_stated_inverted)


def _conclude(contrast: Contrast, tomograms: int, is_stated_inverted: bool) -> tuple[bool, Finding]:
    measured = {
        "standard_errors": contrast.standard_errors,
        "confidence": contrast.confidence,
        "boxes": contrast.boxes,
        "sign_in_files": contrast.sign,
    }
    inside = f" in {count_noun(tomograms, 'tomogram')}" if tomograms else ""
    where = f"the centers of {contrast.boxes} boxes{inside}"
    errors = f"by {abs(contrast.standard_errors):.0f} standard errors"
    if contrast.sign < 0:
        done = "as stated" if is_stated_inverted else "so protein is taken to be dark in the files"
        sentence = f"{where} are darker than their surroundings {errors}, {done}; the sign of the density is turned"
        return True, Finding("contrast", "ok" if is_stated_inverted else "note", sentence, measured)
    if contrast.sign > 0 and is_stated_inverted:
        sentence = (
            f"--inverted states that protein is dark, but {where} are brighter than their surroundings {errors}; leave "
            "out --inverted, or check the picks"
        )
        return True, Finding("contrast", "error", sentence, measured)
    if contrast.sign > 0:
        sentence = f"{where} are brighter than their surroundings {errors}, as needed"
        return False, Finding("contrast", "ok", sentence, measured)
    stated = "dark, as stated by --inverted" if is_stated_inverted else "bright; state --inverted if it is dark"
    reason = "are neither clearly brighter nor darker than their surroundings"
    if not contrast.is_centered:
        reason = "differ less from the mean than what lies beside them, so nothing is concluded"
    sentence = f"{where} {reason}; protein is taken to be {stated}"
    return is_stated_inverted, Finding("contrast", "note", sentence, measured)


def _thin_out(center_zyx_voxel: NDArray[np.float64], most: int, box_size: int) -> NDArray[np.int_]:
    """Nearest voxels to some of the picks; of those in one cell of a quarter of a box one, for copies prove nothing."""
    cell = np.unique(np.floor(center_zyx_voxel / (box_size / 4)), axis=0, return_index=True)[1]
    kept = center_zyx_voxel[np.sort(cell)]
    some = kept[np.unique(np.linspace(0, len(kept) - 1, most).astype(int))]
    return np.asarray(np.rint(some), dtype=int)


def _move_within_plane(center_zyx_voxel: NDArray[np.int_], shape_zyx: tuple[int, ...]) -> NDArray[np.int_]:
    """Positions with the same z and random y and x."""
    rng = np.random.default_rng([len(center_zyx_voxel), *shape_zyx])
    moved = center_zyx_voxel.copy()
    moved[:, 1:] = rng.integers(0, shape_zyx[1:], size=(len(moved), 2))
    return moved


def _measure_boxes(data: SupportsSlicing, centers: NDArray[np.int_] | NDArray[np.float64], size: int) -> BoxDifferences:
    """Measure the boxes that lie at least three quarters inside; voxels beyond the volume are left out."""
    if size > max(data.shape):
        return BoxDifferences(np.zeros(0), np.zeros((_CELLS,) * 3))
    radius = np.linalg.norm(np.indices((size,) * 3) - center_index(size), axis=0) / size
    core, rim = radius <= _CORE, (radius > _RIM[0]) & (radius <= _RIM[1])
    shape = np.asarray(data.shape)
    edges = np.linspace(0, size, _CELLS + 1).round().astype(int)[:-1]
    coarse, differences = np.zeros((_CELLS,) * 3), []
    for center in centers:
        low = center - center_index(size)
        start, stop = np.maximum(low, 0), np.minimum(low + size, shape)
        if (stop <= start).any():
            continue
        inside = tuple(slice(a, b) for a, b in zip(start - low, stop - low, strict=True))
        if core[inside].sum() < 0.75 * core.sum() or rim[inside].sum() < 0.25 * rim.sum():
            continue
        box = np.asarray(data[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))], dtype=np.float64)
        deviation = box.std()
        if not np.isfinite(deviation) or deviation == 0:
            continue
        differences.append((box[core[inside]].mean() - box[rim[inside]].mean()) / deviation)
        whole = np.zeros((size,) * 3)
        whole[inside] = (box - box.mean()) / deviation
        for axis in range(3):
            whole = np.add.reduceat(whole, edges, axis=axis)
        coarse += whole
    return BoxDifferences(np.asarray(differences, dtype=np.float64), coarse / (size / _CELLS) ** 3)


def _as_normal(mean: float, error: float, degrees: int) -> float:
    """The normal deviate that is as improbable as this value of Student's t."""
    log_tail = float(student.logsf(abs(mean) / max(error, 1e-9), degrees))
    return float(np.copysign(ndtri_exp(max(log_tail, float(log_ndtr(-30.0)))), mean))


def _is_centered(at_picks: list[BoxDifferences], elsewhere: list[BoxDifferences]) -> bool:
    """Whether no deviation of the mean box, beside its center, is clearly stronger than the one in its center."""

    def mean(boxes: list[BoxDifferences]) -> NDArray[np.float64]:
        count = max(1, sum(len(one.value) for one in boxes))
        return np.asarray(np.sum([one.coarse for one in boxes], axis=0) / count)

    deviation = mean(at_picks) - (mean(elsewhere) if elsewhere else 0.0)
    smooth = np.abs(uniform_filter(deviation - np.median(deviation), 3, mode="constant"))
    radius = np.linalg.norm((np.indices(smooth.shape) + 0.5) / _CELLS - 0.5, axis=0)
    return bool(smooth[radius > 0.3].max() <= _OFF_CENTER * smooth[radius <= 0.2].max())
