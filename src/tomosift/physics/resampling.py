"""Volumes read between their voxels."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

_LARGEST_PICTURE = 96  # voxels; rounding grows with the square of the edge, and there is little to gain beyond


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
    if volume.is_cuda or edge > _LARGEST_PICTURE:
        place = _places(matrix, offset_zyx_voxels, size, displacement_zyx_voxels, (2 / edge,) * 3, (1 / edge - 1,) * 3)
        grid = place.movedim(1, -1)
        return F.grid_sample(volume[:, None], grid, mode="bilinear", padding_mode="zeros", align_corners=False)[:, 0]
    return _from_slices(volume, matrix, offset_zyx_voxels, size, displacement_zyx_voxels)


def _from_slices(
    volume: Tensor, matrix: Tensor, offset_zyx_voxels: Tensor, size: int, displacement_zyx_voxels: Tensor | None
) -> Tensor:
    """From a picture of all slices; between them lie rows of zeros, before and after them slices of zeros."""
    edge = volume.shape[-1]
    pitch, middle = edge + 1, edge // 2
    # A height that is a power of two makes the way from rows to what grid_sample counts in, and back, exact.
    height = 1 << ((edge + 3) * pitch).bit_length()
    first = height // 2 - middle * pitch  # the row where slice 0 begins, so that all count from the middle
    # grid_sample counts from -1 to 1, half a row inside.
    unit, origin = (2 / edge, 2 / height, 1.0), (1 / edge - 1, 1 / height, -float(middle))
    place = _places(matrix, offset_zyx_voxels, size, displacement_zyx_voxels, unit, origin)
    row, z = place[:, 1], place[:, 2].clamp_(-1 - middle, edge - middle)
    below = z.floor()
    between = z.sub_(below)
    row.clamp_(origin[1] - unit[1], origin[1] + edge * unit[1]).add_(below, alpha=pitch * unit[1])
    # One source for many poses is laid out once.
    source = volume[:1] if volume.stride(0) == 0 else volume
    picture = source.new_empty(len(source), height + pitch, edge)
    last = first + edge * pitch
    slices = picture[:, first:last].view(len(source), edge, pitch, edge)
    slices[:, :, :edge] = source
    # Zeros, as far as anything is looked at.
    for around in (slices[:, :, edge], picture[:, first - pitch - 2 : first], picture[:, last : last + 2 * pitch + 2]):
        around.zero_()
    # The same picture, and again from one slice further on.
    both = picture.flatten(1).unfold(1, height * edge, pitch * edge).view(len(source), 2, height, edge)
    grid = place[:, :2].flatten(2, 3).permute(0, 2, 3, 1)
    sampled = F.grid_sample(both.expand(len(volume), -1, -1, -1), grid, padding_mode="zeros", align_corners=False)
    lower, upper = sampled.view(len(volume), 2, size, size, size).unbind(1)
    return torch.lerp(lower, upper, between)


def _places(
    matrix: Tensor,
    offset_zyx_voxels: Tensor,
    size: int,
    displacement_zyx_voxels: Tensor | None,
    unit_xyz: tuple[float, float, float],
    origin_xyz: tuple[float, float, float],
) -> Float[Tensor, "b 3 s s s"]:
    """Where every voxel is read, x first, in these units from these origins."""
    unit, origin = matrix.new_tensor(unit_xyz), matrix.new_tensor(origin_xyz)
    matrix = matrix.flip(1) * unit[:, None]
    steps = torch.arange(size, dtype=matrix.dtype, device=matrix.device)
    # A sum of one term per axis; adding them up, a plane at a time, beats a product of matrices many times over.
    along_z, along_y, along_x = (matrix[:, :, axis, None] * steps for axis in range(3))
    along_z = along_z + (offset_zyx_voxels.flip(1) * unit + origin)[:, :, None]
    plane = (along_y[:, :, :, None] + along_x[:, :, None]).flatten(2)
    place = (along_z[..., None] + plane[:, :, None]).view(len(matrix), 3, size, size, size)
    if displacement_zyx_voxels is not None:
        place += torch.einsum("bij,bzyxj->bizyx", matrix, displacement_zyx_voxels)
    return place
