"""Tomograms on disk, from which particles are cropped."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import erf, sqrt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomosift.acquisition import Acquisition
from tomosift.conventions import center_index
from tomosift.data.extraction.crop import crop_box
from tomosift.errors import FormatError
from tomosift.io.tomogram_names import NameMatch, match_names
from tomosift.io.volumes import Volume, open_volume
from tomosift.particles import Grid

UNKNOWN_ACQUISITION = Acquisition(np.zeros(0), np.zeros(0), np.zeros(0))
SIGNIFICANT = 4.0
"""Standard errors of the mean difference between center and rim from which on its sign is reported."""


@dataclass(frozen=True, eq=False)
class Tomogram:
    """A tomogram that is opened when it is needed.

    ``is_inverted`` states that density is dark in the file; `crop` then changes the sign, so that density is positive
    in memory. The user states it, or `estimate_contrast` finds it; no file format records it.
    """

    name: str
    path: Path
    grid: Grid
    acquisition: Acquisition = UNKNOWN_ACQUISITION
    half_paths: tuple[Path, Path] | None = None
    """The tomograms of the even and the odd frames or tilts, on the same grid."""
    is_inverted: bool = False

    def open(self) -> Volume:
        """Open the volume as in the file, without reading it."""
        return open_volume(self.path)

    def crop(self, center_zyx_voxel: NDArray[Any] | Sequence[float | int], box_size: int) -> NDArray[np.float32]:
        """Read the box ``(d, d, d)`` around a position.

        Reads no more than the box, and its surroundings where the center lies between voxels (see
        `tomosift.data.extraction.crop`). Voxels beyond the tomogram get the mean of the others.

        Parameters
        ----------
        center_zyx_voxel
            (3,) position of voxel ``d // 2`` of the box, in voxels from the center of voxel 0 of the tomogram.
        box_size
            Edge of the box in voxels of the tomogram.

        Raises
        ------
        ValueError
            No voxel of the box lies in the tomogram.
        """
        box = crop_box(self.open().data, np.asarray(center_zyx_voxel, dtype=np.float64), box_size).volume
        return -box if self.is_inverted else box


def open_tomogram(
    name: str,
    path: Path,
    voxel_spacing_angstrom: float | None = None,
    half_paths: tuple[Path, Path] | None = None,
) -> Tomogram:
    """Return a tomogram after reading the headers of its files.

    Raises
    ------
    FormatError
        A file is no volume, states no voxel spacing where none is given, or a half has another shape.
    """
    grid = open_volume(path).grid(voxel_spacing_angstrom)
    for half in half_paths or ():
        shape = open_volume(half).shape_zyx
        if shape != grid.shape_zyx:
            got, expected = f"of shape {shape} (z, y, x)", f"{grid.shape_zyx} as {path.name}"
            advice = "move it away or reconstruct it on the same grid"
            raise FormatError(half, "the half tomogram", got, expected, advice)
    return Tomogram(name, path, grid, UNKNOWN_ACQUISITION, half_paths)


@dataclass(frozen=True)
class Contrast:
    """Whether picked positions are brighter or darker in memory than their surroundings."""

    sign: int
    """+1: density is positive, as it should be; -1: it is negative, so ``is_inverted`` is stated the wrong way round;
    0: undecided."""
    confidence: float
    """Probability that chance alone, with as many boxes, would have shown a weaker difference."""
    boxes: int
    """Number of boxes compared."""


def estimate_contrast(
    tomogram: Tomogram, position_zyx_angstrom: NDArray[np.float64], box_size: int, most_boxes: int = 200
) -> Contrast:
    """Compare the mean within a quarter of the box size around each pick with the mean of the box's rim.

    The rim is the shell between 0.4 and 0.5 box sizes, so a box of about twice the particle's diameter works best.
    The difference, in standard deviations of each box, is tested against zero over all boxes. False picks weaken the
    test; crowded neighbors can reverse its sign, hence a sign is reported only beyond four standard errors.

    Parameters
    ----------
    position_zyx_angstrom
        (n, 3) picks.
    box_size
        In voxels of the tomogram.
    most_boxes
        Picks beyond this number are thinned out evenly.

    Raises
    ------
    ValueError
        The box is smaller than 8 voxels, or no box lies wholly in the tomogram.
    """
    if box_size < 8:
        raise ValueError(f"box size is {box_size} voxels, expected at least 8 to separate center from rim")
    centers = _centers_of_whole_boxes(tomogram, position_zyx_angstrom, box_size)
    centers = centers[np.unique(np.linspace(0, len(centers) - 1, most_boxes).astype(int))]
    radius = np.linalg.norm(np.indices((box_size,) * 3) - center_index(box_size), axis=0) / box_size
    core, rim = radius <= 0.25, (radius > 0.4) & (radius <= 0.5)
    data, sign = tomogram.open().data, -1.0 if tomogram.is_inverted else 1.0
    differences = []
    for center in centers:
        box = sign * crop_box(data, center, box_size).volume.astype(np.float64)
        if np.isfinite(box).all() and box.std() > 0:
            differences.append((box[core].mean() - box[rim].mean()) / box.std())
    if len(differences) < 2:
        return Contrast(0, 0.0, len(differences))
    values = np.asarray(differences)
    errors = float(values.mean() / max(values.std(ddof=1) / np.sqrt(len(values)), 1e-12))
    return Contrast(int(np.sign(errors)) if abs(errors) >= SIGNIFICANT else 0, erf(abs(errors) / sqrt(2)), len(values))


def _centers_of_whole_boxes(
    tomogram: Tomogram, position_zyx_angstrom: NDArray[np.float64], box_size: int
) -> NDArray[np.float64]:
    """Nearest voxels to the positions whose boxes lie wholly in the tomogram."""
    centers = np.rint(position_zyx_angstrom / tomogram.grid.voxel_spacing_angstrom)
    low = centers - center_index(box_size)
    is_whole = ((low >= 0) & (low + box_size <= np.asarray(tomogram.grid.shape_zyx))).all(axis=1)
    if not is_whole.any():
        raise ValueError(
            f"none of {len(centers)} boxes of {box_size} voxels lies wholly in {tomogram.name}; "
            "check the positions and the voxel spacing, or take a smaller box"
        )
    return np.asarray(centers[is_whole])


def find_tomograms(names: Iterable[str], tomograms: Mapping[str, Tomogram]) -> NameMatch:
    """Find the tomogram behind each name that particles use, by the rule of `tomosift.io.tomogram_names`.

    Parameters
    ----------
    names
        Tomogram names of the particles.
    tomograms
        By name, as of `open_tomograms`.
    """
    return match_names(names, {key: [str(tomogram.path)] for key, tomogram in tomograms.items()})


def match_tomograms(names: Iterable[str], tomograms: Mapping[str, Tomogram]) -> dict[str, str]:
    """Return the key of the tomogram behind each name that particles use.

    Raises
    ------
    ValueError
        A name has no tomogram, or several; the message lists both sides.
    """
    match = find_tomograms(names, tomograms)
    if fault := match.describe_fault(list(tomograms)):
        raise ValueError(fault)
    return match.key_of
