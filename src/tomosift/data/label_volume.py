"""A volume in the frame of a tomogram whose voxels hold class numbers."""

import numpy as np
from jaxtyping import Bool, Float, Int64
from numpy.typing import NDArray

from tomosift.particles import Grid


class LabelVolume:
    """Class numbers on the grid of a tomogram, resampled to another voxel spacing; 0 is background.

    The centers of voxel 0 coincide.

    Examples
    --------
    >>> import numpy as np
    >>> from tomosift.data.label_volume import LabelVolume
    >>> from tomosift.particles import Grid
    >>> volume = LabelVolume(Grid((8, 8, 8), 10.0), voxel_spacing_angstrom=20.0)
    >>> volume.paint(np.ones((1, 2, 2, 2), bool), np.array([[40.0, 40.0, 40.0]]), np.array([3]))
    >>> volume.label.shape, int((volume.label == 3).sum())
    ((4, 4, 4), 8)
    """

    label: NDArray[np.uint16]

    def __init__(self, grid: Grid, voxel_spacing_angstrom: float) -> None:
        self.voxel_spacing_angstrom = voxel_spacing_angstrom
        shape = np.ceil(grid.extent_zyx_angstrom / voxel_spacing_angstrom - 1e-6).astype(int)
        self.label = np.zeros(tuple(int(edge) for edge in shape), dtype=np.uint16)

    def paint(
        self,
        masks: Bool[np.ndarray, "n d d d"],
        position_zyx_angstrom: Float[np.ndarray, "n 3"],
        number: Int64[np.ndarray, " n"],
    ) -> None:
        """Write masks of particles into the volume, voxel ``d // 2`` on the voxel nearest to each position.

        Where masks overlap, the later one counts. Voxels beyond the volume are ignored.

        Parameters
        ----------
        masks
            (n, d, d, d) voxels of each particle.
        position_zyx_angstrom
            (n, 3) from the center of voxel 0.
        number
            (n,) class number, 1 or more.
        """
        size = masks.shape[-1]
        corner = np.floor(position_zyx_angstrom / self.voxel_spacing_angstrom + 0.5).astype(int) - size // 2
        for mask, start, value in zip(masks, corner, number, strict=True):
            low = np.maximum(start, 0)
            high = np.minimum(start + size, self.label.shape)
            if (low >= high).any():
                continue
            there = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
            here = tuple(slice(a, b) for a, b in zip(low - start, high - start, strict=True))
            self.label[there][mask[here]] = value
