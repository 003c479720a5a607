"""The missing wedge: which Fourier coefficients of a subtomogram the tilt series has measured.

A tilt of angle t turns the specimen right-handedly about y, so a point lands at x' = x cos t + z sin t of the image and
the image fills the plane ``kz = kx tan t`` of Fourier space. A range (low, high) fills the coefficients between.
"""

import torch
from jaxtyping import Float
from torch import Tensor

_TOLERANCE = 1e-6  # on sin * sin of the angles to both borders: keeps border coefficients despite rounding


def wedge_mask(
    box_size: int,
    tilt_range_deg: Float[Tensor, "b 2"],
    rotation: Float[Tensor, "b 3 3"] | None = None,
    dual_axis: bool = False,
    edge_voxels: float = 0.0,
) -> Float[Tensor, "b d d h"]:
    """Return masks of measured coefficients on the rfftn layout ``(d, d, d // 2 + 1)``: 1 measured, 0 missing.

    In the tomogram frame the beam is z and the tilt axis y. The mean (zero frequency) is always kept. Each mask is
    Hermitian, mask(k) = mask(-k), also on the Nyquist planes: there a coefficient counts as measured if either of its
    two aliases is. A masked spectrum therefore still belongs to a real volume.

    Parameters
    ----------
    box_size
        Edge of the volumes in voxels.
    tilt_range_deg
        Lowest and highest tilt, within -90 to 90; (-90, 90) gives all ones.
    rotation
        Rotation of the content since it was cut from the tomogram. The mask rotates with it: mask(R^T k).
    dual_axis
        Adds the coefficients of a second series: the first with x and y exchanged.
    edge_voxels
        Width in Fourier voxels over which a cosine falls from 1 on the border to 0 *outside* the range.

    Raises
    ------
    ValueError
        When a range is not low <= high within -90 to 90, or the edge is negative.

    Examples
    --------
    >>> import torch
    >>> from tomosift.physics.wedge import wedge_mask
    >>> mask = wedge_mask(32, torch.tensor([[-60.0, 60.0]]))
    >>> mask.shape, round(float(mask.mean()), 2)
    (torch.Size([1, 32, 32, 17]), 0.7)
    """
    low, high = tilt_range_deg.unbind(-1)
    if bool(((low > high) | (low < -90) | (high > 90)).any()):
        raise ValueError(f"tilt ranges {tilt_range_deg.tolist()} are not all low <= high within -90 to 90 degrees")
    if edge_voxels < 0:
        raise ValueError(f"edge_voxels is {edge_voxels}, expected 0 or more")
    mask: Tensor = _one_series(box_size, tilt_range_deg, rotation, edge_voxels, second_axis=False)
    if dual_axis:
        mask = torch.maximum(mask, _one_series(box_size, tilt_range_deg, rotation, edge_voxels, second_axis=True))
    for plane in {0, box_size // 2} if box_size % 2 == 0 else {0}:
        kept = mask[..., plane]
        mask[..., plane] = torch.maximum(kept, kept.flip(-2, -1).roll((1, 1), (-2, -1)))
    return mask


def apply_mask(volume: Float[Tensor, "b d d d"], mask: Float[Tensor, "#b d d h"]) -> Float[Tensor, "b d d d"]:
    """Multiply the Fourier coefficients of volumes by a mask or transfer function on the rfftn layout."""
    spectrum = torch.fft.rfftn(volume, dim=(-3, -2, -1))
    masked: Tensor = torch.fft.irfftn(spectrum * mask, s=volume.shape[-3:], dim=(-3, -2, -1))
    return masked


def _one_series(
    box_size: int, tilt_range_deg: Tensor, rotation: Tensor | None, edge_voxels: float, second_axis: bool
) -> Tensor:
    """Return the mask of one tilt series: a coefficient is measured if it lies between the two bounding planes.

    With n(t) the normal of the plane that tilt t measures, n(low).k and n(high).k have opposite signs exactly there.
    Their product is even in k, which makes the mask symmetric to the last bit, and needs no angles.
    """
    radians = torch.deg2rad(tilt_range_deg)
    none = torch.zeros_like(radians)
    in_plane = -radians.sin()
    normals = torch.stack([radians.cos(), *((in_plane, none) if second_axis else (none, in_plane))], dim=-1)
    if rotation is not None:
        normals = normals @ rotation.to(normals.dtype).transpose(-1, -2)  # R n, as rows
    k = torch.fft.fftfreq(box_size, 1 / box_size, dtype=normals.dtype, device=normals.device)
    half = k[: box_size // 2 + 1].abs()  # the last one of an even edge is stored as -d/2
    along_z = normals[..., 0, None] * k
    plane = normals[..., 1, None, None] * k[:, None] + normals[..., 2, None, None] * half
    # Adding whole planes is several times as fast as adding rows.
    to_planes = (along_z[..., None] + plane.flatten(2)[:, :, None]).unflatten(3, plane.shape[2:])
    to_low, to_high = to_planes.unbind(1)
    squared = k[:, None, None] ** 2 + k[:, None] ** 2 + half**2
    measured: Tensor = (to_low * to_high).le_(_TOLERANCE * squared)  # 0 and 1
    if edge_voxels == 0:
        return measured
    outside = torch.minimum(to_low.abs(), to_high.abs()).clamp(max=edge_voxels) / edge_voxels
    return torch.maximum(measured, 0.5 + 0.5 * torch.cos(torch.pi * outside))
