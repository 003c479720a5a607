"""Trilinear resampling of volumes."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

_MAX_PICTURE_EDGE = 96  # voxels; rounding grows with the square of the edge, and there is little to gain beyond
_CHUNK_VOXELS = 16 * 32**3  # more voxels leave the processor's cache, fewer take too many calls


def trilinear(
    volume: Float[Tensor, "b d d d"],
    matrix: Float[Tensor, "b 3 3"],
    offset_zyx_voxels: Float[Tensor, "b 3"],
    size: int,
    displacement_zyx_voxels: Float[Tensor, "b s s s 3"] | None = None,
) -> Float[Tensor, "b s s s"]:
    """Return volumes of edge ``size`` that show, at voxel p, the value of the source at ``matrix @ p + offset``.

    Positions are zyx, in voxels, counted from voxel 0. Outside the source is zero. The function is differentiable in
    all its tensors.

    Parameters
    ----------
    volume
        Sources, one per matrix.
    matrix, offset_zyx_voxels
        Affine map from positions in the result to positions in the source.
    size
        Edge of the result in voxels.
    displacement_zyx_voxels
        Voxel p shows the value at ``matrix @ (p + displacement(p)) + offset`` instead.

    Notes
    -----
    On CPUs torch samples images many times as fast as volumes. There a volume is laid out as one tall image, slice
    below slice, and each voxel is interpolated between two samples of it. Positions along y are then rounded to 1e-4
    voxels for an edge of 32 and 5e-4 for an edge of 96; whole voxels stay whole.
    """
    edge = volume.shape[-1]
    mapping = (matrix, offset_zyx_voxels, size, displacement_zyx_voxels)
    if volume.is_cuda or edge > _MAX_PICTURE_EDGE:
        positions = _Positions.of(*mapping, unit_xyz=(2 / edge,) * 3, origin_xyz=(1 / edge - 1,) * 3)
        grid = positions.select(slice(None)).movedim(1, -1)
        return F.grid_sample(volume[:, None], grid, mode="bilinear", padding_mode="zeros", align_corners=False)[:, 0]
    sources = (volume, matrix, offset_zyx_voxels, displacement_zyx_voxels)
    if torch.is_grad_enabled() and any(source is not None and source.requires_grad for source in sources):
        return _resample_picture(volume, *mapping)
    return _resample_picture(volume.detach(), *mapping, chunk=max(1, _CHUNK_VOXELS // size**3))


@dataclass(frozen=True)
class _Positions:
    """Source positions of every voxel, x first, in given units from a given origin: a sum of one term per axis.

    Adding the terms, a plane at a time, is many times as fast as a product of matrices.
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
    ) -> "_Positions":
        unit, origin = matrix.new_tensor(unit_xyz), matrix.new_tensor(origin_xyz)
        matrix = matrix.flip(1) * unit[:, None]
        steps = torch.arange(size, dtype=matrix.dtype, device=matrix.device)
        along_z, along_y, along_x = (matrix[:, :, axis, None] * steps for axis in range(3))
        along_z = along_z + (offset_zyx_voxels.flip(1) * unit + origin)[:, :, None]
        plane = (along_y[:, :, :, None] + along_x[:, :, None]).flatten(2)
        return cls(matrix, along_z[..., None], plane[:, :, None], displacement_zyx_voxels)

    def select(self, part: slice, out: Tensor | None = None) -> Float[Tensor, "n 3 s s s"]:
        """Return the positions for some of the volumes, written to ``out`` if it is given."""
        size = self.along_z.shape[2]
        position = torch.add(self.along_z[part], self.plane[part], out=out).view(-1, 3, size, size, size)
        if self.displacement_zyx_voxels is not None:
            position += torch.einsum("bij,bzyxj->bizyx", self.matrix[part], self.displacement_zyx_voxels[part])
        return position


