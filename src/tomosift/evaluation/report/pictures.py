"""Boxes made visible: central slabs, thumbnails and averages per class. Bright is dense, as in memory."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int, UInt8
from numpy.typing import NDArray

from tomosift.physics.rotation import rotate

GRAY_LEVELS = 32
"""Gray levels of a picture; more would only store noise."""
AVERAGED_PER_CLASS = 200
"""Particles that make an average, at most."""
_CHUNK = 64

Volumes = Callable[[NDArray[np.int64]], NDArray[np.float32]]


@dataclass(frozen=True)
class DisplayedAverage:
    """Mean of particles of one class."""

    density: Float32[np.ndarray, "d d d"]
    count: int
    """Particles in the mean."""
    members: int
    """Particles of the class."""
    aligned: bool
    """True when each particle was turned back by its pose first; then only particles with a pose are in the mean."""


def gray_levels(image: Float[np.ndarray, "h w"], low: float, high: float) -> UInt8[np.ndarray, "h w"]:
    """``low`` is black and ``high`` white; a constant picture is mid-gray."""
    if not high > low:
        return np.full(image.shape, 128, dtype=np.uint8)
    level = np.clip((image - low) / (high - low), 0, 1) * (GRAY_LEVELS - 1)
    return (np.rint(level) * (255 / (GRAY_LEVELS - 1))).astype(np.uint8)


def window(image: Float[np.ndarray, "..."]) -> tuple[float, float]:
    """Black and white point: the 0.5 and 99.5 percentiles."""
    low, high = np.percentile(image, [0.5, 99.5])
    return float(low), float(high)


def slab(boxes: Float[np.ndarray, "b d d d"], axis: int, thickness: int) -> Float[np.ndarray, "b d d"]:
    """Mean of ``thickness`` slices about the center voxel ``d // 2``, seen along ``axis`` (0 is z, the xy picture)."""
    center = boxes.shape[1] // 2
    first = max(center - thickness // 2, 0)
    index = [slice(None)] * 4
    index[axis + 1] = slice(first, first + thickness)
    return np.asarray(boxes[tuple(index)].mean(axis=axis + 1))


def slab_thickness(box_size: int) -> int:
    """Slices in a picture of one noisy particle: an eighth of the box, odd, at least one."""
    return max(1, box_size // 8) | 1


def thumbnails(volumes: Volumes, rows: Int[np.ndarray, " m"], largest_edge: int) -> UInt8[np.ndarray, "m e e"]:
    """The xy slab of each particle, each with its own window, binned to at most ``largest_edge`` pixels."""
    images = []
    for start in range(0, len(rows), _CHUNK):
        boxes = volumes(rows[start : start + _CHUNK])
        size = boxes.shape[1]
        factor = -(-size // largest_edge)
        edge = size // factor
        offset = (size - edge * factor) // 2
        cut = slab(boxes, 0, slab_thickness(size))[:, offset:, offset:][:, : edge * factor, : edge * factor]
        small = cut.reshape(len(boxes), edge, factor, edge, factor).mean(axis=(2, 4))
        images += [gray_levels(image, *window(image)) for image in small]
    return np.stack(images)


def average_by_class(
    volumes: Volumes,
    labelings: Sequence[Int[np.ndarray, " n"]],
    pose: Float[np.ndarray, "n 3 3"],
    class_count: int,
    seed: int,
) -> list[list[DisplayedAverage | None]]:
    """One average per class for each labeling (predicted, true, ...); None where a class has no particle.

    Where at least half of a class have a pose R, the particles with one are turned by R transposed into the reference
    frame and averaged; else all are averaged as they lie. At most 200 particles are drawn per class. It is
    a plain mean: the missing wedge is not compensated.
    """
    generator = np.random.default_rng(seed)
    posed = np.isfinite(pose).all(axis=(1, 2))
    members: list[tuple[int, int, NDArray[np.int64], bool]] = []
    sizes = [np.bincount(labels[labels >= 0], minlength=class_count) for labels in labelings]
    for which, labels in enumerate(labelings):
        for c in range(class_count):
            rows, aligned = _members(labels == c, posed)
            if len(rows):
                rows = np.sort(generator.permutation(rows)[:AVERAGED_PER_CLASS])
                members.append((which, c, rows, aligned))
    averages: list[list[DisplayedAverage | None]] = [[None] * class_count for _ in labelings]
    if not members:
        return averages
    sums: dict[int, NDArray[np.float64]] = {}
    needed = np.unique(np.concatenate([rows for _, _, rows, _ in members]))
    for start in range(0, len(needed), _CHUNK):
        chunk = needed[start : start + _CHUNK]
        plain = volumes(chunk)
        turned = _turned_back(plain, pose[chunk], posed[chunk])
        for k, (_, _, rows, aligned) in enumerate(members):
            inside = np.isin(chunk, rows)
            if inside.any():
                part = (turned if aligned else plain)[inside].sum(axis=0, dtype=np.float64)
                sums[k] = sums[k] + part if k in sums else part
    for k, (which, c, rows, aligned) in enumerate(members):
        averages[which][c] = DisplayedAverage(
            (sums[k] / len(rows)).astype(np.float32), len(rows), int(sizes[which][c]), aligned
        )
    return averages


def _members(inside: Bool[np.ndarray, " n"], posed: Bool[np.ndarray, " n"]) -> tuple[NDArray[np.int64], bool]:
    aligned = bool(inside.any() and posed[inside].mean() >= 0.5)
    return np.flatnonzero(inside & posed if aligned else inside), aligned


def _turned_back(
    boxes: NDArray[np.float32], pose: Float[np.ndarray, "b 3 3"], posed: Bool[np.ndarray, " b"]
) -> NDArray[np.float32]:
    turned = boxes.copy()
    if posed.any():
        inverse = torch.from_numpy(np.ascontiguousarray(pose[posed].transpose(0, 2, 1), dtype=np.float32))
        source = torch.from_numpy(np.ascontiguousarray(boxes[posed], dtype=np.float32))
        turned[posed] = rotate(source, inverse).numpy()
    return turned
