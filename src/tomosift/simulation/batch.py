"""One batch of simulated subtomograms: target, neighbors and microscope, without a tomogram."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from tomosift.physics.imaging import ImagingParameters, ImagingRanges, image_parts
from tomosift.physics.rotation import random_rotations
from tomosift.simulation.crowding import Templates, place_neighbors, resize_about_center


@dataclass(frozen=True)
class SimulatedBatch:
    """Simulated subtomograms and their ground truth."""

    volume: Float[Tensor, "b d d d"]
    """As imaged; density positive, not normalized."""
    label: Int64[Tensor, " b"]
    rotation: Float[Tensor, "b 3 3"]
    """Takes the target's template into the tomogram frame (zyx column vectors)."""
    shift_zyx_voxels: Float[Tensor, "b 3"]
    """Shift of the target from voxel ``d // 2``."""
    mask: Bool[Tensor, "b d d d"]
    """Voxels of the target, neighbors not included."""
    tilt_range_deg: Float[Tensor, "b 2"]
    neighbors: Int64[Tensor, " b"]
    """Number of neighbors that found room beside the target; not all of them reach into the box."""
    parameters: ImagingParameters
    """All conditions of imaging."""
    halves: Float[Tensor, "b 2 d d d"] | None = None
    """Same signal, independent noise of twice the variance; ``volume`` is their mean."""


def simulate_batch(
    templates: Templates,
    labels: Int64[Tensor, " b"],
    ranges: ImagingRanges,
    generator: torch.Generator,
    *,
    box_size: int = 32,
    max_neighbors: int = 4,
    halves: bool = False,
    margin_voxels: int | None = None,
    neighbor_classes: int | None = None,
) -> SimulatedBatch:
    """Simulate one subtomogram per label, as a function of the arguments and the state of the generator.

    The density of the target and its neighbors is imaged in a box that is wider by a margin and then cropped, so that
    density outside blurs into the subtomogram as in a tomogram. ``ranges.snr`` holds in the subtomogram.

    Parameters
    ----------
    labels
        Class of each target.
    ranges
        Imaging conditions, with pose, scale and shift of the target.
    max_neighbors
        Each target has 0 to this many neighbors with random poses; their bounding spheres do not overlap.
    halves
        Also return two halves with independent noise.
    margin_voxels
        Margin on every side; by default an eighth of the box size, and 0 without neighbors.
    neighbor_classes
        Number of templates, from the first on, that neighbors are of; by default all.

    Raises
    ------
    ValueError
        If a label has no template, or ``ranges`` does not fit the templates.

    Source: the order of the steps follows the public simulator of the aitom project. Deviations: spheres are placed by
    rejection, the number of neighbors is drawn for each subtomogram, and subtomograms are never truncated at a border.
    """
    _check(templates, labels, ranges, max_neighbors)
    margin = margin_voxels if margin_voxels is not None else (math.ceil(box_size / 8) if max_neighbors else 0)
    parameters = ranges.sample(len(labels), generator).to(labels.device)
    pose = (parameters.rotation, parameters.shift_zyx_voxels)
    density = templates.render(labels, *pose, box_size + 2 * margin, scale=parameters.scale)
    mask = resize_about_center(density, box_size) > templates.mask_level[labels][:, None, None, None]
    classes = neighbor_classes or len(templates)
    density, neighbors = _add_neighbors(density, templates, labels, parameters, generator, max_neighbors, classes)
    views = _image_cropped(density, parameters, generator, box_size, views=2 if halves else 1)
    return SimulatedBatch(
        volume=views.mean(dim=1),
        label=labels,
        rotation=parameters.rotation,
        shift_zyx_voxels=parameters.shift_zyx_voxels,
        mask=mask,
        tilt_range_deg=parameters.tilt_range_deg,
        neighbors=neighbors,
        parameters=parameters,
        halves=views if halves else None,
    )


def _add_neighbors(
    density: Float[Tensor, "b w w w"],
    templates: Templates,
    labels: Int64[Tensor, " b"],
    parameters: ImagingParameters,
    generator: torch.Generator,
    max_neighbors: int,
    neighbor_classes: int,
) -> tuple[Float[Tensor, "b w w w"], Int64[Tensor, " b"]]:
    """Add random neighbors to the densities of targets; return the number that found room beside each as well."""
    batch, size, device = len(labels), density.shape[-1], labels.device
    count = torch.randint(max_neighbors + 1, (batch,), generator=generator, device=generator.device).to(device)
    shape = (batch, max_neighbors)
    neighbor = torch.randint(neighbor_classes, shape, generator=generator, device=generator.device).to(device)
    rotation = random_rotations(batch * max_neighbors, generator, device=device).reshape(*shape, 3, 3)
    radius = templates.radius_voxels
    offset, is_placed = place_neighbors(radius[labels] * parameters.scale, radius[neighbor], generator)
    is_placed = is_placed & (torch.arange(max_neighbors, device=device) < count[:, None])
    for index in range(max_neighbors):
        position = parameters.shift_zyx_voxels + offset[:, index]
        reaches_box = (position.abs() < radius[neighbor[:, index], None] + size // 2 + 1).all(dim=1)
        is_visible = is_placed[:, index] & reaches_box
        density = density + templates.render(
            neighbor[:, index], rotation[:, index], position, size, is_visible=is_visible
        )
    return density, is_placed.sum(dim=1)


def _image_cropped(
    density: Float[Tensor, "b w w w"],
    parameters: ImagingParameters,
    generator: torch.Generator,
    box_size: int,
    views: int,
) -> Float[Tensor, "b v d d d"]:
    """Image posed densities in their wide box and crop the result, with the SNR of the cropped box."""
    parts = image_parts(density, parameters, generator, views=views, is_posed=True)
    signal, noise = resize_about_center(parts.signal, box_size), resize_about_center(parts.noise, box_size)
    # The noise was drawn for the signal of the wide box; the stated SNR is that of the cropped box.
    ratio = (signal.var(dim=(1, 2, 3)) / parts.signal.var(dim=(1, 2, 3)).clamp_min(1e-30)).sqrt()
    return signal[:, None] + noise * ratio[:, None, None, None, None]


def _check(templates: Templates, labels: Tensor, ranges: ImagingRanges, max_neighbors: int) -> None:
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(templates):
        got = f"labels from {int(labels.min())} to {int(labels.max())}"
        raise ValueError(f"{got} but {len(templates)} templates; labels count from 0")
    spacing = templates.voxel_spacing_angstrom
    if ranges.voxel_spacing_angstrom != (spacing, spacing):
        got = f"voxel_spacing_angstrom of ranges is {ranges.voxel_spacing_angstrom}"
        raise ValueError(f"{got}, the templates have {spacing:g} A; set both ends of the range to it")
    if ranges.scale[1] > templates.largest_scale:
        got = f"scale is {ranges.scale}, the templates were prepared for at most {templates.largest_scale:g}"
        raise ValueError(f"{got}; prepare them with largest_scale={ranges.scale[1]:g}")
    if max_neighbors < 0:
        raise ValueError(f"max_neighbors is {max_neighbors}, expected 0 or more")
