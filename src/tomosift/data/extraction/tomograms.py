"""Tomograms on disk, from which particles are cropped."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomosift.acquisition import Acquisition
from tomosift.data.extraction.crop import crop_box
from tomosift.errors import FormatError
from tomosift.io.tomogram_names import NameMatch, match_names
from tomosift.io.volumes import Volume, open_volume
from tomosift.io.volumes.volume import MeanArray
from tomosift.particles import Grid

UNKNOWN_ACQUISITION = Acquisition(np.zeros(0), np.zeros(0), np.zeros(0))


@dataclass(frozen=True, eq=False)
class Tomogram:
    """A tomogram that is opened when it is needed.

    ``is_inverted`` states that density is dark in the file; `crop` then changes the sign, so that density is positive
    in memory. The user states it, or `tomosift.data.checks.contrast` finds it; no file format records it.
    """

    name: str
    path: Path
    grid: Grid
    acquisition: Acquisition = UNKNOWN_ACQUISITION
    half_paths: tuple[Path, Path] | None = None
    """The tomograms of the even and the odd frames or tilts, on the same grid."""
    is_inverted: bool = False
    is_mean_of_halves: bool = False
    """There is no whole tomogram; ``path`` is that of the first half."""

    def open(self) -> Volume:
        """Open the volume as in the file, or the mean of its halves, without reading it."""
        volume = open_volume(self.path)
        if not self.is_mean_of_halves or self.half_paths is None:
            return volume
        return replace(volume, data=MeanArray(volume.data, open_volume(self.half_paths[1]).data))

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
    is_mean_of_halves: bool = False,
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
    return Tomogram(name, path, grid, UNKNOWN_ACQUISITION, half_paths, is_mean_of_halves=is_mean_of_halves)


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
