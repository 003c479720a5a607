"""Views of measured subtomograms: what else the microscope could have recorded of the same particle.

`ViewRanges` states what may change, `.sample` draws it per particle, `view` applies it. A measured subtomogram already
lacks a missing wedge, and rotating it rotates that wedge. The wedge of the *tomogram frame* is therefore imposed again
after the rotation. The result is what a tilt series could have measured of the rotated particle, and the direction of
its wedge does not reveal the rotation.

Source: the operations are those of the lab scripts behind CSSL (Gupta et al., Front. Physiol. 13:957484, 2022), made
three-dimensional and cryo-ET-specific; all ranges are ours.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from tomosift.physics.ctf import ctf_3d
from tomosift.physics.rotation import rotate
from tomosift.physics.view_ranges import ABLATION_GROUPS, NO_VIEWS, ViewParameters, ViewRanges
from tomosift.physics.wedge import wedge_mask
from tomosift.rng import add_seeded_noise_

__all__ = ["ABLATION_GROUPS", "NO_VIEWS", "ViewParameters", "ViewRanges", "normalize", "view"]

_CHUNK_SIZE = 96  # subtomograms; more need more memory, fewer make more calls
_TINY = 1e-30  # as good as zero, and has a logarithm


def normalize(volume: Float[Tensor, "b d d d"]) -> Float[Tensor, "b d d d"]:
    """Return each volume with zero mean and unit variance; a constant volume becomes zero."""
    return functional.layer_norm(volume, volume.shape[1:], eps=1e-12)


@torch.no_grad()
def view(
    volume: Float[Tensor, "b d d d"],
    tilt_range_deg: Float[Tensor, "b 2"],
    parameters: ViewParameters,
    voxel_spacing_angstrom: float,
    turns: Literal["box", "wedge"] = "box",
) -> Float[Tensor, "b d d d"]:
    """Return one view of each subtomogram.

    Deformation, rotation, shift and scale are one resampling; masking, noise, missing wedge and CTF follow, then
    normalization. Noise is added before the Fourier filters, so it lacks the same wedge as the signal. The arguments
    are not changed. Views have no gradient.

    Parameters
    ----------
    volume
        Subtomograms in the tomogram frame.
    tilt_range_deg
        Lowest and highest tilt of each subtomogram.
    parameters
        One set per subtomogram; see `ViewRanges.sample`.
    voxel_spacing_angstrom
        The extra CTF depends on it.
    turns
        With ``wedge`` the volume stays and the wedge rotates by the inverse rotation. The same coefficients survive
        without resampling, at half the cost of a view. Suitable for networks that are invariant to rotation. Scale and
        elastic deformation need resampling and rotate the volumes in any case.

    Examples
    --------
    >>> import torch
    >>> from tomosift.physics.augmentation import ViewRanges, view
    >>> generator = torch.Generator().manual_seed(0)
    >>> volume, tilt_range_deg = torch.randn(4, 16, 16, 16, generator=generator), torch.tensor([[-60.0, 60.0]] * 4)
    >>> view(volume, tilt_range_deg, ViewRanges().sample(4, generator), voxel_spacing_angstrom=10.0).shape
    torch.Size([4, 16, 16, 16])
    """
    if volume.is_cpu and len(volume) > _CHUNK_SIZE:
        views = torch.empty_like(volume)
        for start in range(0, len(volume), _CHUNK_SIZE):
            part = slice(start, start + _CHUNK_SIZE)
            chunk = (volume[part], tilt_range_deg[part], parameters.select(part))
            views[part] = _view(*chunk, voxel_spacing_angstrom, turns)
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
    is_resampled = turns == "box" or parameters.elastic_zyx_voxels is not None or bool((parameters.scale != 1).any())
    if is_resampled:
        spatial = _resample(spatial, parameters)
    spatial = _hide_and_swap(spatial, parameters)
    if bool((parameters.gamma != 1).any()):
        # |v|^gamma by logarithms, which are vectorized, but slow for zeros.
        logarithm = spatial.abs().clamp_(min=_TINY).log_()
        spatial = (logarithm * _per_volume(parameters.gamma, volume)).exp_().copysign_(spatial)
    if bool((parameters.noise_std > 0).any()):
        # The result of resampling may be changed in place, the argument may not.
        spatial = spatial if is_resampled else spatial.clone(memory_format=torch.contiguous_format)
        add_seeded_noise_(spatial, parameters.noise_std, parameters.noise_seed)
    sigma = parameters.low_pass_sigma_voxels.to(volume.device)
    transfer = _transfer(size, tilt_range_deg, parameters, voxel_spacing_angstrom, volume.device, not is_resampled)
    if transfer is None and is_resampled:
        spatial = _blur_by_products(spatial, sigma)
    else:
        spectrum = torch.fft.rfftn(spatial, dim=(1, 2, 3))
        if not is_resampled:
            spectrum = _shift_spectrum(spectrum, parameters, size)
        # Real factors first: a product with spectra takes three times as long.
        blur = _blur_filter(size, sigma)
        factor = blur if transfer is None else transfer if blur is None else transfer * blur
        spectrum = spectrum if factor is None else spectrum * factor
        spatial = torch.fft.irfftn(spectrum, s=(size, size, size), dim=(1, 2, 3))
    spatial = normalize(spatial)
    return spatial * _per_volume(parameters.gain, volume) if bool((parameters.gain != 1).any()) else spatial


def _per_volume(value: Float[Tensor, " b"], volume: Tensor) -> Tensor:
    return value.to(volume.device)[:, None, None, None]


def _resample(volume: Tensor, parameters: ViewParameters) -> Tensor:
    """Deform, rotate, scale and shift in one resampling."""
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


def _shift_spectrum(spectrum: Tensor, parameters: ViewParameters, size: int) -> Tensor:
    """Shift spectra by the shift in the frame of the unrotated volume, periodically."""
    shift = (parameters.rotation.transpose(1, 2) @ parameters.shift_zyx_voxels[:, :, None])[:, :, 0].to(spectrum.device)
    k = torch.fft.fftfreq(size, device=spectrum.device)
    phase = torch.polar(torch.ones((), device=k.device), -2 * torch.pi * shift[:, :, None] * k)
    if size % 2 == 0:
        # The Nyquist frequency stands for both of its signs, so only the real part of the phase factor remains.
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
    """Return the product of missing wedge and extra CTF on the rfftn layout; None if there is neither."""
    transfer: Tensor | None = None
    if parameters.impose_wedge and wedge_turns:
        transfer = wedge_mask(size, tilt_range_deg, parameters.rotation.transpose(1, 2).to(device))
    elif parameters.impose_wedge:
        # Most sets have one tilt range, and one mask then serves all volumes.
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


def _blur_filter(size: int, sigma: Float[Tensor, " b"]) -> Tensor | None:
    """Return Gaussian filters on the rfftn layout, a product over axes; None if no volume is blurred."""
    if not bool((sigma > 0).any()):
        return None
    along = _gaussian(torch.fft.fftfreq(size, device=sigma.device), sigma)
    half = _gaussian(torch.fft.rfftfreq(size, device=sigma.device), sigma)
    return along[:, :, None, None] * along[:, None, :, None] * half[:, None, None, :]


def _blur_by_products(volume: Tensor, sigma: Float[Tensor, " b"]) -> Tensor:
    """Apply `_blur_filter` as a product with a circulant matrix along each axis: a third of the time of two FFTs."""
    if not bool((sigma > 0).any()):
        return volume
    size = volume.shape[-1]
    steps = torch.arange(size, device=volume.device)
    kernel = torch.fft.irfft(_gaussian(torch.fft.rfftfreq(size, device=sigma.device), sigma), n=size).to(volume.dtype)
    matrix = kernel[:, (steps[:, None] - steps) % size]
    blurred = volume
    for _ in range(3):
        # Each product moves the first axis to the end, so three products restore the order.
        blurred = blurred.reshape(len(volume), size, -1).mT @ matrix
    return blurred.view(volume.shape)


def _mirror(volume: Tensor, mirrored: Tensor) -> Tensor:
    if not bool(mirrored.any()):
        return volume
    # The flip is about voxel d // 2, the center of rotations.
    flipped = volume.flip(-1)
    if volume.shape[-1] % 2 == 0:
        flipped = flipped.roll(1, -1)
    return torch.where(mirrored[:, None, None, None], flipped, volume)


def _cube_indices(corner: Float[Tensor, "b 3"], edge: int, size: int) -> Tensor:
    """Return the flat indices (b, edge^3) of cubes; ``corner`` is a share, 0 to 1, of the positions they can have."""
    z, y, x = (corner * (size - edge + 1)).long().clamp(max=size - edge).unbind(1)
    along = torch.arange(edge, device=corner.device)
    inside = (along[:, None, None] * size + along[:, None]) * size + along
    return ((z * size + y) * size + x)[:, None] + inside.flatten()


def _hide_and_swap(volume: Tensor, parameters: ViewParameters) -> Tensor:
    if parameters.hidden_corner.shape[1] == 0 and parameters.swapped_corner.shape[1] == 0:
        return volume
    size, result = volume.shape[-1], volume.flatten(1).clone()
    for pair in parameters.swapped_corner.to(volume.device).unbind(1):
        first, second = (_cube_indices(corner, max(2, size // 8), size) for corner in pair.unbind(1))
        one, other = result.gather(1, first), result.gather(1, second)
        result.scatter_(1, first, other).scatter_(1, second, one)
    for corner in parameters.hidden_corner.to(volume.device).unbind(1):
        hidden = _cube_indices(corner, max(2, size // 4), size)
        result.scatter_(1, hidden, result.mean(dim=1, keepdim=True).expand_as(hidden))
    return result.reshape(volume.shape)
