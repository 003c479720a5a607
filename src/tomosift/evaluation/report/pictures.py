"""Pictures of subtomograms: central slabs, thumbnails and averages per class. High density is bright, as in memory."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int, UInt8
from numpy.typing import NDArray

from tomosift.evaluation.report.markup import escape, render_picture
from tomosift.physics.rotation import rotate

GRAY_LEVELS = 32
"""Gray levels of a picture; more would only store noise."""
MOST_AVERAGED = 200
"""Particles of each class in an average, at most."""
_GALLERY = 6
_CHUNK = 64

ReadVolumes = Callable[[NDArray[np.int64]], NDArray[np.float32]]
"""Takes rows and returns subtomograms ``(b, d, d, d)``."""


@dataclass(frozen=True)
class DisplayedAverage:
    """Mean of particles of one class."""

    density: Float32[np.ndarray, "d d d"]
    count: int
    """Particles in the mean."""
    members: int
    """Particles of the class."""
    is_aligned: bool
    """Whether the orientation of each particle was undone; then only particles with an orientation are in the mean."""


@dataclass(frozen=True)
class _Selection:
    """Particles of one average."""

    labeling: int
    label: int
    rows: NDArray[np.int64]
    members: int
    is_aligned: bool


def to_gray_levels(image: Float[np.ndarray, "h w"], low: float, high: float) -> UInt8[np.ndarray, "h w"]:
    """Return a picture in which ``low`` is black and ``high`` white; a constant picture is mid-gray.

    Examples
    --------
    >>> to_gray_levels(np.array([[0.0, 1.0, 2.0]]), 0.0, 1.0).tolist()
    [[0, 255, 255]]
    """
    if not high > low:
        return np.full(image.shape, 128, dtype=np.uint8)
    level = np.clip((image - low) / (high - low), 0, 1) * (GRAY_LEVELS - 1)
    return (np.rint(level) * (255 / (GRAY_LEVELS - 1))).astype(np.uint8)


def choose_gray_range(image: Float[np.ndarray, "..."]) -> tuple[float, float]:
    """Return black and white point: the 0.5 and 99.5 percentiles."""
    low, high = np.percentile(image, [0.5, 99.5])
    return float(low), float(high)


def project_slab(boxes: Float[np.ndarray, "b d d d"], axis: int, thickness: int) -> Float[np.ndarray, "b d d"]:
    """Return the mean of slices about the center voxel ``d // 2``.

    Parameters
    ----------
    boxes
        Subtomograms, zyx.
    axis
        Direction of view: 0 is z, which gives the xy picture.
    thickness
        Number of slices.
    """
    center = boxes.shape[1] // 2
    first = max(center - thickness // 2, 0)
    index = [slice(None)] * 4
    index[axis + 1] = slice(first, first + thickness)
    return np.asarray(boxes[tuple(index)].mean(axis=axis + 1))


def slab_thickness(box_size: int) -> int:
    """Return the slices in a picture of one noisy particle: an eighth of the box, odd, at least one."""
    return max(1, box_size // 8) | 1


def render_slab(box: Float[np.ndarray, "d d d"], axis: int) -> UInt8[np.ndarray, "d d"]:
    """Return a picture of one particle: its central slab with a gray range of its own."""
    image = project_slab(box[None], axis, slab_thickness(len(box)))[0]
    return to_gray_levels(image, *choose_gray_range(image))


def render_row(boxes: Float[np.ndarray, "b d d d"], name: str) -> str:
    """Return a row of central xy slabs as HTML; ``name`` describes them."""
    pictures = "".join(render_picture(render_slab(box, 0), f"{name}, central xy slab") for box in boxes)
    return f'<div class="views">{pictures}</div>'


def render_gallery(volumes: dict[str, Float[np.ndarray, "_ d d d"]]) -> str:
    """Return a heading and a row of up to six slabs for each kind of subtomograms, as HTML."""
    return "".join(f"<h3>{escape(kind)}</h3>{render_row(boxes[:_GALLERY], kind)}" for kind, boxes in volumes.items())


def render_thumbnails(
    volumes: ReadVolumes, rows: Int[np.ndarray, " m"], largest_edge: int
) -> UInt8[np.ndarray, "m e e"]:
    """Return the xy slab of each particle, binned to at most ``largest_edge`` pixels, each with its own gray range."""
    images = []
    for start in range(0, len(rows), _CHUNK):
        boxes = volumes(rows[start : start + _CHUNK])
        size = boxes.shape[1]
        factor = -(-size // largest_edge)
        edge = size // factor
        offset = (size - edge * factor) // 2
        slabs = project_slab(boxes, 0, slab_thickness(size))[:, offset:, offset:][:, : edge * factor, : edge * factor]
        small = slabs.reshape(len(boxes), edge, factor, edge, factor).mean(axis=(2, 4))
        images += [to_gray_levels(image, *choose_gray_range(image)) for image in small]
    return np.stack(images)


def average_by_class(
    volumes: ReadVolumes,
    labelings: Sequence[Int[np.ndarray, " n"]],
    rotation: Float[np.ndarray, "n 3 3"],
    class_count: int,
    seed: int,
) -> list[list[DisplayedAverage | None]]:
    """Return the average of each class for each labeling; None where a class has no particle.

    Where at least half of a class have a known orientation R, the particles with one are rotated by R transposed into
    the reference frame and averaged. Otherwise all are averaged without alignment. The average is a plain mean: the
    missing wedge is not compensated.

    Parameters
    ----------
    volumes
        Reads subtomograms of these rows.
    labelings
        Predicted, true, ... labels, -1 where unknown.
    rotation
        Orientations, reference to tomogram, zyx; NaN where unknown.
    class_count
        Number of classes.
    seed
        Of the draw of at most `MOST_AVERAGED` particles per class.
    """
    has_orientation = np.isfinite(rotation).all(axis=(1, 2))
    selections = _select_members(labelings, has_orientation, class_count, seed)
    averages: list[list[DisplayedAverage | None]] = [[None] * class_count for _ in labelings]
    if not selections:
        return averages
    sums: dict[int, NDArray[np.float64]] = {}
    needed = np.unique(np.concatenate([one.rows for one in selections]))
    for start in range(0, len(needed), _CHUNK):
        chunk = needed[start : start + _CHUNK]
        plain = volumes(chunk)
        aligned = _undo_rotations(plain, rotation[chunk], has_orientation[chunk])
        for k, one in enumerate(selections):
            inside = np.isin(chunk, one.rows)
            if inside.any():
                part = (aligned if one.is_aligned else plain)[inside].sum(axis=0, dtype=np.float64)
                sums[k] = sums[k] + part if k in sums else part
    for k, one in enumerate(selections):
        mean = (sums[k] / len(one.rows)).astype(np.float32)
        averages[one.labeling][one.label] = DisplayedAverage(mean, len(one.rows), one.members, one.is_aligned)
    return averages


def _select_members(
    labelings: Sequence[Int[np.ndarray, " n"]], has_orientation: Bool[np.ndarray, " n"], class_count: int, seed: int
) -> list[_Selection]:
    """Draw the particles of every average that has any."""
    generator = np.random.default_rng(seed)
    selections = []
    for labeling, labels in enumerate(labelings):
        for c in range(class_count):
            is_member = labels == c
            is_aligned = bool(is_member.any() and has_orientation[is_member].mean() >= 0.5)
            rows = np.flatnonzero(is_member & has_orientation if is_aligned else is_member)
            if len(rows):
                rows = np.sort(generator.permutation(rows)[:MOST_AVERAGED])
                selections.append(_Selection(labeling, c, rows, int(is_member.sum()), is_aligned))
    return selections


def _undo_rotations(
    boxes: NDArray[np.float32], rotation: Float[np.ndarray, "b 3 3"], has_orientation: Bool[np.ndarray, " b"]
) -> NDArray[np.float32]:
    result = boxes.copy()
    if has_orientation.any():
        inverse = np.ascontiguousarray(rotation[has_orientation].transpose(0, 2, 1), dtype=np.float32)
        source = torch.from_numpy(np.ascontiguousarray(boxes[has_orientation], dtype=np.float32))
        result[has_orientation] = rotate(source, torch.from_numpy(inverse)).numpy()
    return result
