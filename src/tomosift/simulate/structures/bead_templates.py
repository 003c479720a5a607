"""Molecules as Gaussian beads, drawn straight into a box in any pose: no map is kept or turned.

A complex of a hundred beads takes a tenth of the time that turning its map takes, so thousands of different ones can be
drawn once each.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from tomosift.simulate.structures.bead_models import beads_density
from tomosift.simulate.structures.densities import MASK_THRESHOLD, template_radius_angstrom
from tomosift.simulate.structures.potential import soft_nyquist

_REACH = 4.0  # widths of a bead beyond which it is not seen


@dataclass(frozen=True)
class BeadTemplates:
    """Bead models of k molecules; `tomosift.simulate.crowding.Templates` says what can be done with them."""

    beads: tuple[Float[Tensor, "_ 5"], ...]
    """Per class (z, y, x, width, weight): Angstrom about the center, V A^3."""
    radius_voxels: Float[Tensor, " k"]
    mask_level: Float[Tensor, " k"]
    voxel_spacing_angstrom: float
    largest_scale: float = math.inf

    def __len__(self) -> int:
        return len(self.beads)

    def to(self, device: torch.device | str) -> "BeadTemplates":
        """The same molecules on another device."""
        beads = tuple(tensor.to(device) for tensor in self.beads)
        radius, level = self.radius_voxels.to(device), self.mask_level.to(device)
        return replace(self, beads=beads, radius_voxels=radius, mask_level=level)

    def rendered(
        self,
        label: Int64[Tensor, " b"],
        rotation: Float[Tensor, "b 3 3"],
        shift_zyx_voxels: Float[Tensor, "b 3"],
        size: int,
        scale: Float[Tensor, " b"] | None = None,
        shown: Bool[Tensor, " b"] | None = None,
    ) -> Float[Tensor, "b w w w"]:
        """Each molecule turned and magnified about its center and moved from voxel ``size // 2``.

        Boxes where it is not ``shown`` stay empty. Each bead is a product of three Gaussians that are cut at Nyquist
        along their own axes, so nothing aliases; the corners of the Fourier cube, which `beads_density` cuts as well,
        stay.
        """
        density = rotation.new_zeros(len(label), size, size, size)
        wanted = torch.ones_like(label, dtype=torch.bool) if shown is None else shown
        rows = wanted.nonzero()[:, 0].tolist()
        if not rows:
            return density
        models = [self.beads[int(label[row])] for row in rows]
        row = torch.tensor(rows, device=label.device).repeat_interleave(
            torch.tensor([len(model) for model in models], device=label.device)
        )
        z, y, x, width, weight = torch.cat(models).T
        larger = torch.ones_like(width) if scale is None else scale[row]
        place = torch.einsum("bij,bj->bi", rotation[row], torch.stack((z, y, x), dim=1)) * larger[:, None]
        place = place / self.voxel_spacing_angstrom + shift_zyx_voxels[row] + size // 2
        width = width * larger / self.voxel_spacing_angstrom
        # Magnifying keeps the density, so a bead holds as much more as it is larger.
        weight = weight * (larger / self.voxel_spacing_angstrom) ** 3
        margin = math.ceil(_REACH * float(width.max())) + 1
        near = ((place > -margin) & (place < size - 1 + margin)).all(dim=1)
        row, place, width, weight = row[near], place[near], width[near], weight[near]
        z, y, x = _profiles(place, width, size, margin).unbind(1)
        z = z * weight[:, None]
        counts = torch.bincount(row, minlength=len(label)).tolist()
        first = 0
        for one in rows:
            mine = slice(first, first + counts[one])
            plane = (z[mine, :, None] * y[mine, None, :]).reshape(counts[one], size * size)
            torch.mm(plane.T, x[mine], out=density[one].view(size * size, size))
            first += counts[one]
        return density


def prepare_beads(beads: Sequence[Float[Tensor, "_ 5"]], voxel_spacing_angstrom: float) -> BeadTemplates:
    """Bead models ready to be drawn at a voxel spacing, with the radius and mask level that their densities have."""
    radius, level = [], []
    for one in beads:
        reach = float((one[:, :3].norm(dim=1) + _REACH * one[:, 3]).max())
        density = beads_density(one, voxel_spacing_angstrom, 2 * math.ceil(reach / voxel_spacing_angstrom) + 2)
        radius.append(template_radius_angstrom(density, voxel_spacing_angstrom) / voxel_spacing_angstrom)
        level.append(MASK_THRESHOLD * float(density.max()))
    return BeadTemplates(tuple(beads), torch.tensor(radius), torch.tensor(level), voxel_spacing_angstrom)


def _profiles(
    place: Float[Tensor, "n 3"], width: Float[Tensor, " n"], size: int, margin: int
) -> Float[Tensor, "n 3 w"]:
    """Gaussians of unit sum about each place, in voxels, along each axis; cut at Nyquist.

    They are periodic over the box and its margin, which is wide enough for no bead to be seen twice.
    """
    period = size + 2 * margin
    frequency = torch.arange(period // 2 + 1, device=place.device) / period
    share = torch.where((frequency == 0) | (frequency == 0.5), 1.0, 2.0) / period * soft_nyquist(frequency**2, 1.0)
    transfer = share * torch.exp(-2 * (math.pi * width[:, None] * frequency) ** 2)
    phase = 2 * math.pi * frequency * place[:, :, None]
    along = 2 * math.pi * frequency[:, None] * torch.arange(size, device=place.device)
    waves = torch.cat((phase.cos() * transfer[:, None], phase.sin() * transfer[:, None]), dim=2)
    return waves @ torch.cat((along.cos(), along.sin()))
