"""Poses: random rotations from SO(3), and volumes rotated, scaled and shifted in one resampling."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from tomosift.physics.resampling import trilinear
from tomosift.rng import draw_normal, draw_uniform

_NEWTON_STEPS = 4  # from half a radian away, at worst, to the resolution of float64


def quaternions_to_matrices(quaternion_wxyz: Float[Tensor, "*b 4"]) -> Float[Tensor, "*b 3 3"]:
    """Return rotation matrices on *zyx* column vectors for quaternions whose imaginary part is in the usual xyz order.

    Any non-zero quaternion is accepted, as it is normalized first. The rotation is the right-handed one of the xyz
    axes; only the order of the vector components is reversed.

    Source: the textbook formula (e.g. Shepperd, J. Guidance and Control 1, 1978), axes reversed.
    """
    w, x, y, z = (quaternion_wxyz / quaternion_wxyz.norm(dim=-1, keepdim=True)).unbind(-1)
    # fmt: off
    rows_zyx = [
        1 - 2 * (x * x + y * y), 2 * (y * z + w * x), 2 * (x * z - w * y),
        2 * (y * z - w * x), 1 - 2 * (x * x + z * z), 2 * (x * y + w * z),
        2 * (x * z + w * y), 2 * (x * y - w * z), 1 - 2 * (y * y + z * z),
    ]
    # fmt: on
    return torch.stack(rows_zyx, dim=-1).reshape(*w.shape, 3, 3)


def random_rotations(
    n: int,
    generator: torch.Generator,
    max_angle_deg: float = 180.0,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "n 3 3"]:
    """Draw rotations uniformly from the ball of SO(3) within ``max_angle_deg`` of the identity.

    Parameters
    ----------
    n
        Number of rotations.
    generator
        Numbers are drawn on its device in float64, so a seed gives the same rotations for every ``device`` and
        ``dtype``.
    max_angle_deg
        180 gives all of SO(3) (Haar measure), 0 gives identities.
    device, dtype
        Of the result; by default the device of the generator.

    Raises
    ------
    ValueError
        When ``max_angle_deg`` lies outside 0 to 180.

    Source: the axis is uniform on the sphere; the angle has Haar density 1 - cos(angle), whose integral
    angle - sin(angle) is inverted by Newton's method (Miles, Biometrika 52, 1965).

    Examples
    --------
    >>> import torch
    >>> from tomosift.physics.rotation import random_rotations
    >>> rotation = random_rotations(5, torch.Generator().manual_seed(0))
    >>> torch.allclose(rotation @ rotation.mT, torch.eye(3), atol=1e-6)
    True
    """
    if not 0.0 <= max_angle_deg <= 180.0:
        raise ValueError(f"max_angle_deg is {max_angle_deg}, expected 0 to 180")
    axis = draw_normal((n, 3), generator, torch.float64)
    axis = axis / axis.norm(dim=-1, keepdim=True)
    share = draw_uniform((n, 1), generator, torch.float64)
    largest = math.radians(max_angle_deg)
    target = share * (largest - math.sin(largest))
    angle = (6 * target) ** (1 / 3)  # exact for small angles, too small by less than half a radian for large ones
    for _ in range(_NEWTON_STEPS):
        slope = 1 - angle.cos()
        missing = target - angle + angle.sin()
        angle = torch.where(slope > 0, angle + missing / slope, angle).clamp(max=math.pi)
    half = angle / 2
    quaternion = torch.cat([half.cos(), half.sin() * axis], dim=-1)
    return quaternions_to_matrices(quaternion).to(device=device or generator.device, dtype=dtype)


def rotate(
    volume: Float[Tensor, "b d d d"],
    rotation: Float[Tensor, "b 3 3"],
    shift_zyx_voxels: Float[Tensor, "b 3"] | None = None,
    scale: Float[Tensor, "b"] | None = None,
    fill: Float[Tensor, "b"] | None = None,
    displacement_zyx_voxels: Float[Tensor, "b d d d 3"] | None = None,
) -> Float[Tensor, "b d d d"]:
    """Rotate volumes about voxel ``d // 2``, scale them about it, then shift them.

    A point at offset ``v`` from the center voxel moves to ``scale * rotation @ v + shift`` (zyx). All of it is one
    trilinear resampling. It is exact for quarter turns and whole-voxel shifts and otherwise blurs slightly (about 3.5 %
    of the norm for detail at the Nyquist limit). The function is differentiable in all its tensors.

    Parameters
    ----------
    volume
        One volume per rotation.
    rotation
        Rotation matrices on zyx column vectors.
    shift_zyx_voxels
        Shift after rotation and scale; zero by default.
    scale
        Magnification; 1 by default.
    fill
        Value outside each volume, such as its background; zero by default.
    displacement_zyx_voxels
        Elastic deformation after the rotation: output voxel p shows what would have been at p + displacement(p).

    Examples
    --------
    >>> import torch
    >>> from tomosift.physics.rotation import rotate
    >>> volume = torch.zeros(1, 8, 8, 8)
    >>> volume[0, 4, 4, 5] = 1.0
    >>> shift = torch.tensor([[0.0, 0.0, 1.0]])
    >>> rotate(volume, torch.eye(3)[None], shift).nonzero().tolist()
    [[0, 4, 4, 6]]
    """
    return _resample(volume, 1, rotation, shift_zyx_voxels, scale, fill, displacement_zyx_voxels)


def upsample(volume: Float[Tensor, "b d d d"], factor: int = 2) -> Float[Tensor, "b D D D"]:
    """Sample band-limited volumes ``factor`` times finer: edge ``factor * d``, same values, center on center.

    Voxel ``d // 2`` becomes voxel ``(factor * d) // 2``. Use it for templates that are rotated many times: with
    ``factor`` 2, :func:`rotate_upsampled` has about a quarter of the interpolation error of :func:`rotate`.

    Raises
    ------
    ValueError
        When ``factor`` is below 1.

    Source: zero padding in Fourier space; the Nyquist planes of even edges are halved onto both signs.
    """
    if factor < 1:
        raise ValueError(f"factor is {factor}, expected a whole number of at least 1")
    if factor == 1:
        return volume.clone()
    size = volume.shape[-1]
    fine = factor * size
    spectrum = torch.fft.rfftn(volume, dim=(-3, -2, -1))
    if size % 2 == 0:
        spectrum = torch.cat([spectrum[..., :-1], 0.5 * spectrum[..., -1:]], dim=-1)
    spectrum = F.pad(spectrum, (0, fine // 2 + 1 - spectrum.shape[-1]))
    for axis in (-3, -2):
        spectrum = _pad_spectrum(spectrum, axis, fine)
    result: Tensor = torch.fft.irfftn(spectrum, s=(fine, fine, fine), dim=(-3, -2, -1)) * factor**3
    offset = fine // 2 - factor * (size // 2)  # non-zero for odd edges only
    return result.roll((offset, offset, offset), dims=(-3, -2, -1)) if offset else result


def rotate_upsampled(
    fine_volume: Float[Tensor, "b D D D"],
    factor: int,
    rotation: Float[Tensor, "b 3 3"],
    shift_zyx_voxels: Float[Tensor, "b 3"] | None = None,
    scale: Float[Tensor, "b"] | None = None,
    fill: Float[Tensor, "b"] | None = None,
) -> Float[Tensor, "b d d d"]:
    """Do what :func:`rotate` does for volumes from :func:`upsample`; return the coarse grid (edge ``D // factor``).

    Shifts are in voxels of the coarse grid. The interpolation error is about 1 %, where that of :func:`rotate` is
    3.5 %.

    Raises
    ------
    ValueError
        When the edge is no multiple of ``factor``.
    """
    if factor < 1 or fine_volume.shape[-1] % factor:
        raise ValueError(f"edge {fine_volume.shape[-1]} is no multiple of factor {factor}; make it with upsample()")
    return _resample(fine_volume, factor, rotation, shift_zyx_voxels, scale, fill)


def _resample(
    volume: Tensor,
    factor: int,
    rotation: Tensor,
    shift_zyx_voxels: Tensor | None,
    scale: Tensor | None,
    fill: Tensor | None,
    displacement_zyx_voxels: Tensor | None = None,
) -> Tensor:
    source_size = volume.shape[-1]
    size = source_size // factor
    # A voxel at offset p from the center shows the source at factor * R^T (p - shift) / scale.
    inverse = factor * rotation.to(volume.dtype).transpose(-1, -2)
    if scale is not None:
        inverse = inverse / scale.to(volume.dtype)[:, None, None]
    origin = inverse.new_full((len(volume), 3), size // 2)
    if shift_zyx_voxels is not None:
        origin = origin + shift_zyx_voxels.to(volume.dtype)
    offset = source_size // 2 - (inverse @ origin[:, :, None])[:, :, 0]
    displacement = None if displacement_zyx_voxels is None else displacement_zyx_voxels.to(volume.dtype)
    if fill is None:
        return trilinear(volume, inverse, offset, size, displacement)
    level = fill.to(volume.dtype)[:, None, None, None]
    return trilinear(volume - level, inverse, offset, size, displacement) + level


def _pad_spectrum(spectrum: Tensor, axis: int, size: int) -> Tensor:
    """Zero-pad one full-spectrum axis to ``size``; the Nyquist plane of an even edge is split between both signs."""
    old = spectrum.shape[axis]
    positive = spectrum.narrow(axis, 0, (old + 1) // 2)
    negative = spectrum.narrow(axis, old - (old - 1) // 2, (old - 1) // 2)
    nyquist = [0.5 * spectrum.narrow(axis, old // 2, 1)] if old % 2 == 0 else []
    gap = list(spectrum.shape)
    gap[axis] = size - positive.shape[axis] - negative.shape[axis] - 2 * len(nyquist)
    return torch.cat([positive, *nyquist, spectrum.new_zeros(gap), *nyquist, negative], dim=axis)
