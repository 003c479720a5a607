"""Correlations of a volume with small kernels at every so many voxels, without computing those between.

Frequencies that look the same at every n-th voxel are added up before the transform back, which then is that of a
volume n times smaller along each axis.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Complex64, Float
from numpy.typing import NDArray
from torch import Tensor


def alias_spectrum(field: Float[Tensor, "z y x"], every: int) -> Complex64[Tensor, "a k j h"]:
    """Spectrum of a volume, sorted by which frequencies look the same at every so many voxels; half of the last axis.

    What is left there of the volume has as its spectrum the mean over the first axis, over the cube of ``every``.
    """
    if every == 1:
        half: Tensor = torch.fft.rfftn(field)
        return half[None]
    z, y, x = (edge // every for edge in field.shape)
    split: Tensor = torch.fft.fftn(field).reshape(every, z, every, y, every, x)[..., : x // 2 + 1]
    return split.permute(0, 2, 4, 1, 3, 5).reshape(every**3, z, y, -1)


def kernel_spectrum(kernel: NDArray[Any], shape: tuple[int, ...], every: int) -> NDArray[np.complex64]:
    """Of a kernel of odd edge about voxel 0 of a volume of this shape, as `folded` takes it once it is made real.

    Where something is added up, every weight is written twice: for the real part of a frequency and for its imaginary.
    """
    grid = np.zeros(shape)
    grid[tuple(slice(0, n) for n in kernel.shape)] = kernel
    grid = np.roll(grid, [-(n // 2) for n in kernel.shape], axis=(0, 1, 2))
    if every == 1:
        return np.fft.rfftn(grid)[None].astype(np.complex64)
    z, y, x = (edge // every for edge in shape)
    split = np.fft.fftn(grid).reshape(every, z, every, y, every, x)[..., : x // 2 + 1]
    found: NDArray[np.complex64] = (split.transpose(0, 2, 4, 1, 3, 5) / every**3).astype(np.complex64)
    return found.reshape(every**3, z, y, -1).repeat(2, axis=-1)


def fold_spectrum(
    spectrum: Complex64[Tensor, "a k j h"], weights: Float[Tensor, "a k j _"]
) -> Complex64[Tensor, "k j h"]:
    """What `aliases` gave, under a real kernel spectrum and added up.

    Real and imaginary parts are multiplied side by side: a complex and a real number would become two complex ones
    first.
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
    """Part of the volume of this spectrum; axis by axis, so that what is cut off is not transformed any further."""
    planes: Tensor = torch.fft.ifft(spectrum, dim=0)[kept[0]]
    lines: Tensor = torch.fft.ifft(planes, dim=1)[:, kept[1]]
    part: Tensor = torch.fft.irfft(lines, n=shape[2], dim=2)[:, :, kept[2]]
    return part.reshape(-1)
