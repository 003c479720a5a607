"""Random packing of masks in a slab: the volumes of a specimen under construction, and the search for free room."""

import numpy as np
from numpy.typing import NDArray

_CANDIDATES = 4096  # corners tried at once
_ROUNDS = 4
_PROBE_VOXELS = 48  # of a mask, which rule out most candidates


class Slab:
    """Density and labels of a specimen under construction, and the voxels that are occupied.

    Parameters
    ----------
    shape_zyx
        Shape of the slab in voxels.
    """

    def __init__(self, shape_zyx: tuple[int, int, int]) -> None:
        self.density = np.zeros(shape_zyx, dtype=np.float32)
        self.is_occupied = np.zeros(shape_zyx, dtype=np.bool_)
        self.instances = np.zeros(shape_zyx, dtype=np.int32)
        self.classes = np.zeros(shape_zyx, dtype=np.int16)

    @property
    def shape_zyx(self) -> tuple[int, int, int]:
        """Shape in voxels."""
        depth, height, width = self.density.shape
        return depth, height, width

    def find_room(self, mask: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.int64] | None:
        """Return a random corner at which the mask lies inside and hits nothing; None if none was found.

        Random sequential addition with thousands of candidates at once: a few dozen voxels of the mask rule out most
        of them, and all voxels decide about the others.
        """
        inside = np.argwhere(mask)
        shape = self.is_occupied.shape
        low, high = -inside.min(axis=0), np.asarray(shape) - 1 - inside.max(axis=0)
        if (high < low).any():
            return None
        stride = np.asarray([shape[1] * shape[2], shape[2], 1])
        flat, offsets = self.is_occupied.reshape(-1), inside @ stride
        probes = rng.choice(offsets, size=min(_PROBE_VOXELS, len(offsets)), replace=False)
        for _ in range(_ROUNDS):
            corners = rng.integers(low, high + 1, size=(_CANDIDATES, 3))
            base = corners @ stride
            remaining = np.flatnonzero(~flat[base[:, None] + probes].any(axis=1))
            for candidate in remaining:
                if not flat[base[candidate] + offsets].any():
                    corner: NDArray[np.int64] = corners[candidate]
                    return corner
        return None

    def add(
        self,
        corner: NDArray[np.int64],
        density: NDArray[np.float32],
        mask: NDArray[np.bool_],
        gap: int,
        instance: int,
        class_label: int,
    ) -> None:
        """Add an object whose voxel 0 lies at ``corner``; keep ``gap`` voxels around its mask free from now on."""
        there, here = self._overlap(corner, density.shape)
        self.density[there] += density[here]
        self.instances[there][mask[here]] = instance
        self.classes[there][mask[here]] = class_label
        dilated = dilate(mask, gap)
        there, here = self._overlap(corner - gap, dilated.shape)
        self.is_occupied[there] |= dilated[here]

    def _overlap(self, corner: NDArray[np.int64], size: tuple[int, ...]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """Return the overlap of slab and box, as slices of the slab and of the box."""
        shape = self.density.shape
        low = [max(0, int(c)) for c in corner]
        high = [min(n, int(c) + s) for c, s, n in zip(corner, size, shape, strict=True)]
        there = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        here = tuple(slice(a - int(c), b - int(c)) for a, b, c in zip(low, high, corner, strict=True))
        return there, here


def dilate(mask: NDArray[np.bool_], voxels: int) -> NDArray[np.bool_]:
    """Return the mask with every voxel within ``voxels`` of it along the axes, in a box wider by as much on each side.

    Examples
    --------
    >>> import numpy as np
    >>> from tomosift.simulation.packing import dilate
    >>> dilate(np.ones((1, 1, 1), dtype=bool), 1).shape
    (3, 3, 3)
    """
    dilated = np.pad(mask, voxels)
    for axis in range(3):
        source = dilated.copy()
        for step in range(1, voxels + 1):
            dilated |= np.roll(source, step, axis) | np.roll(source, -step, axis)
    return dilated
