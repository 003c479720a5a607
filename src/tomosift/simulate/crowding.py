"""One particle and its neighbors in a box: where they lie, and the density they make together."""

import math
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from tomosift.physics.rotation import rotate_upsampled, upsampled
from tomosift.simulate.structures.densities import MASK_THRESHOLD, template_radius_angstrom

FINER = 2
"""Templates are turned from a source sampled this much finer: 1 % interpolation error instead of 3.5 %."""

FRINGE_VOXELS = 2.5
"""Density beyond the molecule's sphere that is kept: its soft edge and the reach of a sub-voxel shift."""

TRIES = 24
"""Directions tried for each neighbor before it is left out."""

SLACK_VOXELS = 2.0
"""A neighbor's sphere lies up to this far from touching the target's."""


@runtime_checkable
class Templates(Protocol):
    """Molecules of k classes that can be drawn into a box in any pose."""

    @property
    def radius_voxels(self) -> Float[Tensor, " k"]:
        """Of the sphere about the center that holds the molecule."""
        ...

    @property
    def mask_level(self) -> Float[Tensor, " k"]:
        """Density from which a voxel belongs to the molecule."""
        ...

    @property
    def voxel_spacing_angstrom(self) -> float:
        """Of the boxes they are drawn into."""
        ...

    @property
    def largest_scale(self) -> float:
        """Magnification up to which they can be drawn."""
        ...

    def __len__(self) -> int: ...

    def to(self, device: torch.device | str) -> "Templates":
        """The same molecules on another device."""
        ...

    def rendered(
        self,
        label: Int64[Tensor, " b"],
        rotation: Float[Tensor, "b 3 3"],
        shift_zyx_voxels: Float[Tensor, "b 3"],
        size: int,
        scale: Float[Tensor, " b"] | None = None,
        shown: Bool[Tensor, " b"] | None = None,
    ) -> Float[Tensor, "b w w w"]:
        """Each molecule turned and magnified about its center and moved from voxel ``size // 2``; its density is kept.

        Boxes where it is not ``shown`` stay empty.
        """
        ...


