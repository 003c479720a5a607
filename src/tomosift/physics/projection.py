"""Projection of volumes to tilt series, and back-projection: parallel beam along z, single tilt axis y.

A tilt of angle t turns the specimen right-handedly about y: the voxel at offset (z, x) from the center lands at
``x cos t + z sin t`` of the image, which is IMOD's and RELION's sense. Center voxels are ``size // 2`` along each axis.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Weighting = Literal["ramp", "exact", "none"]

_TAPS = 4  # pixels within the support of the cubic kernel
_MAX_WEIGHTS = 8_000_000  # held in memory at once while back-projecting


def project(
    volume: Float[Tensor, "z y x"], tilt_angles_deg: Float[Tensor, "t"], out_shape_yx: tuple[int, int] | None = None
) -> Float[Tensor, "t v u"]:
    """Return the projection images of a volume or slab at every tilt: sums along the beam, in voxel units.

    Every voxel contributes to the nearest four pixels of its row with weights that add up to 1. An image therefore sums
    to the same value as the volume at any tilt, as long as nothing leaves the field of view. The image at tilt 0 is the
    exact sum over z. Multiply by the voxel spacing for a line integral over Angstrom. Outside the volume is vacuum: a
    slab has longer paths at high tilt, but no matter beyond its sides. The function is differentiable, with
    :func:`back_project` (weighting "none") as exact adjoint.

    Parameters
    ----------
    volume
        Density in the tomogram frame.
    tilt_angles_deg
        One angle per image.
    out_shape_yx
        Size of the images, center on center; by default that of the volume's xy plane.

    Source: voxel-driven projection with Keys' cubic convolution kernel (IEEE Trans. ASSP 29, 1981, a = -1/2).

    Examples
    --------
    >>> import torch
    >>> from tomosift.physics.projection import project
    >>> images = project(torch.ones(4, 8, 8), torch.tensor([-30.0, 0.0, 30.0]))
    >>> images.shape, float(images[1, 4, 4])
    (torch.Size([3, 8, 8]), 4.0)
    """
    shape_yx = (volume.shape[1], volume.shape[2]) if out_shape_yx is None else out_shape_yx
    volume = _resize_about_center(volume, dim=1, size=shape_yx[0])
    images: Tensor = _Project.apply(volume, tilt_angles_deg.detach(), shape_yx[1])  # type: ignore[no-untyped-call]
    return images


def back_project(
    images: Float[Tensor, "t v u"],
    tilt_angles_deg: Float[Tensor, "n"],
    shape_zyx: tuple[int, int, int],
    weighting: Weighting = "ramp",
) -> Float[Tensor, "z y x"]:
    """Return the volume that is reconstructed from a tilt series; the missing wedge stays empty.

    Parameters
    ----------
    images
        One projection image per tilt, centers on centers.
    tilt_angles_deg
        One angle per image.
    shape_zyx
        Shape of the volume.
    weighting
        "ramp": filtered back-projection. Each tilt is weighted by the angle that it represents, so uneven steps are
        allowed. The result has the density of the projected volume, without the missing wedge. "exact": the filter of
        each tilt is one over the number of tilts that measured each frequency, for an object as thick as the volume.
        It also restores the mean and suits uneven or sparse steps. "none": the plain sum, the exact adjoint of
        :func:`project`.

    Raises
    ------
    ValueError
        When the weighting is unknown or there is not one angle per image.

    Source: ramp, Kak & Slaney, Principles of Computerized Tomographic Imaging (1988), eq. 3.61 and 3.67; exact, Harauz
    and van Heel, Optik 73 (1986), with a triangle in place of the sinc, as is usual for slabs.
    """
    if images.shape[0] != tilt_angles_deg.shape[0]:
        raise ValueError(f"got {images.shape[0]} images but {tilt_angles_deg.shape[0]} tilt angles; expected one each")
    if weighting == "ramp":
        images = _filter_along_x(images, _ramp_filters(tilt_angles_deg.to(images.dtype), 2 * images.shape[-1]))
    elif weighting == "exact":
        filters = _exact_filters(tilt_angles_deg.to(images.dtype), 2 * images.shape[-1], shape_zyx[0])
        images = _filter_along_x(images, filters)
    elif weighting != "none":
        raise ValueError(f"weighting is {weighting!r}, expected 'ramp', 'exact' or 'none'")
    images = _resize_about_center(images, dim=1, size=shape_zyx[1])
    shape_zx = (shape_zyx[0], shape_zyx[2])
    volume: Tensor = _BackProject.apply(images, tilt_angles_deg.detach(), shape_zx)  # type: ignore[no-untyped-call]
    return volume


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(ctx, volume: Tensor, tilt_angles_deg: Tensor, size_x: int) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(tilt_angles_deg)
        ctx.shape_zx = (volume.shape[0], volume.shape[2])
        rows = volume.permute(0, 2, 1).reshape(-1, volume.shape[1]).contiguous()
        images = [_project_rows(rows, angle, ctx.shape_zx, size_x) for angle in tilt_angles_deg]
        return torch.stack(images).transpose(1, 2).contiguous()

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[no-untyped-def]
        (angles,) = ctx.saved_tensors
        return _BackProject.apply(gradient, angles, ctx.shape_zx), None, None  # type: ignore[no-untyped-call]


class _BackProject(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[no-untyped-def]
        ctx, images: Tensor, tilt_angles_deg: Tensor, shape_zx: tuple[int, int]
    ) -> Tensor:
        ctx.save_for_backward(tilt_angles_deg)
        count, size_y, size_x = images.shape
        ctx.size_x = size_x
        rows = images.transpose(1, 2).contiguous()
        chunk = max(1, _MAX_WEIGHTS // (_TAPS * shape_zx[0] * shape_zx[1]))
        total = images.new_zeros(shape_zx[0] * shape_zx[1], size_y)
        for start in range(0, count, chunk):
            stop = min(start + chunk, count)
            taps = [_weights(angle, shape_zx, size_x, images.dtype) for angle in tilt_angles_deg[start:stop]]
            pixel = torch.cat([index + i * size_x for i, (index, _) in enumerate(taps)], dim=1)
            weight = torch.cat([value for _, value in taps], dim=1)
            source = rows[start:stop].reshape(-1, size_y)
            total += F.embedding_bag(pixel, source, mode="sum", per_sample_weights=weight)
        return total.reshape(*shape_zx, size_y).transpose(1, 2).contiguous()

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[no-untyped-def]
        (angles,) = ctx.saved_tensors
        return _Project.apply(gradient, angles, ctx.size_x), None, None  # type: ignore[no-untyped-call]


def _weights(angle_deg: Tensor, shape_zx: tuple[int, int], size_x: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return the pixels (zx, 4) of an image row that each voxel of the xz plane contributes to, and its weights."""
    radians = torch.deg2rad(angle_deg.to(torch.float64))
    z, x = (torch.arange(n, dtype=torch.float64, device=angle_deg.device) - n // 2 for n in shape_zx)
    position = (z[:, None] * radians.sin() + x * radians.cos() + size_x // 2).reshape(-1, 1)
    first = position.floor() - 1
    taps = first + torch.arange(_TAPS, dtype=torch.float64, device=angle_deg.device)
    distance = (position - taps).abs()
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    weight = torch.where(distance < 1, near, far)
    inside = (taps >= 0) & (taps < size_x)
    return taps.clamp(0, size_x - 1).to(torch.int64), (weight * inside).to(dtype)


def _project_rows(rows: Tensor, angle_deg: Tensor, shape_zx: tuple[int, int], size_x: int) -> Tensor:
    """Return one image, x first: each pixel gathers the voxels that contribute to it, with the transposed weights."""
    pixel, weight = _weights(angle_deg, shape_zx, size_x, rows.dtype)
    order = torch.argsort(pixel.flatten(), stable=True)
    order = order[weight.flatten()[order] != 0]
    hits = torch.bincount(pixel.flatten()[order], minlength=size_x)
    offsets = torch.cat([hits.new_zeros(1), hits.cumsum(0)[:-1]])
    shares = weight.flatten()[order]
    image: Tensor = F.embedding_bag(order // _TAPS, rows, offsets, mode="sum", per_sample_weights=shares)
    return image


def _resize_about_center(data: Tensor, dim: int, size: int) -> Tensor:
    """Cut or zero-pad along one axis so that the center voxel stays the center voxel."""
    before = size // 2 - data.shape[dim] // 2
    after = size - data.shape[dim] - before
    padding = [0, 0] * (data.ndim - 1 - dim) + [before, after]
    return data if before == after == 0 else F.pad(data, padding)


def _filter_along_x(images: Tensor, transfer: Tensor) -> Tensor:
    """Filter images along x, zero-padded to twice their width so that borders do not wrap around."""
    padded = 2 * images.shape[-1]
    spectrum = torch.fft.rfft(images, n=padded, dim=-1) * transfer[:, None]
    result: Tensor = torch.fft.irfft(spectrum, n=padded, dim=-1)[..., : images.shape[-1]]
    return result


def _ramp_filters(angles_deg: Tensor, padded: int) -> Tensor:
    """Return |f| times the angle that each tilt represents; built in real space, so the mean is right."""
    lag = torch.fft.fftfreq(padded, 1 / padded, dtype=angles_deg.dtype, device=angles_deg.device).round()
    odd = lag.abs() % 2 == 1
    kernel = torch.where(odd, -1 / (torch.pi * torch.where(odd, lag, torch.ones_like(lag))) ** 2, 0.0)
    kernel[0] = 0.25
    filters: Tensor = _angle_shares(angles_deg)[:, None] * torch.fft.rfft(kernel).real
    return filters


def _angle_shares(angles_deg: Tensor) -> Tensor:
    """Return the radians that each tilt represents: half the steps to both neighbors, symmetric for the outermost.

    A series that covers all angles counts the gap across 90 degrees as a step like any other.
    """
    count = angles_deg.shape[0]
    if count == 1:
        return torch.full_like(angles_deg, torch.pi)
    order = torch.argsort(angles_deg)
    steps = torch.deg2rad(angles_deg[order]).diff()
    across = torch.pi - steps.sum()
    closes = across <= 1.5 * steps.max()
    first, last = torch.where(closes, across, steps[0]), torch.where(closes, across, steps[-1])
    shares = 0.5 * (torch.cat([first[None], steps]) + torch.cat([steps, last[None]]))
    return torch.empty_like(shares).scatter(0, order, shares)


def _exact_filters(angles_deg: Tensor, padded: int, thickness: int) -> Tensor:
    """Return one over the number of tilts that measured each frequency, for an object of this thickness."""
    radians = torch.deg2rad(angles_deg)
    frequency = torch.fft.rfftfreq(padded, dtype=angles_deg.dtype, device=angles_deg.device)
    distance = (radians[:, None] - radians).sin().abs()[..., None] * frequency * thickness
    filters: Tensor = 1 / (thickness * (1 - distance).clamp_min(0).sum(dim=1))
    return filters
