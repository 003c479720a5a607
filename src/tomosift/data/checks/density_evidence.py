"""Does density stand out at a set of positions? Measured in tomograms that are binned and filtered to the particle."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfftn, rfftn
from scipy.ndimage import gaussian_filter

from tomosift.data.extraction.tomograms import Tomogram

_MOST_VOXELS = 6e8  # read from all tomograms together: seconds
_MOST_BINNED = 8e6  # voxels of one filtered map
_VOXELS_PER_DIAMETER = 5
_INNER, _OUTER = 0.2, 0.45  # standard deviations of the two Gaussians in diameters; a ball of diameter 1 has 0.22
_CLIP = 6.0  # standard deviations; gold beads and ice count no more than a particle
_OFFSETS = 200
_SLAB = 32  # planes read at a time


@dataclass(frozen=True, eq=False)
class DensityMap:
    """A tomogram binned and band-passed to the size of a particle, in standard deviations of its noise."""

    values: NDArray[np.float32]
    """(z, y, x), contrast as in the file."""
    bin_size: int
    """Voxels of the tomogram along the edge of one of the map."""
    diameter_voxels: float
    """Diameter of the particles in voxels of the map."""

    def index(self, voxel_zyx: NDArray[np.float64]) -> tuple[NDArray[np.int_], NDArray[np.bool_]]:
        """Return the voxels of the map at positions in voxels of the tomogram, and which of them are inside."""
        index = np.rint((voxel_zyx - (self.bin_size - 1) / 2) / self.bin_size).astype(int)
        return index, np.asarray(((index >= 0) & (index < self.values.shape)).all(axis=1))

    def sample(self, voxel_zyx: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the values (n,) at positions (n, 3) in voxels of the tomogram; 0, the mean, outside."""
        index, inside = self.index(voxel_zyx)
        values = np.zeros(len(index))
        values[inside] = self.values[tuple(index[inside].T)]
        return values

    def sample_moved(self, voxel_zyx: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sums of the values at the positions moved within the plane by random offsets, cyclically."""
        index, inside = self.index(voxel_zyx)
        index = index[inside]
        _, height, width = self.values.shape
        rng = np.random.default_rng([len(index), abs(int(index.sum())), height, width])
        y, x = (rng.integers(0, edge, size=4 * _OFFSETS) for edge in (height, width))
        # Near zero the positions still lie on the same density, which in small tomograms would be a good part.
        away = np.maximum(np.minimum(y, height - y), np.minimum(x, width - x)) > 1.5 * self.diameter_voxels
        offsets = np.stack([y, x], axis=1)[away][:_OFFSETS]
        sums = np.zeros(len(offsets))
        for start in range(0, len(index), 500):  # of picks, which bounds memory
            z, y, x = index[start : start + 500].T
            y, x = (y + offsets[:, :1]) % height, (x + offsets[:, 1:]) % width
            sums += self.values[z[None], y, x].sum(axis=1)
        return sums

    def z_score(self, voxel_zyx: NDArray[np.float64]) -> float:
        """Return the sum of the values in standard deviations of that at moved positions."""
        null = self.sample_moved(voxel_zyx)
        return float((self.sample(voxel_zyx).sum() - null.mean()) / max(float(null.std()), 1e-9))

    def correlate(self, voxel_zyx: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return the sum of the values at the positions moved by every offset, zero offset in the center voxel."""
        index, inside = self.index(voxel_zyx)
        points = np.zeros(self.values.shape, dtype=np.float32)
        np.add.at(points, tuple(index[inside].T), 1.0)
        spectrum = rfftn(self.values) * np.conj(rfftn(points))
        result = irfftn(spectrum, s=self.values.shape)
        return np.asarray(np.fft.fftshift(result), dtype=np.float32)


def choose_tomograms(tomograms: Mapping[str, Tomogram], picks_of: Mapping[str, int]) -> list[str]:
    """Choose the tomograms with most picks that can be read in seconds: at least one."""
    chosen: list[str] = []
    voxels = 0.0
    for name in sorted(picks_of, key=lambda key: (-picks_of[key], key)):
        voxels += float(np.prod(tomograms[name].grid.shape_zyx))
        if chosen and voxels > _MOST_VOXELS:
            break
        chosen.append(name)
    return sorted(chosen)


def filter_tomogram(tomogram: Tomogram, diameters_angstrom: Sequence[float]) -> list[DensityMap | None]:
    """Read a tomogram once, in bins, and filter it to each diameter; None where it is too small or constant."""
    spacing, shape = tomogram.grid.voxel_spacing_angstrom, np.array(tomogram.grid.shape_zyx)
    smallest = int(np.ceil((np.prod(shape) / _MOST_BINNED) ** (1 / 3)))
    size = max(1, smallest, int(min(diameters_angstrom) / (_VOXELS_PER_DIAMETER * spacing)))
    diameters = [diameter / (spacing * size) for diameter in diameters_angstrom]
    fits = [1 <= diameter <= min(shape[1:] // size) / 4 for diameter in diameters]
    if (shape // size < 4).any() or not any(fits):
        return [None] * len(diameters)
    binned = _read_binned(tomogram, size)
    finite = np.isfinite(binned)
    binned[~finite] = binned[finite].mean() if finite.any() else 0
    return [_filter(binned, size, one) if is_fit else None for one, is_fit in zip(diameters, fits, strict=True)]


def _filter(binned: NDArray[np.float32], size: int, diameter: float) -> DensityMap | None:
    """Difference of Gaussians, in standard deviations as of the median deviation, clipped."""
    values = gaussian_filter(binned, _INNER * diameter) - gaussian_filter(binned, _OUTER * diameter, truncate=3.0)
    # Without the mean of each plane, positions in the ice do not stand out merely because they are in the ice.
    values -= values.mean(axis=(1, 2), keepdims=True)
    deviation = 1.4826 * float(np.median(np.abs(values)))
    if not deviation > 0:
        return None
    values = np.clip(values / deviation, -_CLIP, _CLIP)
    values -= values.mean(axis=(1, 2), keepdims=True)
    return DensityMap(values.astype(np.float32), size, diameter)


def _read_binned(tomogram: Tomogram, size: int) -> NDArray[np.float32]:
    """Means over cubes of ``size`` voxels; what is left over at the far borders is not read."""
    data = tomogram.open().data
    depth, height, width = (int(edge) // size for edge in data.shape)
    step = max(1, _SLAB // size)
    result = np.empty((depth, height, width), dtype=np.float32)
    for start in range(0, depth, step):
        stop = min(start + step, depth)
        slab = np.asarray(data[start * size : stop * size, : height * size, : width * size], dtype=np.float32)
        if size > 1:
            slab = slab.reshape(stop - start, size, height * size, width * size).mean(axis=1)
            slab = slab.reshape(stop - start, height, size, width * size).mean(axis=2)
            slab = slab.reshape(stop - start, height, width, size).mean(axis=3)
        result[start:stop] = slab
    return result
