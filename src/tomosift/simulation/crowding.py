"""Crowding: templates that are rendered in any pose, and the positions of neighbors around a particle."""

import math
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from tomosift.physics.rotation import rotate_upsampled, upsample
from tomosift.simulation.structures.densities import MASK_THRESHOLD, template_radius_angstrom

UPSAMPLING = 2
"""Templates are rotated from a source sampled this much finer: 1 % interpolation error instead of 3.5 %."""

MARGIN_VOXELS = 2.5
"""Density beyond the bounding sphere that is kept: its soft edge and the reach of a sub-voxel shift."""

ATTEMPTS = 24
"""Directions tried for each neighbor before it is left out."""

MAX_GAP_VOXELS = 2.0
"""Maximum distance between the bounding spheres of a neighbor and the target."""


@runtime_checkable
class Templates(Protocol):
    """Molecules of k classes that can be rendered into a box in any pose."""

    @property
    def radius_voxels(self) -> Float[Tensor, " k"]:
        """Radius of the bounding sphere about the center."""
        ...

    @property
    def mask_level(self) -> Float[Tensor, " k"]:
        """Density from which a voxel belongs to the molecule."""
        ...

    @property
    def voxel_spacing_angstrom(self) -> float:
        """Voxel spacing of the boxes."""
        ...

    @property
    def largest_scale(self) -> float:
        """Largest magnification that can be rendered."""
        ...

    def __len__(self) -> int: ...

    def to(self, device: torch.device | str) -> "Templates":
        """Return the same molecules on another device."""
        ...

    def render(
        self,
        label: Int64[Tensor, " b"],
        rotation: Float[Tensor, "b 3 3"],
        shift_zyx_voxels: Float[Tensor, "b 3"],
        size: int,
        scale: Float[Tensor, " b"] | None = None,
        is_visible: Bool[Tensor, " b"] | None = None,
    ) -> Float[Tensor, "b w w w"]:
        """Render one molecule per box: rotated and scaled about its center, then shifted from voxel ``size // 2``.

        Scale keeps the density. Boxes whose molecule is not visible stay empty.
        """
        ...


