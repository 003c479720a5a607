"""Is protein bright or dark in the files? Measured at the picks of all tomograms together.

No file format states its contrast. Density must be positive in memory, so the sign of dark files is turned: where the
user states it (``--inverted``), and where the picks show it clearly. A statement that the picks clearly contradict is
refused, and where nothing is clear the statement holds.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import erf, sqrt

import numpy as np
from numpy.typing import NDArray

from tomosift.conventions import center_index
from tomosift.data.checks.findings import Finding, count_noun, join_names
from tomosift.data.extraction.crop import crop_box
from tomosift.data.extraction.tomograms import Tomogram

CLEAR = 5.0
"""Standard errors of the mean difference between center and rim from which on its sign is clear. False picks make the
difference smaller; crowded neighbors can reverse it, but not that far."""
CLEAR_IN_ONE = 4.0
"""The same for a single tomogram, where it contradicts another one."""
_SMALLEST_BOX, _FEWEST_BOXES, _MOST_BOXES = 8, 5, 400


@dataclass(frozen=True)
class Contrast:
    """Whether density at the picks is higher or lower in the files than around them."""

    sign: int
    """+1: protein is bright in the files; -1: it is dark; 0: undecided."""
    standard_errors: float
    """Mean difference between center and rim in its standard errors, negative for dark."""
    boxes: int
    """Number of boxes compared."""

    @property
    def confidence(self) -> float:
        """Probability that chance alone, with as many boxes, would have shown a weaker difference."""
        return erf(abs(self.standard_errors) / sqrt(2))


def compare_center_and_rim(boxes: Iterable[NDArray[np.float32]]) -> NDArray[np.float64]:
    """Return for each box the mean within a quarter of its edge minus the mean of its rim, in standard deviations.

    The rim is the shell between 0.4 and 0.5 box sizes, so a box of about twice the particle's diameter works best.
    Boxes that are constant or hold values that are no numbers are left out.
    """
    differences = []
    core = rim = np.zeros(0, dtype=bool)
    for box in boxes:
        if core.shape != box.shape:
            radius = np.linalg.norm(np.indices(box.shape) - center_index(len(box)), axis=0) / len(box)
            core, rim = radius <= 0.25, (radius > 0.4) & (radius <= 0.5)
        deviation = float(box.std(dtype=np.float64))
        if np.isfinite(deviation) and deviation > 0:
            differences.append((box[core].mean(dtype=np.float64) - box[rim].mean(dtype=np.float64)) / deviation)
    return np.asarray(differences, dtype=np.float64)


def estimate_contrast(differences: NDArray[np.float64], clear: float = CLEAR) -> Contrast:
    """Test the differences of `compare_center_and_rim` against zero.

    Examples
    --------
    >>> import numpy as np
    >>> from tomosift.data.checks.contrast import estimate_contrast
    >>> estimate_contrast(np.array([-0.4, -0.5, -0.6, -0.4, -0.5, -0.6])).sign
    -1
    """
    if len(differences) < _FEWEST_BOXES:
        return Contrast(0, 0.0, len(differences))
    error = max(float(differences.std(ddof=1)) / np.sqrt(len(differences)), 1e-12)
    errors = float(differences.mean()) / error
    return Contrast(int(np.sign(errors)) if abs(errors) >= clear else 0, errors, len(differences))


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
    size = _common_box(tomograms, position_of, box_angstrom)
    share = max(_FEWEST_BOXES, _MOST_BOXES // max(len(position_of), 1))
    differences = {
        name: compare_center_and_rim(_crop_whole(tomograms[name], position, size, share))
        for name, position in position_of.items()
    }
    every = np.concatenate([np.zeros(0), *differences.values()])
    by_sign: dict[int, list[str]] = {1: [], -1: [], 0: []}
    for name, values in differences.items():
        by_sign[estimate_contrast(values, CLEAR_IN_ONE).sign].append(name)
    if by_sign[1] and by_sign[-1]:
        sentence = (
            f"picked positions are dark in {join_names(by_sign[-1])} and bright in {join_names(by_sign[1])}; bring the "
            "tomograms to one contrast, or check the picks"
        )
        is_inverted, finding = is_stated_inverted, Finding("contrast", "error", sentence, {"boxes": len(every)})
    else:
        is_inverted, finding = _conclude(estimate_contrast(every), len(position_of), is_stated_inverted)
    return {name: replace(one, is_inverted=is_inverted) for name, one in tomograms.items()}, finding


def decide_contrast_of_boxes(boxes: Iterable[NDArray[np.float32]], is_stated_inverted: bool) -> tuple[bool, Finding]:
    """Return whether the sign of subtomograms of another program is to be turned, and the finding that says how."""
    return _conclude(estimate_contrast(compare_center_and_rim(boxes)), 0, is_stated_inverted)


def _conclude(contrast: Contrast, tomograms: int, is_stated_inverted: bool) -> tuple[bool, Finding]:
    measured = {"standard_errors": contrast.standard_errors, "boxes": contrast.boxes, "sign_in_files": contrast.sign}
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
    sentence = (
        f"{where} are neither clearly brighter nor darker than their surroundings; protein is taken to be {stated}"
    )
    return is_stated_inverted, Finding("contrast", "note", sentence, measured)


def _common_box(
    tomograms: Mapping[str, Tomogram], position_of: Mapping[str, NDArray[np.float64]], box_angstrom: float
) -> float:
    """Edge of the boxes in Angstrom: in thin tomograms no large box lies wholly inside."""
    for factor in (1.0, 0.75, 0.5):
        edge = factor * box_angstrom
        whole = sum(len(_whole_centers(tomograms[name], position, edge)) for name, position in position_of.items())
        if whole >= min(4 * _FEWEST_BOXES, sum(map(len, position_of.values())) / 2):
            return edge
    # Much smaller boxes would compare a particle with itself.
    return 0.5 * box_angstrom


def _whole_centers(tomogram: Tomogram, position: NDArray[np.float64], edge_angstrom: float) -> NDArray[np.float64]:
    """Nearest voxels to the positions whose boxes lie wholly in the tomogram."""
    centers = np.rint(position / tomogram.grid.voxel_spacing_angstrom)
    size = max(_SMALLEST_BOX, round(edge_angstrom / tomogram.grid.voxel_spacing_angstrom))
    low = centers - center_index(size)
    return np.asarray(centers[((low >= 0) & (low + size <= np.asarray(tomogram.grid.shape_zyx))).all(axis=1)])


def _crop_whole(
    tomogram: Tomogram, position: NDArray[np.float64], edge_angstrom: float, most: int
) -> Iterable[NDArray[np.float32]]:
    """At most so many whole boxes, as in the file."""
    centers = _whole_centers(tomogram, position, edge_angstrom)
    if not len(centers):
        return
    size = max(_SMALLEST_BOX, round(edge_angstrom / tomogram.grid.voxel_spacing_angstrom))
    data = tomogram.open().data
    for center in centers[np.unique(np.linspace(0, len(centers) - 1, most).astype(int))]:
        yield crop_box(data, center, size).volume
