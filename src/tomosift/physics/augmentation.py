"""Views of measured subtomograms: what else the microscope could have shown of the same particle.

`ViewRanges` says what may change, `.sample` draws it per particle, `view` applies it. A measured box already lacks a
wedge. Turning the box turns that wedge with it, so the wedge of the *tomogram frame* is imposed again afterwards: what
remains is what a tilt series could have measured of the turned particle, and no view tells its rotation by the
direction of its wedge.

Source: the operations are those of the lab scripts behind CSSL (Gupta et al., Front. Physiol. 13:957484, 2022), made
three-dimensional and cryo-ET-specific; all ranges are ours.
"""

from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from tomosift.physics.ctf import ctf_3d
from tomosift.physics.rotation import random_rotations, rotate
from tomosift.physics.wedge import wedge_mask
from tomosift.rng import add_seeded_noise_, normal, seeds, uniform

Range = tuple[float, float]

_AT_ONCE = 96  # boxes; more need more memory, fewer make more calls
_NOTHING = 1e-30  # as good as zero, and has a logarithm

ABLATION_GROUPS: dict[str, dict[str, object]] = {
    "rotation": {"rotation_max_deg": 0.0},
    "shift": {"shift_voxels": 0.0},
    "scale": {"scale": (1.0, 1.0)},
    "wedge": {"impose_wedge": False},
    "ctf": {"defocus_probability": 0.0},
    "noise": {"noise_std": (0.0, 0.0)},
    "low-pass": {"low_pass_sigma_voxels": (0.0, 0.0)},
    "intensity": {"gain": (1.0, 1.0), "log_gamma": (0.0, 0.0)},
    "masking": {"hidden_cubes": 0, "swapped_cubes": 0},
    "elastic": {"elastic_voxels": 0.0},
}
"""Name of each augmentation group and the settings of `ViewRanges` that switch it off."""


@dataclass(frozen=True)
class ViewRanges:
    """How far two views of one particle may differ; a range is (low, high), drawn uniformly per particle."""

    rotation_max_deg: float = 180.0
    """Largest rotation angle; 180 is all of SO(3), 0 switches rotation off."""
    shift_voxels: float = 1.0
    """Largest shift along each axis."""
    scale: Range = (1.0, 1.0)
    """Magnification."""
    impose_wedge: bool = True
    """Impose the wedge of the tomogram frame again after the rotation."""
    defocus_probability: float = 0.0
    """Share of views seen through an extra contrast transfer function."""
    defocus_um: Range = (1.0, 4.0)
    """Defocus of that extra function, positive for underfocus."""
    noise_std: Range = (0.0, 0.0)
    """Standard deviation of added white noise, in units of the box's own standard deviation."""
    low_pass_sigma_voxels: Range = (0.0, 0.0)
    """Width of a Gaussian blur."""
    gain: Range = (1.0, 1.0)
    """Factor on the intensities after normalization."""
    log_gamma: Range = (0.0, 0.0)
    """Logarithm of the exponent of a contrast curve, sign(v) |v|^gamma."""
    hidden_cubes: int = 0
    """Cubes of a quarter of the box edge that are replaced by the mean."""
    swapped_cubes: int = 0
    """Cubes of an eighth of the box edge that are exchanged with others."""
    elastic_voxels: float = 0.0
    """Standard deviation of a smooth displacement field."""
    mirror: bool = False
    """Mirror half of the views. Off: it makes molecules that do not exist and hides a wrong handedness."""

    def sample(self, n: int, generator: torch.Generator) -> "ViewParameters":
        """Draw the parameters of n views; everything random is drawn here, of the noise its seed."""

        def between(low_high: Range, *shape: int) -> Tensor:
            low, high = low_high
            return low + (high - low) * uniform((n, *shape), generator)

        return ViewParameters(
            rotation=random_rotations(n, generator, self.rotation_max_deg),
            shift_zyx_voxels=between((-self.shift_voxels, self.shift_voxels), 3),
            scale=between(self.scale),
            impose_wedge=self.impose_wedge,
            # A defocus of NaN means no extra transfer function.
            defocus_um=torch.where(between((0.0, 1.0)) < self.defocus_probability, between(self.defocus_um), torch.nan),
            noise_std=between(self.noise_std),
            low_pass_sigma_voxels=between(self.low_pass_sigma_voxels),
            gain=between(self.gain),
            gamma=between(self.log_gamma).exp(),
            hidden_corner=between((0.0, 1.0), self.hidden_cubes, 3),
            swapped_corner=between((0.0, 1.0), self.swapped_cubes, 2, 3),
            elastic_zyx_voxels=self.elastic_voxels * normal((n, 3, 4, 4, 4), generator)
            if self.elastic_voxels
            else None,
            mirrored=between((0.0, 1.0)) < (0.5 if self.mirror else 0.0),
            noise_seed=seeds(n, generator),
        )


