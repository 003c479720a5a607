"""An opened volume, as every reader of this room returns it, and checks that the formats share."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tomosift.errors import FormatError
from tomosift.particles import Grid

HEADER_SPACING_TOLERANCE = 0.01
"""Largest relative difference between the voxel sizes along x, y and z that still counts as cubic."""


@runtime_checkable
class SupportsSlicing(Protocol):
    """The data of a volume: a memory map, a chunked array on disk, or an array in memory."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> Any: ...

    def __getitem__(self, key: Any, /) -> Any: ...


@dataclass(frozen=True)
class Volume:
    """A density volume on disk, opened but not read.

    Axes are z, y, x whatever the order in the file. Contrast is as in the file: no format says whether protein is dark
    or bright.
    """

    path: Path
    data: SupportsSlicing
    """(z, y, x), sliced lazily where the format allows: ``numpy.memmap``, ``ChunkedArray``, ``ReorderedArray`` or,
    for compressed files, an array in memory."""
    voxel_spacing_angstrom: float | None = None
    """None where the file does not say, says 0 or 1, or has voxels that are not cubes; ``notes`` has the reason."""
    origin_zyx_angstrom: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Position of the center of voxel 0 in the file's own coordinate system; particle positions do not include it."""
    notes: tuple[str, ...] = ()
    """Sentences on what is odd in the header and how it was read."""

    @property
    def shape_zyx(self) -> tuple[int, int, int]:
        """Number of voxels along z, y, x."""
        depth, height, width = self.data.shape
        return int(depth), int(height), int(width)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Number format of the voxels in the file."""
        kind: np.dtype[Any] = np.dtype(self.data.dtype)
        return kind

    def read(self, slices: tuple[slice, slice, slice] | None = None) -> NDArray[np.float32]:
        """Return a copy of these voxels, or of all, as float32 ``(z, y, x)``; only what is needed is read."""
        return np.array(self.data[(slice(None),) * 3 if slices is None else slices], dtype=np.float32, order="C")

    def grid(self, voxel_spacing_angstrom: float | None = None) -> Grid:
        """Return the voxel grid, with this spacing or, without one, the file's.

        Raises
        ------
        FormatError
            Neither the file nor the caller states the voxel spacing.
        """
        spacing = self.voxel_spacing_angstrom if voxel_spacing_angstrom is None else voxel_spacing_angstrom
        if spacing is None:
            reason = next((note for note in self.notes if "voxel size" in note), "not stated")
            raise FormatError(
                self.path, "voxel spacing", f"unknown ({reason})", "a length", "state it: --tomogram-spacing"
            )
        check_spacing(spacing)
        return Grid(self.shape_zyx, float(spacing))


class ChunkedArray:
    """A zarr array that raises a `FormatError` for a damaged chunk. Chunks without a file hold the fill value.

    Parameters
    ----------
    path
        Path of the volume, for the error message.
    array
        The zarr array.
    """

    def __init__(self, path: Path, array: Any) -> None:
        self.path, self.array = path, array

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of voxels along each axis."""
        return tuple(int(edge) for edge in self.array.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Number format of the voxels."""
        kind: np.dtype[Any] = np.dtype(self.array.dtype)
        return kind

    def __getitem__(self, key: Any, /) -> Any:
        try:
            return self.array[key]
        except IndexError:
            raise
        except Exception as error:  # every codec has errors of its own
            raise FormatError(
                self.path, "a chunk", f"unreadable ({error})", "whole chunks", "it was cut short: copy it again"
            ) from error


class MeanArray:
    """The mean of two volumes of one shape, such as half tomograms; slices of both are read and averaged.

    Parameters
    ----------
    one, other
        Arrays or memory maps.
    """

    def __init__(self, one: SupportsSlicing, other: SupportsSlicing) -> None:
        self.one, self.other = one, other

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of voxels along z, y, x."""
        return tuple(self.one.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Number format of the mean."""
        return np.dtype(np.float32)

    def __getitem__(self, key: Any, /) -> Any:
        one, other = (np.asarray(array[key], dtype=np.float32) for array in (self.one, self.other))
        return (one + other) / 2


class ReorderedArray:
    """A chunked array with its axes in z, y, x order; slices are read from the source, then transposed.

    Parameters
    ----------
    source
        Array of any number of dimensions.
    order
        Axes of the source that are z, y, x.
    fixed
        Index taken along every other axis (a channel or a time point).
    """

    def __init__(self, source: Any, order: tuple[int, int, int], fixed: dict[int, int]) -> None:
        self.source, self.order, self.fixed = source, order, fixed

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of voxels along z, y, x."""
        return tuple(int(self.source.shape[axis]) for axis in self.order)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Number format of the source."""
        kind: np.dtype[Any] = np.dtype(self.source.dtype)
        return kind

    def __getitem__(self, key: Any, /) -> NDArray[Any]:
        keys = key if isinstance(key, tuple) else (key,)
        if any(k is None or k is Ellipsis for k in keys) or len(keys) > 3:
            raise IndexError(f"a volume takes up to three slices or integers, got {key!r}")
        keys = keys + (slice(None),) * (3 - len(keys))
        index: list[Any] = [self.fixed.get(axis, 0) for axis in range(len(self.source.shape))]
        for axis, k in zip(self.order, keys, strict=True):
            index[axis] = k
        kept = [axis for axis, k in zip(self.order, keys, strict=True) if isinstance(k, slice)]
        stored = sorted(kept)
        block = np.asarray(self.source[tuple(index)])
        return block.transpose([stored.index(axis) for axis in kept])


def cubic_spacing(sizes_zyx_angstrom: tuple[float, float, float], has_unit: bool = False) -> tuple[float | None, str]:
    """Return the one voxel size of a header, or None and the reason.

    Programs that do not know the voxel size write 0 or 1, so both are unknown, except for a 1 with a unit of length.
    The size is rounded to the six digits that survive float32 headers.

    Examples
    --------
    >>> cubic_spacing((10.0, 10.0, 10.0))
    (10.0, '')
    >>> cubic_spacing((1.0, 1.0, 1.0))
    (None, "the header's voxel size is 1, which programs write when they do not know it")
    """
    sizes = np.asarray(sizes_zyx_angstrom, dtype=np.float64)
    if not np.isfinite(sizes).all() or (sizes <= 0).any():
        shown = "0" if not sizes.any() else " x ".join(f"{size:g}" for size in sizes[::-1])
        return None, f"the header's voxel size is {shown}, which means unknown"
    if not has_unit and np.allclose(sizes, 1.0, rtol=0, atol=1e-4):
        return None, "the header's voxel size is 1, which programs write when they do not know it"
    if sizes.max() - sizes.min() > HEADER_SPACING_TOLERANCE * sizes.mean():
        shown = " x ".join(f"{size:g}" for size in sizes[::-1])
        return None, f"the header's voxel size is {shown} A along x, y, z: the voxels are not cubes"
    return float(f"{sizes.mean():.6g}"), ""


def check_spacing(voxel_spacing_angstrom: float | None) -> None:
    """Raise ValueError unless this is a positive length or None, which means unknown."""
    if voxel_spacing_angstrom is not None and not 0 < voxel_spacing_angstrom < np.inf:
        raise ValueError(f"voxel spacing is {voxel_spacing_angstrom} A, expected a positive length or None")


def storable(data: Any, dtype: DTypeLike | None, allowed: tuple[str, ...]) -> np.dtype[Any]:
    """Return the number format to write: the requested one, or the data's own where allowed, else float32.

    Raises
    ------
    ValueError
        The data do not have three axes, or the requested number format is not allowed.
    """
    if len(data.shape) != 3:
        raise ValueError(f"a volume has three axes (z, y, x), got shape {tuple(data.shape)}")
    if 0 in data.shape:
        raise ValueError(f"a volume has at least one voxel, got shape {tuple(data.shape)}")
    if np.dtype(data.dtype).kind == "c":
        raise ValueError("a volume holds real numbers, got complex ones")
    if dtype is not None:
        if np.dtype(dtype).name not in allowed:
            raise ValueError(f"dtype is {np.dtype(dtype).name}, expected one of {', '.join(allowed)}")
        return np.dtype(dtype)
    if np.dtype(data.dtype) == bool:
        return np.dtype(np.int8 if "int8" in allowed else np.uint8)
    return np.dtype(data.dtype.name if np.dtype(data.dtype).name in allowed else np.float32)