@dataclass(frozen=True)
class PreparedTemplates:
    """Templates of k classes, each cropped to the cube that holds its bounding sphere in every pose, and upsampled."""

    upsampled: tuple[Float[Tensor, "_ _ _"], ...]
    """Per class, `UPSAMPLING` times finer; edges differ."""
    radius_voxels: Float[Tensor, " k"]
    """Radius of the bounding sphere about the center."""
    mask_level: Float[Tensor, " k"]
    """Density from which a voxel belongs to the molecule."""
    voxel_spacing_angstrom: float
    largest_scale: float
    """Largest magnification that the cubes have room for."""

    def __len__(self) -> int:
        return len(self.upsampled)

    def to(self, device: torch.device | str) -> "PreparedTemplates":
        """Return the same templates on another device."""
        upsampled = tuple(tensor.to(device) for tensor in self.upsampled)
        radius, level = self.radius_voxels.to(device), self.mask_level.to(device)
        return replace(self, upsampled=upsampled, radius_voxels=radius, mask_level=level)

    def render(
        self,
        label: Int64[Tensor, " b"],
        rotation: Float[Tensor, "b 3 3"],
        shift_zyx_voxels: Float[Tensor, "b 3"],
        size: int,
        scale: Float[Tensor, " b"] | None = None,
        is_visible: Bool[Tensor, " b"] | None = None,
    ) -> Float[Tensor, "b w w w"]:
        """Render one template per box; see `Templates.render`.

        Whole voxels of the shift move the rotated cube, and the fraction is part of its resampling. The cost therefore
        depends on the size of the molecule and not on that of the box.
        """
        density = rotation.new_zeros(len(label), size, size, size)
        whole = shift_zyx_voxels.round()
        fraction, corner = shift_zyx_voxels - whole, whole.long() + size // 2
        visible = torch.ones_like(label, dtype=torch.bool) if is_visible is None else is_visible
        for one in torch.unique(label[visible]).tolist():
            rows = ((label == one) & visible).nonzero()[:, 0]
            edge = self.upsampled[one].shape[-1] // UPSAMPLING
            source = self.upsampled[one].expand(len(rows), -1, -1, -1)
            rotated = rotate_upsampled(
                source, UPSAMPLING, rotation[rows], fraction[rows], None if scale is None else scale[rows]
            )
            for row, cube, start in zip(rows.tolist(), rotated, (corner[rows] - edge // 2).tolist(), strict=True):
                _add(density[row], cube, start)
        return density


def prepare_templates(
    templates: Float[Tensor, "k d d d"], voxel_spacing_angstrom: float, largest_scale: float = 1.0
) -> PreparedTemplates:
    """Crop templates about their center, with room for magnification, and upsample them.

    Parameters
    ----------
    templates
        Densities with the reference center at voxel ``d // 2``.
    voxel_spacing_angstrom
        Voxel spacing of the templates.
    largest_scale
        Largest magnification that will be rendered.

    Raises
    ------
    ValueError
        If a template has no positive density, or there is none.
    """
    if len(templates) == 0 or bool((templates.amax(dim=(1, 2, 3)) <= 0).any()):
        raise ValueError(f"{len(templates)} templates, expected at least one and each with positive density")
    radius = [template_radius_angstrom(density, voxel_spacing_angstrom) for density in templates]
    radius_voxels = torch.tensor(radius, device=templates.device) / voxel_spacing_angstrom
    upsampled = tuple(
        upsample(resize_about_center(density[None], 2 * math.ceil(largest_scale * reach + MARGIN_VOXELS)), UPSAMPLING)[
            0
        ]
        for density, reach in zip(templates, radius_voxels.tolist(), strict=True)
    )
    level = MASK_THRESHOLD * templates.amax(dim=(1, 2, 3))
    return PreparedTemplates(upsampled, radius_voxels, level, voxel_spacing_angstrom, largest_scale)


def resize_about_center(volume: Float[Tensor, "*batch d d d"], size: int) -> Float[Tensor, "*batch w w w"]:
    """Crop volumes, or pad them with zeros, to another edge; voxel ``d // 2`` becomes voxel ``size // 2``."""
    before = size // 2 - volume.shape[-1] // 2
    after = size - volume.shape[-1] - before
    return torch.nn.functional.pad(volume, 3 * (before, after))


def place_neighbors(
    target_radius: Float[Tensor, " b"], neighbor_radius: Float[Tensor, "b n"], generator: torch.Generator
) -> tuple[Float[Tensor, "b n 3"], Bool[Tensor, "b n"]]:
    """Draw the offsets of neighbors from a target, in voxels; return them and whether each neighbor found room.

    The bounding sphere of each neighbor lies within `MAX_GAP_VOXELS` of the target's, in a random direction, and
    overlaps with none of the earlier neighbors.

    Parameters
    ----------
    target_radius
        Radii of the bounding spheres of targets, in voxels.
    neighbor_radius
        Radii of the bounding spheres of their neighbors, in voxels.
    generator
        Source of the random directions.

    Source: the published simulation packs bounding spheres by gradient descent; random directions with rejection give
    packings of the same kind, without iteration, for a whole batch at once.
    """
    batch, count = neighbor_radius.shape
    offset = neighbor_radius.new_zeros(batch, count, 3)
    is_placed = torch.zeros(batch, count, dtype=torch.bool, device=neighbor_radius.device)
    rows = torch.arange(batch, device=neighbor_radius.device)
    for index in range(count):
        direction = torch.randn(batch, ATTEMPTS, 3, generator=generator, device=generator.device).to(neighbor_radius)
        gap = MAX_GAP_VOXELS * torch.rand(batch, 1, generator=generator, device=generator.device).to(neighbor_radius)
        distance = target_radius[:, None] + neighbor_radius[:, index, None] + gap
        candidate = torch.nn.functional.normalize(direction, dim=-1) * distance[:, :, None]
        separation = (candidate[:, :, None] - offset[:, None, :index]).norm(dim=-1)
        needed = (neighbor_radius[:, index, None] + neighbor_radius[:, :index])[:, None]
        is_free = ((separation >= needed) | ~is_placed[:, None, :index]).all(dim=-1)
        first = is_free.to(torch.uint8).argmax(dim=1)
        offset[:, index] = candidate[rows, first]
        is_placed[:, index] = is_free[rows, first]
    return offset, is_placed


def _add(box: Float[Tensor, "w w w"], cube: Float[Tensor, "c c c"], start: list[int]) -> None:
    """Add a cube whose voxel 0 lies at ``start`` to a box, where they overlap."""
    size, edge = box.shape[0], cube.shape[0]
    if any(first >= size or first + edge <= 0 for first in start):
        return
    there = tuple(slice(max(first, 0), min(first + edge, size)) for first in start)
    here = tuple(slice(max(-first, 0), min(edge, size - first)) for first in start)
    box[there] += cube[here]
