"""Fixed operations of encoders: a soft spherical mask, a blur, and weights of averages over shells."""

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from tomosift.conventions import center_index

# Kept as numpy arrays: a tensor made in inference mode and kept could not be used for training afterwards.


@lru_cache(maxsize=32)
def _soft_sphere(size: int, edge_voxels: float) -> NDArray[np.float32]:
    """Soft sphere as an array; see `soft_sphere`."""
    axis = np.arange(size) - center_index(size)
    radius = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)
    outer = (size - 1) // 2 + 0.5
    ramp = np.clip((outer - radius) / edge_voxels, 0, 1)
    return np.asarray(0.5 - 0.5 * np.cos(np.pi * ramp), dtype=np.float32)


def soft_sphere(
    size: int, device: torch.device | None = None, dtype: torch.dtype = torch.float32, edge_voxels: float = 2.0
) -> Float[Tensor, "{size} {size} {size}"]:
    """Return a mask that is one within the sphere that fits the box and zero outside, with a soft edge within it.

    Parameters
    ----------
    size
        Edge of the box in voxels. The sphere is centered on voxel ``size // 2``, the rotation center, and has the
        largest radius that stays in the box.
    device, dtype
        Of the mask.
    edge_voxels
        Width of the raised-cosine edge.
    """
    return torch.from_numpy(_soft_sphere(size, edge_voxels)).to(device=device, dtype=dtype)


@lru_cache(maxsize=64)
def _shell_weights(shape: tuple[int, int, int], size: int, stride: int, shells: int) -> NDArray[np.float32]:
    """Weights of shells as an array; see `shell_weights`."""
    # A strided convolution with symmetric padding puts output i on input i * stride.
    axes = [(np.arange(count) * stride - center_index(size)) / (size / 2) for count in shape]
    radius = np.sqrt(axes[0][:, None, None] ** 2 + axes[1][:, None] ** 2 + axes[2] ** 2).reshape(-1, 1)
    centers = np.linspace(0, 0.85, shells)
    weights = np.clip(1 - np.abs(radius - centers) / max(centers[1], 2 * stride / size), 0, None)
    return np.asarray(weights / weights.sum(axis=0), dtype=np.float32)


def shell_weights(feature: Float[Tensor, "b c z y x"], size: int, stride: int, shells: int) -> Float[Tensor, "v k"]:
    """Return weights of averages of a feature map over overlapping shells about the center of the input box.

    Parameters
    ----------
    feature
        Feature map, for its shape and type.
    size
        Edge of the input box.
    stride
        Voxels of the input per voxel of the feature map.
    shells
        Number k of shells.
    """
    shape = (int(feature.shape[2]), int(feature.shape[3]), int(feature.shape[4]))
    return torch.from_numpy(_shell_weights(shape, size, stride, shells)).to(feature)


@lru_cache(maxsize=16)
def _blur(size: int, sigma_voxels: float) -> NDArray[np.float32]:
    """Gaussian blur of a line as a symmetric matrix; zeros continue the line."""
    distance = np.abs(np.subtract.outer(np.arange(size), np.arange(size)))
    reach = int(np.ceil(3 * sigma_voxels))
    line = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma_voxels) ** 2)
    kernel = np.exp(-0.5 * (distance / sigma_voxels) ** 2) * (distance <= reach)
    return np.asarray(kernel / line.sum(), dtype=np.float32)


def low_pass(volume: Float[Tensor, "b 1 d d d"], sigma_voxels: float = 1.0) -> Float[Tensor, "b 1 d d d"]:
    """Blur volumes by a Gaussian and normalize them to zero mean and unit variance."""
    size = volume.shape[-1]
    blur = torch.from_numpy(_blur(size, sigma_voxels)).to(volume)
    # Three matrix products: convolutions of a single channel take more than ten times as long.
    volume = blur @ (volume @ blur)
    volume = (blur @ volume.flatten(3)).view(volume.shape)
    volume = volume - volume.mean(dim=(2, 3, 4), keepdim=True)
    return volume / volume.square().mean(dim=(2, 3, 4), keepdim=True).sqrt().clamp(min=1e-6)