@dataclass(frozen=True)
class _Picture:
    """Volumes laid out as tall images of all slices, with rows of zeros between slices and zeros before and after them.

    Holds a chunk of the volumes at a time; ``sample`` fills it. If all volumes are the same tensor, one picture serves
    all of them.
    """

    volume: Float[Tensor, "b d d d"]
    is_shared: bool
    """Whether all volumes are one, expanded."""
    slices: Tensor
    """(chunk or 1, d, d + 1, d) the pictures, slice by slice."""
    pairs: Tensor
    """(chunk, 2, height, d) the pictures, and the same pictures from one slice further on."""
    unit_xyz: tuple[float, float, float]
    origin_xyz: tuple[float, float, float]
    """Origin of positions in the picture; with ``unit_xyz`` in the coordinates of grid_sample for x and y."""

    @classmethod
    def of(cls, volume: Tensor, chunk: int) -> "_Picture":
        edge = volume.shape[-1]
        pitch, center = edge + 1, edge // 2
        # A power of two as height makes the conversion from rows to the coordinates of grid_sample, and back, exact.
        height = 1 << ((edge + 3) * pitch).bit_length()
        first = height // 2 - center * pitch  # the row where slice 0 begins, so that rows count from the center slice
        last = first + edge * pitch
        is_shared = volume.stride(0) == 0
        picture = volume.new_empty(1 if is_shared else chunk, height + pitch, edge)
        slices = picture[:, first:last].view(len(picture), edge, pitch, edge)
        # Zeros only where samples can reach.
        before, after = picture[:, first - pitch - 2 : first], picture[:, last : last + 2 * pitch + 2]
        for padding in (slices[:, :, edge], before, after):
            padding.zero_()
        if is_shared:
            slices[:, :, :edge] = volume[:1]
        pairs = picture.flatten(1).unfold(1, height * edge, pitch * edge).view(-1, 2, height, edge)
        # grid_sample counts from -1 to 1, half a row inside.
        unit, origin = (2 / edge, 2 / height, 1.0), (1 / edge - 1, 1 / height, -float(center))
        return cls(volume, is_shared, slices, pairs.expand(chunk, -1, -1, -1), unit, origin)

    def sample(
        self,
        positions: _Positions,
        part: slice,
        position: Tensor | None = None,
        below: Tensor | None = None,
        out: Tensor | None = None,
    ) -> Tensor:
        """Resample some of the volumes; the last three arguments are memory to be used again."""
        edge = self.volume.shape[-1]
        pitch, center = edge + 1, edge // 2
        position = positions.select(part, position)
        row, z = position[:, 1], position[:, 2].clamp_(-1 - center, edge - center)
        below = torch.floor(z, out=below)
        fraction = z.sub_(below)
        unit, origin = self.unit_xyz[1], self.origin_xyz[1]
        row.clamp_(origin - unit, origin + edge * unit).add_(below, alpha=pitch * unit)
        if not self.is_shared:
            self.slices[: len(position), :, :edge] = self.volume[part]
        grid = position[:, :2].flatten(2, 3).permute(0, 2, 3, 1)
        samples = F.grid_sample(self.pairs[: len(position)], grid, padding_mode="zeros", align_corners=False)
        lower, upper = samples.view(-1, 2, *position.shape[2:]).unbind(1)
        return torch.lerp(lower, upper, fraction, out=out)


def _resample_picture(
    volume: Tensor,
    matrix: Tensor,
    offset_zyx_voxels: Tensor,
    size: int,
    displacement_zyx_voxels: Tensor | None,
    chunk: int | None = None,
) -> Tensor:
    """Resample volumes as pictures.

    With ``chunk``, this many volumes are resampled at a time, in memory that is used again and so stays in the cache. A
    gradient needs all intermediate results and forbids it.
    """
    count = len(volume)
    width = max(1, min(count, chunk or count))
    picture = _Picture.of(volume, width)
    mapping = (matrix, offset_zyx_voxels, size, displacement_zyx_voxels)
    positions = _Positions.of(*mapping, picture.unit_xyz, picture.origin_xyz)
    if chunk is None:
        return picture.sample(positions, slice(0, count))
    result = volume.new_empty(count, size, size, size)
    position, below = volume.new_empty(width, 3, size, size**2), volume.new_empty(width, size, size, size)
    for start in range(0, count, width):
        out = result[start : start + width]
        picture.sample(positions, slice(start, start + width), position[: len(out)], below[: len(out)], out)
    return result
