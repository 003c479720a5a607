"""Volumes read between their voxels."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

_LARGEST_PICTURE = 96  # voxels; rounding grows with the square of the edge, and there is little to gain beyond
_AT_ONCE = 16 * 32**3  # voxels; what is done to more leaves the processor's cache, to fewer takes too many calls


def trilinear(
    volume: Float[Tensor, "b d d d"],
    matrix: Float[Tensor, "b 3 3"],
    offset_zyx_voxels: Float[Tensor, "b 3"],
    size: int,
    displacement_zyx_voxels: Float[Tensor, "b s s s 3"] | None = None,
) -> Float[Tensor, "b s s s"]:
    """Boxes of edge ``size`` that show, at voxel p, what the volume holds at ``matrix @ p + offset``.

    Places are zyx, in voxels, counted from voxel 0. With a field of displacements voxel p shows what is at
    ``matrix @ (p + displacement(p)) + offset``. Outside the volume is zero. Everything but the size has a gradient.

    On processors torch samples pictures many times as fast as volumes, so there a volume is laid out as one tall
    picture, slice below slice, and each voxel is looked up in two of its slices. Places along y are then rounded to
    1e-4 voxels in boxes of 32, 5e-4 in boxes of 96; whole voxels stay whole.
    """
    edge = volume.shape[-1]
    reading = (matrix, offset_zyx_voxels, size, displacement_zyx_voxels)
    if volume.is_cuda or edge > _LARGEST_PICTURE:
        place = _Places.of(*reading, unit_xyz=(2 / edge,) * 3, origin_xyz=(1 / edge - 1,) * 3).of_boxes(slice(None))
        grid = place.movedim(1, -1)
        return F.grid_sample(volume[:, None], grid, mode="bilinear", padding_mode="zeros", align_corners=False)[:, 0]
    sources = (volume, matrix, offset_zyx_voxels, displacement_zyx_voxels)
    if torch.is_grad_enabled() and any(source is not None and source.requires_grad for source in sources):
        return _from_slices(volume, *reading)
    return _from_slices(volume.detach(), *reading, at_once=max(1, _AT_ONCE // size**3))


@dataclass(frozen=True)
class _Places:
    """Where every voxel is read, x first, in some unit from some origin: a sum of one term per axis.

    Adding them up, a plane at a time, beats a product of matrices many times over.
    """

    matrix: Float[Tensor, "b 3 3"]
    along_z: Float[Tensor, "b 3 s 1"]
    plane: Float[Tensor, "b 3 1 s*s"]
    displacement_zyx_voxels: Float[Tensor, "b s s s 3"] | None

    @classmethod
    def of(
        cls,
        matrix: Tensor,
        offset_zyx_voxels: Tensor,
        size: int,
        displacement_zyx_voxels: Tensor | None,
        unit_xyz: tuple[float, float, float],
        origin_xyz: tuple[float, float, float],
    ) -> "_Places":
        unit, origin = matrix.new_tensor(unit_xyz), matrix.new_tensor(origin_xyz)
        matrix = matrix.flip(1) * unit[:, None]
        steps = torch.arange(size, dtype=matrix.dtype, device=matrix.device)
        along_z, along_y, along_x = (matrix[:, :, axis, None] * steps for axis in range(3))
        along_z = along_z + (offset_zyx_voxels.flip(1) * unit + origin)[:, :, None]
        plane = (along_y[:, :, :, None] + along_x[:, :, None]).flatten(2)
        return cls(matrix, along_z[..., None], plane[:, :, None], displacement_zyx_voxels)

    def of_boxes(self, part: slice, out: Tensor | None = None) -> Float[Tensor, "n 3 s s s"]:
        """Those of some of the boxes, written to ``out`` where it is given."""
        size = self.along_z.shape[2]
        place = torch.add(self.along_z[part], self.plane[part], out=out).view(-1, 3, size, size, size)
        if self.displacement_zyx_voxels is not None:
            place += torch.einsum("bij,bzyxj->bizyx", self.matrix[part], self.displacement_zyx_voxels[part])
        return place


def _from_slices(
    volume: Tensor,
    matrix: Tensor,
    offset_zyx_voxels: Tensor,
    size: int,
    displacement_zyx_voxels: Tensor | None,
    at_once: int | None = None,
) -> Tensor:
    """From a picture of all slices; between them lie rows of zeros, before and after them slices of zeros.

    With ``at_once`` so many boxes at a time, in memory that is used again and so stays in the cache; a gradient, which
    needs all that was there, forbids it.
    """
    count, edge = len(volume), volume.shape[-1]
    pitch, middle = edge + 1, edge // 2
    # A height that is a power of two makes the way from rows to what grid_sample counts in, and back, exact.
    height = 1 << ((edge + 3) * pitch).bit_length()
    first = height // 2 - middle * pitch  # the row where slice 0 begins, so that all count from the middle
    last = first + edge * pitch
    # grid_sample counts from -1 to 1, half a row inside.
    unit, origin = (2 / edge, 2 / height, 1.0), (1 / edge - 1, 1 / height, -float(middle))
    places = _Places.of(matrix, offset_zyx_voxels, size, displacement_zyx_voxels, unit, origin)

    # One source for many poses is laid out once.
    one = volume.stride(0) == 0
    width = max(1, min(count, at_once or count))
    picture = volume.new_empty(1 if one else width, height + pitch, edge)
    slices = picture[:, first:last].view(len(picture), edge, pitch, edge)
    # Zeros, as far as anything is looked at.
    for around in (slices[:, :, edge], picture[:, first - pitch - 2 : first], picture[:, last : last + 2 * pitch + 2]):
        around.zero_()
    if one:
        slices[:, :, :edge] = volume[:1]
    # The same picture, and again from one slice further on.
    both = picture.flatten(1).unfold(1, height * edge, pitch * edge).view(-1, 2, height, edge)
    both = both.expand(width, -1, -1, -1)

    def boxes(
        part: slice, place: Tensor | None = None, below: Tensor | None = None, out: Tensor | None = None
    ) -> Tensor:
        place = places.of_boxes(part, place)
        row, z = place[:, 1], place[:, 2].clamp_(-1 - middle, edge - middle)
        below = torch.floor(z, out=below)
        between = z.sub_(below)
        row.clamp_(origin[1] - unit[1], origin[1] + edge * unit[1]).add_(below, alpha=pitch * unit[1])
        if not one:
            slices[: len(place), :, :edge] = volume[part]
        grid = place[:, :2].flatten(2, 3).permute(0, 2, 3, 1)
        sampled = F.grid_sample(both[: len(place)], grid, padding_mode="zeros", align_corners=False)
        lower, upper = sampled.view(-1, 2, size, size, size).unbind(1)
        return torch.lerp(lower, upper, between, out=out)

    if at_once is None:
        return boxes(slice(0, count))
    read = volume.new_empty(count, size, size, size)
    place, below = volume.new_empty(width, 3, size, size**2), volume.new_empty(width, size, size, size)
    for start in range(0, count, width):
        out = read[start : start + width]
        boxes(slice(start, start + width), place[: len(out)], below[: len(out)], out)
    return read