NO_VIEWS = ViewRanges(**{name: value for off in ABLATION_GROUPS.values() for name, value in off.items()})  # type: ignore[arg-type]
"""Every group off: a view is the normalized box."""


@dataclass(frozen=True)
class ViewParameters:
    """What `view` does to each of n boxes; fields as in `ViewRanges`, one entry per box."""

    rotation: Float[Tensor, "n 3 3"]
    shift_zyx_voxels: Float[Tensor, "n 3"]
    scale: Float[Tensor, " n"]
    impose_wedge: bool
    defocus_um: Float[Tensor, " n"]
    noise_std: Float[Tensor, " n"]
    low_pass_sigma_voxels: Float[Tensor, " n"]
    gain: Float[Tensor, " n"]
    gamma: Float[Tensor, " n"]
    hidden_corner: Float[Tensor, "n h 3"]
    swapped_corner: Float[Tensor, "n s 2 3"]
    elastic_zyx_voxels: Float[Tensor, "n 3 4 4 4"] | None
    mirrored: Tensor
    noise_seed: Int64[Tensor, " n"]

    def select(self, part: slice) -> "ViewParameters":
        """The parameters of some of the views."""
        every = ((field.name, getattr(self, field.name)) for field in fields(self))
        tensors: dict[str, Any] = {name: value[part] for name, value in every if isinstance(value, Tensor)}
        return replace(self, **tensors)


def normalized(volume: Float[Tensor, "b d d d"]) -> Float[Tensor, "b d d d"]:
    """Each box with zero mean and unit variance; a constant box becomes zero."""
    return functional.layer_norm(volume, volume.shape[1:], eps=1e-12)


