"""Cropping a box of any voxel spacing, centered anywhere, out of a volume on disk.

Where spacings agree and the center falls on a voxel, a box is a slice. Elsewhere a larger cut-out is resampled in
Fourier space: its Fourier transform is cut at the lower of the two Nyquist frequencies (with a cosine edge over the
last tenth when the new spacing is the coarser, against aliasing), shifted in phase to the requested center, and
evaluated at the new voxels. That chain is one linear map per axis, so it is applied as three small matrices: this is
exact for every ratio of spacings, also where no whole number of voxels of both fit into one edge. The outer half of
the cut-out's margin fades into the local mean, so that opposite faces do not wrap around.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tomosift.conventions import center_index
from tomosift.io.volumes.volume import SupportsSlicing

MARGIN = 8
"""Cut-out beyond the box on every side, in voxels of the coarser grid."""
ROLL_OFF = 0.1
"""Share of the pass band over which the anti-aliasing filter falls to zero."""
NO_RESAMPLING_TOLERANCE = 1e-4
"""Relative difference of spacings below which a box is not resampled: 0.003 voxels at the edge of a 64 box."""
NO_SHIFT_TOLERANCE = 1e-3
"""Distance of a center from a voxel, in voxels, below which a box is not shifted."""
SLAB = 64
"""Planes of a cut-out in memory at a time."""


@dataclass(frozen=True, eq=False)
class CroppedBox:
    """A cropped box, and how much of it lies in the volume."""

    volume: NDArray[np.float32]
    """(z, y, x), contrast as in the file; all edges alike but for blocks."""
    inside: float
    """Share of its own voxels that lie in the volume; the rest is the mean of the cut-out."""


def resampling_matrix(
    source_size: int, positions: NDArray[np.float64], ratio: float, margin: int
) -> NDArray[np.float64]:
    """Return the ``(n, source_size)`` matrix that interpolates a line of source voxels, band-limited.

    Parameters
    ----------
    source_size
        Voxels of the line.
    positions
        (n,) requested positions in source voxels.
    ratio
        New voxel spacing over old; above 1 the band is cut at ``1 / ratio`` of the old Nyquist frequency.
    margin
        Voxels at each end of which the outer half fades to zero.

    Source: the trigonometric interpolation polynomial; for an even size the Nyquist term is shared between both signs.
    """
    frequency = np.arange(source_size // 2 + 1) / source_size
    nyquist = 0.5 / max(ratio, 1.0)
    weight = np.ones(len(frequency))
    if ratio > 1:
        # 1 below the edge, a half cosine over it, 0 above.
        edge = (frequency - (1 - ROLL_OFF) * nyquist) / (ROLL_OFF * nyquist)
        weight = 0.5 * (1 + np.cos(np.pi * np.clip(edge, 0, 1)))
    weight[1 : (source_size + 1) // 2] *= 2
    angle_out = 2 * np.pi * positions[:, None] * frequency
    angle_in = 2 * np.pi * np.arange(source_size)[:, None] * frequency
    matrix = (np.cos(angle_out) * weight) @ np.cos(angle_in).T + (np.sin(angle_out) * weight) @ np.sin(angle_in).T
    fade = margin // 2
    ramp = 0.5 * (1 - np.cos(np.pi * (np.arange(fade) + 0.5) / max(fade, 1)))
    taper = np.concatenate([ramp, np.ones(source_size - 2 * fade), ramp[::-1]])
    result: NDArray[np.float64] = matrix / source_size * taper
    return result


def crop_box(
    source: SupportsSlicing, center_zyx_voxel: NDArray[np.float64], box_size: int, ratio: float = 1.0
) -> CroppedBox:
    """Crop the box whose voxel ``box_size // 2`` lies at ``center_zyx_voxel`` of the source.

    Parameters
    ----------
    source
        The volume; only the box and a margin around it are read.
    center_zyx_voxel
        ``(3,)`` in voxels of the source, counted from the center of voxel 0.
    box_size
        Edge of the box in its own voxels.
    ratio
        Voxel spacing of the box over that of the source.

    Raises
    ------
    ValueError
        No voxel of the box lies in the volume.

    Examples
    --------
    >>> import numpy as np
    >>> from tomosift.data.extraction.crop import crop_box
    >>> volume = np.arange(16**3, dtype=np.float32).reshape(16, 16, 16)
    >>> box = crop_box(volume, np.array([8.0, 8.0, 8.0]), 4)
    >>> bool(box.volume[2, 2, 2] == volume[8, 8, 8]), box.inside
    (True, 1.0)
    """
    return crop_block(source, center_zyx_voxel - center_index(box_size) * ratio, (box_size,) * 3, ratio)


def crop_block(
    source: SupportsSlicing, start_zyx_voxel: NDArray[np.float64], shape: tuple[int, int, int], ratio: float = 1.0
) -> CroppedBox:
    """Crop the block of this ``shape`` whose voxel 0 lies at ``start_zyx_voxel``; otherwise as `crop_box`.

    Raises
    ------
    ValueError
        No voxel of the block lies in the volume.
    """
    extent = np.asarray(source.shape)
    axes = [start + np.arange(edge) * ratio for start, edge in zip(start_zyx_voxel, shape, strict=True)]
    # A voxel counts as inside up to half a source voxel beyond the outermost centers.
    shares = [
        ((axis >= -0.5 - NO_SHIFT_TOLERANCE) & (axis <= edge - 0.5 + NO_SHIFT_TOLERANCE)).mean()
        for axis, edge in zip(axes, extent, strict=True)
    ]
    inside = float(np.prod(shares))
    if inside == 0:
        raise ValueError(
            f"no voxel of the box of {shape} voxels from {start_zyx_voxel.tolist()} on lies in the volume "
            f"{tuple(extent.tolist())}"
        )
    nearest = np.rint(start_zyx_voxel).astype(int)
    if abs(ratio - 1) < NO_RESAMPLING_TOLERANCE and (np.abs(start_zyx_voxel - nearest) < NO_SHIFT_TOLERANCE).all():
        return CroppedBox(_slice(source, nearest, shape), inside)
    margin = int(np.ceil(MARGIN * max(ratio, 1.0)))
    start = np.array([math.floor(axis[0]) - margin for axis in axes])
    stop = np.array([math.ceil(axis[-1]) + margin + 1 for axis in axes])
    low, high = np.maximum(start, 0), np.minimum(stop, extent)
    matrices = []
    for axis in range(3):
        matrix = resampling_matrix(int(stop[axis] - start[axis]), axes[axis] - start[axis], ratio, margin)
        matrices.append(matrix[:, low[axis] - start[axis] : high[axis] - start[axis]].astype(np.float32))
    return CroppedBox(_contract(source, low, high, matrices), inside)


def _slice(source: SupportsSlicing, start: NDArray[np.int_], shape: tuple[int, int, int]) -> NDArray[np.float32]:
    low, high = np.maximum(start, 0), np.minimum(start + shape, np.asarray(source.shape))
    there = np.array(source[tuple(slice(a, b) for a, b in zip(low, high, strict=True))], dtype=np.float32)
    if there.shape == shape:
        return there
    block = np.full(shape, there.mean(dtype=np.float64), dtype=np.float32)
    block[tuple(slice(a, b) for a, b in zip(low - start, high - start, strict=True))] = there
    return block


def _contract(
    source: SupportsSlicing, low: NDArray[np.int_], high: NDArray[np.int_], matrices: list[NDArray[np.float32]]
) -> NDArray[np.float32]:
    """``M (x - mean) + mean`` with zeros for ``x - mean`` outside the volume, slab by slab.

    The mean is known only after the last slab, so ``x`` is taken relative to a pivot and the rest added at the end.
    Values that are not numbers pass through; the caller checks for them.
    """
    z_matrix, y_matrix, x_matrix = matrices
    box = np.zeros((len(z_matrix), len(y_matrix), len(x_matrix)), dtype=np.float32)
    pivot, total = 0.0, 0.0
    with np.errstate(invalid="ignore", over="ignore"):
        for z in range(low[0], high[0], SLAB):
            end = min(z + SLAB, int(high[0]))
            slab = np.asarray(source[z:end, low[1] : high[1], low[2] : high[2]]).astype(np.float32)
            if z == low[0]:
                pivot = float(slab.mean(dtype=np.float64))
            slab -= np.float32(pivot)
            total += float(slab.sum(dtype=np.float64))
            planes = y_matrix @ (slab @ x_matrix.T)
            box += np.tensordot(z_matrix[:, z - low[0] : end - low[0]], planes, axes=1)
        mean = total / float(np.prod(high - low))
        kept = np.einsum("i,j,k->ijk", *(matrix.sum(axis=1) for matrix in matrices))
        result: NDArray[np.float32] = (box + mean * (1 - kept) + pivot).astype(np.float32)
    return result
