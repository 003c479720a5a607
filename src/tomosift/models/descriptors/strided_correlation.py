"""Correlations of a volume with small kernels at every n-th voxel, without computing those between.

Frequencies that are aliases of one another at every n-th voxel are summed before the inverse transform, which then is
that of a volume n times smaller along each axis. ``stride`` is n.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Complex64, Float
from numpy.typing import NDArray
from torch import Tensor


def alias_spectrum(field: Float[Tensor, "z y x"], stride: int) -> Complex64[Tensor, "a k j h"]:
    """Compute the spectrum of a volume, sorted by aliases.

    Parameters
    ----------
    field
        Volume whose edges are multiples of the stride.
    stride
        Distance of the voxels at which the volume is read.

    Returns
    -------
    Tensor
        Half of the last axis. The spectrum of the volume at every ``stride``-th voxel is the mean over the first axis.
    """
    if stride == 1:
        half: Tensor = torch.fft.rfftn(field)
        return half[None]
    z, y, x = (edge // stride for edge in field.shape)
    split: Tensor = torch.fft.fftn(field).reshape(stride, z, stride, y, stride, x)[..., : x // 2 + 1]
    return split.permute(0, 2, 4, 1, 3, 5).reshape(stride**3, z, y, -1)


def kernel_spectrum(kernel: NDArray[Any], shape: tuple[int, ...], stride: int) -> NDArray[np.complex64]:
    """Compute the spectrum of a kernel about voxel 0 of a volume, for `fold_spectrum`.

    Parameters
    ----------
    kernel
        Of odd edges.
    shape
        Of the volume.
    stride
        As for `alias_spectrum`. Above 1 every value is repeated: once for the real part of a frequency of the volume
        and once for its imaginary part.
    """
    grid = np.zeros(shape)
    grid[tuple(slice(0, n) for n in kernel.shape)] = kernel
    grid = np.roll(grid, [-(n // 2) for n in kernel.shape], axis=(0, 1, 2))
    if stride == 1:
        return np.fft.rfftn(grid)[None].astype(np.complex64)
    z, y, x = (edge // stride for edge in shape)
    split = np.fft.fftn(grid).reshape(stride, z, stride, y, stride, x)[..., : x // 2 + 1]
    spectrum: NDArray[np.complex64] = (split.transpose(0, 2, 4, 1, 3, 5) / stride**3).astype(np.complex64)
    return spectrum.reshape(stride**3, z, y, -1).repeat(2, axis=-1)


def fold_spectrum(
    spectrum: Complex64[Tensor, "a k j h"], weights: Float[Tensor, "a k j _"]
) -> Complex64[Tensor, "k j h"]:
    """Multiply a spectrum from `alias_spectrum` by a real kernel spectrum, and sum over aliases.

    Real and imaginary parts are multiplied side by side, since the product of a complex and a real tensor would first
    convert the real one to complex numbers.
    """
    if len(spectrum) == 1:
        return spectrum[0] * weights[0]
    parts = torch.view_as_real(spectrum).flatten(-2)
    total = parts[0] * weights[0]
    for part, weight in zip(parts[1:], weights[1:], strict=True):
        total = torch.addcmul(total, part, weight)
    return torch.view_as_complex(total.reshape(*spectrum.shape[1:], 2))


def strided_volume(
    spectrum: Complex64[Tensor, "k j h"], shape: tuple[int, ...], kept: tuple[slice, ...]
) -> Float[Tensor, " p"]:
    """Transform a spectrum back to part of its volume, flattened.

    Axis by axis, so that voxels outside of the part are dropped before the next axis.

    Parameters
    ----------
    spectrum
        From `fold_spectrum`.
    shape
        Of the strided volume.
    kept
        Part of it to return.
    """
    planes: Tensor = torch.fft.ifft(spectrum, dim=0)[kept[0]]
    lines: Tensor = torch.fft.ifft(planes, dim=1)[:, kept[1]]
    part: Tensor = torch.fft.irfft(lines, n=shape[2], dim=2)[:, :, kept[2]]
    return part.reshape(-1)