@torch.no_grad()
def view(
    volume: Float[Tensor, "b d d d"],
    tilt_range_deg: Float[Tensor, "b 2"],
    parameters: ViewParameters,
    voxel_spacing_angstrom: float,
    turns: Literal["box", "wedge"] = "box",
) -> Float[Tensor, "b d d d"]:
    """One view of each box: bent, turned, shifted and scaled in one resampling, then imaged again, then normalized.

    Noise is added before the Fourier filters, so it lacks the same wedge as everything else. The argument is not
    changed, and has no gradient: views are data.

    Parameters
    ----------
    turns
        With ``wedge`` the box stays and the wedge turns the other way: the same coefficients survive, and nothing is
        resampled, which is half the cost of a view. For whatever does not see how its particle is turned. What needs
        resampling anyway (scale, elastic) turns boxes all the same.
    """
    if volume.is_cpu and len(volume) > _AT_ONCE:
        views = torch.empty_like(volume)
        for start in range(0, len(volume), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            given = (volume[part], tilt_range_deg[part], parameters.select(part))
            views[part] = _view(*given, voxel_spacing_angstrom, turns)
        return views
    return _view(volume, tilt_range_deg, parameters, voxel_spacing_angstrom, turns)


def _view(
    volume: Tensor,
    tilt_range_deg: Tensor,
    parameters: ViewParameters,
    voxel_spacing_angstrom: float,
    turns: Literal["box", "wedge"],
) -> Tensor:
    size = volume.shape[-1]
    spatial = _mirror(volume, parameters.mirrored.to(volume.device))
    resampled = turns == "box" or parameters.elastic_zyx_voxels is not None or bool((parameters.scale != 1).any())
    if resampled:
        spatial = _resampled(spatial, parameters)
    spatial = _hide_and_swap(spatial, parameters)
    if bool((parameters.gamma != 1).any()):
        # |v|^gamma by logarithms, which are vectorized, but slow for zeros.
        logarithm = spatial.abs().clamp_(min=_NOTHING).log_()
        spatial = (logarithm * _per_box(parameters.gamma, volume)).exp_().copysign_(spatial)
    if bool((parameters.noise_std > 0).any()):
        # What was resampled is ours to change.
        spatial = spatial if resampled else spatial.clone(memory_format=torch.contiguous_format)
        add_seeded_noise_(spatial, parameters.noise_std, parameters.noise_seed)
    sigma = parameters.low_pass_sigma_voxels.to(volume.device)
    transfer = _transfer(size, tilt_range_deg, parameters, voxel_spacing_angstrom, volume.device, not resampled)
    if transfer is None and resampled:
        spatial = _blurred(spatial, sigma)
    else:
        spectrum = torch.fft.rfftn(spatial, dim=(1, 2, 3))
        if not resampled:
            spectrum = _shifted(spectrum, parameters, size)
        # Real factors first: a product with spectra takes thrice as long.
        blur = _blur(size, sigma)
        factor = blur if transfer is None else transfer if blur is None else transfer * blur
        spectrum = spectrum if factor is None else spectrum * factor
        spatial = torch.fft.irfftn(spectrum, s=(size, size, size), dim=(1, 2, 3))
    spatial = normalized(spatial)
    return spatial * _per_box(parameters.gain, volume) if bool((parameters.gain != 1).any()) else spatial


def _per_box(value: Float[Tensor, " b"], volume: Tensor) -> Tensor:
    return value.to(volume.device)[:, None, None, None]


def _resampled(volume: Tensor, parameters: ViewParameters) -> Tensor:
    """Bent, turned, scaled and shifted in one resampling."""
    device, size = volume.device, volume.shape[-1]
    field = parameters.elastic_zyx_voxels
    displacement = None
    if field is not None:
        displacement = functional.interpolate(
            field.to(device), size=(size, size, size), mode="trilinear", align_corners=True
        ).permute(0, 2, 3, 4, 1)
    return rotate(
        volume,
        parameters.rotation.to(device),
        parameters.shift_zyx_voxels.to(device),
        parameters.scale.to(device),
        displacement_zyx_voxels=displacement,
    )


def _shifted(spectrum: Tensor, parameters: ViewParameters, size: int) -> Tensor:
    """Spectra of boxes moved by the shift as the unturned box sees it; what leaves on one side enters on the other."""
    shift = (parameters.rotation.transpose(1, 2) @ parameters.shift_zyx_voxels[:, :, None])[:, :, 0].to(spectrum.device)
    k = torch.fft.fftfreq(size, device=spectrum.device)
    phase = torch.polar(torch.ones((), device=k.device), -2 * torch.pi * shift[:, :, None] * k)
    if size % 2 == 0:
        # The last frequency stands for both of its signs, so only what they share remains.
        phase[..., size // 2] = phase[..., size // 2].real.to(phase.dtype)
    z, y, x = phase.unbind(1)
    return spectrum * (z[:, :, None] * y[:, None])[..., None] * x[:, None, None, : size // 2 + 1]


def _transfer(
    size: int,
    tilt_range_deg: Tensor,
    parameters: ViewParameters,
    voxel_spacing_angstrom: float,
    device: torch.device,
    wedge_turns: bool,
) -> Tensor | None:
    """Product of wedge and extra CTF on the rfftn layout; None where there is nothing to do."""
    transfer: Tensor | None = None
    if parameters.impose_wedge and wedge_turns:
        transfer = wedge_mask(size, tilt_range_deg, parameters.rotation.transpose(1, 2).to(device))
    elif parameters.impose_wedge:
        # Most sets have one tilt range: one mask then serves all.
        same = bool((tilt_range_deg == tilt_range_deg[:1]).all())
        transfer = wedge_mask(size, tilt_range_deg[:1] if same else tilt_range_deg)
    extra = torch.isfinite(parameters.defocus_um)
    if bool(extra.any()):
        ctf = torch.ones(len(extra), size, size, size // 2 + 1, device=device)
        ctf[extra] = ctf_3d(size, voxel_spacing_angstrom, parameters.defocus_um[extra].to(device))
        transfer = ctf if transfer is None else transfer * ctf
    return transfer


def _gaussian(frequency: Tensor, sigma: Float[Tensor, " b"]) -> Float[Tensor, "b f"]:
    return torch.exp((-2 * torch.pi**2) * sigma.square()[:, None] * frequency.square())


def _blur(size: int, sigma: Float[Tensor, " b"]) -> Tensor | None:
    """Gaussian filters on the rfftn layout, a product over axes; None where there is nothing to do."""
    if not bool((sigma > 0).any()):
        return None
    along = _gaussian(torch.fft.fftfreq(size, device=sigma.device), sigma)
    half = _gaussian(torch.fft.rfftfreq(size, device=sigma.device), sigma)
    return along[:, :, None, None] * along[:, None, :, None] * half[:, None, None, :]


def _blurred(volume: Tensor, sigma: Float[Tensor, " b"]) -> Tensor:
    """What `_blur` does, by a product with a cyclic matrix along each axis: a third of the time of two transforms."""
    if not bool((sigma > 0).any()):
        return volume
    size = volume.shape[-1]
    steps = torch.arange(size, device=volume.device)
    kernel = torch.fft.irfft(_gaussian(torch.fft.rfftfreq(size, device=sigma.device), sigma), n=size).to(volume.dtype)
    matrix = kernel[:, (steps[:, None] - steps) % size]
    blurred = volume
    for _ in range(3):
        # The first axis becomes the last one, so after three products all are where they were.
        blurred = blurred.reshape(len(volume), size, -1).mT @ matrix
    return blurred.view(volume.shape)


def _mirror(volume: Tensor, mirrored: Tensor) -> Tensor:
    if not bool(mirrored.any()):
        return volume
    # Flipping about voxel d // 2, so that the center stays where rotations expect it.
    flipped = volume.flip(-1)
    if volume.shape[-1] % 2 == 0:
        flipped = flipped.roll(1, -1)
    return torch.where(mirrored[:, None, None, None], flipped, volume)


def _cubes(corner: Float[Tensor, "b 3"], edge: int, size: int) -> Tensor:
    """(b, edge^3) places, in flattened boxes, of cubes whose corners are at these shares of the room left for them."""
    z, y, x = (corner * (size - edge + 1)).long().clamp(max=size - edge).unbind(1)
    along = torch.arange(edge, device=corner.device)
    inside = (along[:, None, None] * size + along[:, None]) * size + along
    return ((z * size + y) * size + x)[:, None] + inside.flatten()


def _hide_and_swap(volume: Tensor, parameters: ViewParameters) -> Tensor:
    if parameters.hidden_corner.shape[1] == 0 and parameters.swapped_corner.shape[1] == 0:
        return volume
    size, result = volume.shape[-1], volume.flatten(1).clone()
    for pair in parameters.swapped_corner.to(volume.device).unbind(1):
        first, second = (_cubes(corner, max(2, size // 8), size) for corner in pair.unbind(1))
        one, other = result.gather(1, first), result.gather(1, second)
        result.scatter_(1, first, other).scatter_(1, second, one)
    for corner in parameters.hidden_corner.to(volume.device).unbind(1):
        hidden = _cubes(corner, max(2, size // 4), size)
        result.scatter_(1, hidden, result.mean(dim=1, keepdim=True).expand_as(hidden))
    return result.reshape(volume.shape)
