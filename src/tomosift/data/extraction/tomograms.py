"""Tomograms on disk: what a particle is cut from."""

import re
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
from tomosift.io.volumes import VOLUME_SUFFIXES, Volume, open_volume
from tomosift.particles import Grid

UNKNOWN_ACQUISITION = Acquisition(np.zeros(0), np.zeros(0), np.zeros(0))
SURE = 4.0
"""Standard errors of the mean between center and rim that make a contrast certain."""
_FRAME_SUFFIXES = (".tomostar", ".star", ".xml", ".mdoc", ".gz", ".bz2")
_PREFIXES = ("rec_",)
_TRAILERS = re.compile(r"(_\d+(\.\d+)?apx|_rec|_vol|_bin\d+)$", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Tomogram:
    """A tomogram that is opened when it is needed.

    ``inverted`` states that density is dark in the file; `crop` then turns the sign, so that density is positive in
    memory. It is stated by the user, or found by `estimate_contrast`; no file format says it.
    """

    name: str
    path: Path
    grid: Grid
    acquisition: Acquisition = UNKNOWN_ACQUISITION
    half_paths: tuple[Path, Path] | None = None
    """The tomograms of the even and the odd frames or tilts, on the same grid."""
    is_inverted: bool = False

    def open(self) -> Volume:
        """The volume as in the file, not read."""
        return open_volume(self.path)

    def crop(self, center_zyx_voxel: NDArray[Any] | Sequence[float | int], box_size: int) -> NDArray[np.float32]:
        """The box ``(d, d, d)`` whose voxel ``d // 2`` lies at this place, counted from the center of voxel 0.

        Reads no more than the box, and its surroundings where the center lies between voxels (see `cutting`). Voxels
        beyond the tomogram get the mean of those that are not.

        Raises
        ------
        ValueError
            No voxel of the box lies in the tomogram.
        """
        box = crop_box(self.open().data, np.asarray(center_zyx_voxel, dtype=np.float64), box_size).volume
        return -box if self.is_inverted else box


@dataclass(frozen=True)
class Contrast:
    """Whether picked places are brighter or darker in memory than what is around them."""

    sign: int
    """+1: density is positive, as it should be; -1: it is negative, so ``inverted`` is stated the wrong way round;
    0: the boxes do not tell."""
    confidence: float
    """Probability that chance alone, with as many boxes, would have shown a weaker difference."""
    boxes: int
    """Number of boxes compared."""


def estimate_contrast(
    tomogram: Tomogram, position_zyx_angstrom: NDArray[np.float64], box_size: int, most_boxes: int = 200
) -> Contrast:
    """Compare the mean within a quarter of the box size around each pick with the mean of the box's rim.

    The rim is the shell between 0.4 and 0.5 box sizes, so a box of about twice the particle's diameter tells best.
    The difference, in standard deviations of each box, is tested against zero over all boxes. Picks that are no
    particles weaken the answer; crowded neighbors can turn it, hence a sign is given only beyond four standard errors.

    Parameters
    ----------
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
        raise ValueError(f"box size is {box_size} voxels, expected at least 8 to tell center from rim")
    centers = np.rint(position_zyx_angstrom / tomogram.grid.voxel_spacing_angstrom)
    low = centers - center_index(box_size)
    whole = centers[((low >= 0) & (low + box_size <= np.asarray(tomogram.grid.shape_zyx))).all(axis=1)]
    if not len(whole):
        raise ValueError(
            f"none of {len(centers)} boxes of {box_size} voxels lies wholly in {tomogram.name}; "
            "check the positions and the voxel spacing, or take a smaller box"
        )
    whole = whole[np.unique(np.linspace(0, len(whole) - 1, most_boxes).astype(int))]
    radius = np.linalg.norm(np.indices((box_size,) * 3) - center_index(box_size), axis=0) / box_size
    core, rim = radius <= 0.25, (radius > 0.4) & (radius <= 0.5)
    data, sign = tomogram.open().data, -1.0 if tomogram.is_inverted else 1.0
    differences = []
    for center in whole:
        box = sign * crop_box(data, center, box_size).volume.astype(np.float64)
        if np.isfinite(box).all() and box.std() > 0:
            differences.append((box[core].mean() - box[rim].mean()) / box.std())
    if len(differences) < 2:
        return Contrast(0, 0.0, len(differences))
    values = np.asarray(differences)
    errors = float(values.mean() / max(values.std(ddof=1) / np.sqrt(len(values)), 1e-12))
    return Contrast(int(np.sign(errors)) if abs(errors) >= SURE else 0, erf(abs(errors) / sqrt(2)), len(values))


def canonical_name(name: str) -> str:
    """What is left of a tomogram's name without folders and what programs put around it.

    Taken off: volume and frame-series suffixes, ``rec_`` before and ``_10.00Apx``, ``_rec``, ``_Vol``, ``_bin4`` after.
    """
    left = re.split(r"[\\/]", name.strip())[-1]
    while True:
        before = left
        for suffix in (*VOLUME_SUFFIXES, *_FRAME_SUFFIXES):
            if left.lower().endswith(suffix) and len(left) > len(suffix):
                left = left[: -len(suffix)]
        for prefix in _PREFIXES:
            if left.lower().startswith(prefix) and len(left) > len(prefix):
                left = left[len(prefix) :]
        left = _TRAILERS.sub("", left) or left
        if left == before:
            return left


def match_tomograms(names: Iterable[str], tomograms: Mapping[str, Tomogram]) -> dict[str, str]:
    """Key of the tomogram behind each name that particles use.

    Exact names go first, then equal file names without suffix, then equal `canonical_name`; each only where it is
    unique. Nothing is matched by guess.

    Raises
    ------
    ValueError
        A name has no tomogram, or several; the sentence lists both sides.
    """
    wanted = list(dict.fromkeys(names))
    by_stem: dict[str, list[str]] = {}
    by_core: dict[str, list[str]] = {}
    for key, tomogram in tomograms.items():
        for stem in {Path(key).stem, tomogram.path.stem, tomogram.path.name, key}:
            by_stem.setdefault(stem, []).append(key)
        for core in {canonical_name(key), canonical_name(tomogram.path.name)}:
            by_core.setdefault(core, []).append(key)
    found: dict[str, str] = {}
    ambiguous: dict[str, list[str]] = {}
    for name in wanted:
        candidates = (
            [name]
            if name in tomograms
            else by_stem.get(name) or by_stem.get(Path(name).stem) or by_core.get(canonical_name(name), [])
        )
        if len(candidates) == 1:
            found[name] = candidates[0]
        elif candidates:
            ambiguous[name] = candidates
    if ambiguous:
        name, keys = next(iter(ambiguous.items()))
        raise ValueError(
            f"{len(ambiguous)} tomogram names of the particles fit several tomograms, for example {name!r} fits "
            f"{_listed(keys)}; give only one version of each tomogram"
        )
    if missing := [name for name in wanted if name not in found]:
        raise ValueError(
            f"{len(missing)} of {len(wanted)} tomogram names of the particles have no tomogram: {_listed(missing)}; "
            f"the tomograms are {_listed(list(tomograms)) or 'none'}; rename one side or give the missing tomograms"
        )
    return found


def _listed(names: list[str], most: int = 5) -> str:
    shown = ", ".join(repr(name) for name in names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