@dataclass(frozen=True)
class PreparedTemplates:
    """Templates of k classes ready to be turned, each cut to the cube that holds its sphere in every pose."""

    fine: tuple[Float[Tensor, "_ _ _"], ...]
    """Per class, sampled `FINER` times finer; edges differ."""
    radius_voxels: Float[Tensor, " k"]
    """Of the sphere about the center that holds the molecule."""
    mask_level: Float[Tensor, " k"]
    """Density from which a voxel belongs to the molecule."""
    voxel_spacing_angstrom: float
    largest_scale: float
    """Magnification that the cubes have room for."""

    def __len__(self) -> int:
        return len(self.fine)

    def to(self, device: torch.device | str) -> "PreparedTemplates":
        """The same templates on another device."""
        fine = tuple(tensor.to(device) for tensor in self.fine)
        radius, level = self.radius_voxels.to(device), self.mask_level.to(device)
        return replace(self, fine=fine, radius_voxels=radius, mask_level=level)

    def rendered(
        self,
        label: Int64[Tensor, " b"],
        rotation: Float[Tensor, "b 3 3"],
        shift_zyx_voxels: Float[Tensor, "b 3"],
        size: int,
        scale: Float[Tensor, " b"] | None = None,
        shown: Bool[Tensor, " b"] | None = None,
    ) -> Float[Tensor, "b w w w"]:
        """Each template turned and magnified about its center and moved from voxel ``size // 2``.

        Boxes where it is not ``shown`` stay empty. The whole voxels of a shift move the turned cube, the rest goes into
        its one resampling: cost follows the size of the molecule and not that of the box.
        """
        density = rotation.new_zeros(len(label), size, size, size)
        whole = shift_zyx_voxels.round()
        fraction, corner = shift_zyx_voxels - whole, whole.long() + size // 2
        wanted = torch.ones_like(label, dtype=torch.bool) if shown is None else shown
        for one in torch.unique(label[wanted]).tolist():
            rows = ((label == one) & wanted).nonzero()[:, 0]
            edge = self.fine[one].shape[-1] // FINER
            source = self.fine[one].expand(len(rows), -1, -1, -1)
            turned = rotate_upsampled(
                source, FINER, rotation[rows], fraction[rows], None if scale is None else scale[rows]
            )
            for row, cube, start in zip(rows.tolist(), turned, (corner[rows] - edge // 2).tolist(), strict=True):
                _add(density[row], cube, start)
        return density


def prepare_templates(
    templates: Float[Tensor, "k d d d"], voxel_spacing_angstrom: float, largest_scale: float = 1.0
) -> PreparedTemplates:
    """Cut templates about their center to what is needed, with room to magnify them, and sample them finer.

    Raises
    ------
    ValueError
        If a template has no positive density, or there is none.
    """
    if len(templates) == 0 or bool((templates.amax(dim=(1, 2, 3)) <= 0).any()):
        raise ValueError(f"{len(templates)} templates, expected at least one and each with positive density")
    radius = [template_radius_angstrom(density, voxel_spacing_angstrom) for density in templates]
    radius_voxels = torch.tensor(radius, device=templates.device) / voxel_spacing_angstrom
    fine = tuple(
        upsampled(centered_in(density[None], 2 * math.ceil(largest_scale * reach + FRINGE_VOXELS)), FINER)[0]
        for density, reach in zip(templates, radius_voxels.tolist(), strict=True)
    )
    level = MASK_THRESHOLD * templates.amax(dim=(1, 2, 3))
    return PreparedTemplates(fine, radius_voxels, level, voxel_spacing_angstrom, largest_scale)


def centered_in(volume: Float[Tensor, "*batch d d d"], size: int) -> Float[Tensor, "*batch w w w"]:
    """Boxes cut or padded with zeros to another edge; voxel ``d // 2`` becomes voxel ``size // 2``."""
    before = size // 2 - volume.shape[-1] // 2
    after = size - volume.shape[-1] - before
    return torch.nn.functional.pad(volume, 3 * (before, after))


def place_neighbors(
    target_radius: Float[Tensor, " b"], neighbor_radius: Float[Tensor, "b n"], generator: torch.Generator
) -> tuple[Float[Tensor, "b n 3"], Bool[Tensor, "b n"]]:
    """Offsets of neighbors from the target, in the unit of the radii plus up to `SLACK_VOXELS`, and which found room.

    Each neighbor's bounding sphere nearly touches the target's in a random direction and cuts no earlier neighbor's.

    Source: the published simulation packs bounding spheres by gradient descent; random directions with rejection give
    packings of the same kind, without iteration, for a whole batch at once.
    """
    batch, count = neighbor_radius.shape
    offset = neighbor_radius.new_zeros(batch, count, 3)
    placed = torch.zeros(batch, count, dtype=torch.bool, device=neighbor_radius.device)
    rows = torch.arange(batch, device=neighbor_radius.device)
    for index in range(count):
        direction = torch.randn(batch, TRIES, 3, generator=generator, device=generator.device).to(neighbor_radius)
        slack = SLACK_VOXELS * torch.rand(batch, 1, generator=generator, device=generator.device).to(neighbor_radius)
        distance = target_radius[:, None] + neighbor_radius[:, index, None] + slack
        candidate = torch.nn.functional.normalize(direction, dim=-1) * distance[:, :, None]
        apart = (candidate[:, :, None] - offset[:, None, :index]).norm(dim=-1)
        needed = (neighbor_radius[:, index, None] + neighbor_radius[:, :index])[:, None]
        free = ((apart >= needed) | ~placed[:, None, :index]).all(dim=-1)
        first = free.to(torch.uint8).argmax(dim=1)
        offset[:, index] = candidate[rows, first]
        placed[:, index] = free[rows, first]
    return offset, placed


def _add(box: Float[Tensor, "w w w"], cube: Float[Tensor, "c c c"], start: list[int]) -> None:
    """Add a cube whose voxel 0 lies at ``start`` to a box, as far as they overlap."""
    size, edge = box.shape[0], cube.shape[0]
    if any(first >= size or first + edge <= 0 for first in start):
        return
    there = tuple(slice(max(first, 0), min(first + edge, size)) for first in start)
    here = tuple(slice(max(-first, 0), min(edge, size - first)) for first in start)
    box[there] += cube[here]
