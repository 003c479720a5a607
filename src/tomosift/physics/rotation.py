"""Poses: rotations drawn from SO(3), and volumes turned, scaled and shifted in one resampling."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from tomosift.physics.resampling import trilinear
from tomosift.rng import normal, uniform

_NEWTON_STEPS = 4  # from half a radian away, at worst, to the resolution of float64


def quaternions_to_matrices(quaternion_wxyz: Float[Tensor, "*b 4"]) -> Float[Tensor, "*b 3 3"]:
    """Rotation matrices on *zyx* column vectors from quaternions whose imaginary part is in the usual xyz order.

    The quaternion is normalized first, so any non-zero one will do. The rotation is the right-handed one of the xyz
    axes; only the order in which the vector's components are written is turned around.

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
    """Rotations drawn uniformly from the ball of SO(3) within ``max_angle_deg`` of the identity.

    180 degrees is all of SO(3) (Haar measure), 0 gives identities. The numbers are drawn on the generator's device in
    float64, so a seed gives the same rotations whatever ``device`` and ``dtype`` are.

    Raises
    ------
    ValueError
        When ``max_angle_deg`` lies outside 0 to 180.

    Source: the axis is uniform on the sphere; the angle has Haar density 1 - cos(angle), whose integral
    angle - sin(angle) is inverted by Newton's method (Miles, Biometrika 52, 1965).
    """
    if not 0.0 <= max_angle_deg <= 180.0:
        raise ValueError(f"max_angle_deg is {max_angle_deg}, expected 0 to 180")
    axis = normal((n, 3), generator, torch.float64)
    axis = axis / axis.norm(dim=-1, keepdim=True)
    share = uniform((n, 1), generator, torch.float64)
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
    """Each object turned by its rotation about voxel ``d // 2``, enlarged by ``scale``, then moved by the shift.

    What sat at offset ``v`` from the center voxel sits at ``scale * rotation @ v + shift`` afterwards (zyx). One
    trilinear resampling does it all: exact for quarter turns and whole-voxel shifts, otherwise it blurs slightly
    (about 3.5 % of the norm for detail at the grid's limit). What comes in from outside is ``fill`` (one value per
    volume, such as the background), zero without it. Differentiable in everything but the layout.

    A ``displacement_zyx_voxels`` field bends the turned object as well: output voxel p shows what would have been at
    p + displacement(p).
    """
    return _resample(volume, 1, rotation, shift_zyx_voxels, scale, fill, displacement_zyx_voxels)


def upsampled(volume: Float[Tensor, "b d d d"], factor: int = 2) -> Float[Tensor, "b D D D"]:
    """The same band-limited volumes sampled ``factor`` times finer: edge ``factor * d``, values kept, center on center.

    Voxel ``d // 2`` becomes voxel ``(factor * d) // 2``. For templates that are turned many times: the finer source
    lets :func:`rotate_upsampled` interpolate four times more faithfully.

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
        halved = torch.cat([spectrum[..., :-1], 0.5 * spectrum[..., -1:]], dim=-1)
        spectrum = halved
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
    """:func:`rotate` read from a source made by :func:`upsampled`, returned on the coarse grid (edge ``D // factor``).

    Shifts are in voxels of the coarse grid. The result carries about 1 % interpolation error where :func:`rotate`
    carries 3.5 %.

    Raises
    ------
    ValueError
        When the edge is no multiple of ``factor``.
    """
    if factor < 1 or fine_volume.shape[-1] % factor:
        raise ValueError(f"edge {fine_volume.shape[-1]} is no multiple of factor {factor}; make it with upsampled()")
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
    # A voxel at offset p from the center reads the source at factor * R^T (p - shift) / scale.
    inverse = factor * rotation.to(volume.dtype).transpose(-1, -2)
    if scale is not None:
        inverse = inverse / scale.to(volume.dtype)[:, None, None]
    moved = inverse.new_full((len(volume), 3), size // 2)
    if shift_zyx_voxels is not None:
        moved = moved + shift_zyx_voxels.to(volume.dtype)
    offset = source_size // 2 - (inverse @ moved[:, :, None])[:, :, 0]
    bent = None if displacement_zyx_voxels is None else displacement_zyx_voxels.to(volume.dtype)
    if fill is None:
        return trilinear(volume, inverse, offset, size, bent)
    level = fill.to(volume.dtype)[:, None, None, None]
    return trilinear(volume - level, inverse, offset, size, bent) + level


def _pad_spectrum(spectrum: Tensor, axis: int, size: int) -> Tensor:
    """Zero padding of one full-spectrum axis to ``size``; an even edge's Nyquist plane is shared by both signs."""
    old = spectrum.shape[axis]
    positive = spectrum.narrow(axis, 0, (old + 1) // 2)
    negative = spectrum.narrow(axis, old - (old - 1) // 2, (old - 1) // 2)
    nyquist = [0.5 * spectrum.narrow(axis, old // 2, 1)] if old % 2 == 0 else []
    gap = list(spectrum.shape)
    gap[axis] = size - positive.shape[axis] - negative.shape[axis] - 2 * len(nyquist)
    return torch.cat([positive, *nyquist, spectrum.new_zeros(gap), *nyquist, negative], dim=axis)
