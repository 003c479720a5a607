"""Imaging conditions: ranges, and the parameters that are drawn from them per particle."""

import math
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tomosift.physics.rotation import random_rotations

Range = tuple[float, float]

_NOT_RANGES = ("rotation_max_deg", "shifts_whole_voxels", "has_ctf", "has_noise", "has_wedge", "is_dual_axis")


@dataclass(frozen=True)
class ImagingRanges:
    """Ranges (low, high) of imaging conditions, drawn uniformly and independently per particle.

    Equal ends fix a value.

    Raises
    ------
    ValueError
        When the low end of a range is above the high end, or a value is impossible.

    Examples
    --------
    >>> import torch
    >>> from tomosift.physics.imaging import ImagingRanges
    >>> parameters = ImagingRanges(max_tilt_deg=(50.0, 60.0)).sample(3, torch.Generator().manual_seed(0))
    >>> parameters.tilt_range_deg.shape
    torch.Size([3, 2])
    """

    max_tilt_deg: Range = (60.0, 60.0)
    """Half the width of the tilt range, 0 to 90; 60 means -60 to +60 degrees about the center of the range."""
    tilt_center_deg: Range = (0.0, 0.0)
    """Center of the tilt range; not 0 for asymmetric ranges, which are limited to -90 to +90."""
    snr: Range = (0.1, 0.1)
    """Variance of the imaged signal over that of the noise, after CTF and wedge; drawn uniformly in its logarithm."""
    noise_before_ctf: Range = (0.5, 0.5)
    """Share of the noise variance, 0 to 1, that enters before the CTF and is colored by it; the rest enters after."""
    noise_cutoff_nyquist: Range = (0.5, 0.5)
    """Low-pass of the noise that enters after the CTF, as a share of Nyquist; 2 passes everything."""
    defocus_um: Range = (5.0, 5.0)
    """Underfocus is positive."""
    voltage_kv: Range = (300.0, 300.0)
    """Acceleration voltage of the microscope."""
    spherical_aberration_mm: Range = (2.7, 2.7)
    """Spherical aberration of the objective lens."""
    amplitude_contrast: Range = (0.07, 0.07)
    """Share of amplitude contrast, 0 to 1."""
    phase_shift_deg: Range = (0.0, 0.0)
    """Phase shift of a phase plate."""
    b_factor_angstrom2: Range = (0.0, 0.0)
    """Envelope exp(-B f^2 / 4)."""
    envelope_nyquist: Range = (0.0, 0.0)
    """Envelope exp(-(f / (this * Nyquist))^2); 0 for none."""
    cutoff_nyquist: Range = (2.0, 2.0)
    """Final low-pass of signal and noise alike, as a share of Nyquist; 2 passes everything."""
    voxel_spacing_angstrom: Range = (10.0, 10.0)
    """Voxel spacing of the subtomogram; the CTF depends on it."""
    rotation_max_deg: float = 180.0
    """Orientations are uniform within this angle of the reference: 180 for any orientation, 0 to keep it."""
    shift_voxels: Range = (0.0, 0.0)
    """Displacement of the particle from the center of the box along each axis."""
    shifts_whole_voxels: bool = False
    """Round displacements to whole voxels."""
    scale: Range = (1.0, 1.0)
    """Magnification of the particle."""
    has_ctf: bool = True
    """Whether the microscope's contrast transfer is applied."""
    has_noise: bool = True
    """Whether noise is added."""
    has_wedge: bool = True
    """Whether coefficients outside the tilt range are missing."""
    is_dual_axis: bool = False
    """Whether a second tilt series about x was taken."""

    def __post_init__(self) -> None:
        limits = {
            "max_tilt_deg": (0.0, 90.0),
            "tilt_center_deg": (-90.0, 90.0),
            "noise_before_ctf": (0.0, 1.0),
            "amplitude_contrast": (0.0, 0.999),
            "rotation_max_deg": (0.0, 180.0),
            "shift_voxels": (-math.inf, math.inf),
            "defocus_um": (-math.inf, math.inf),
            "phase_shift_deg": (-math.inf, math.inf),
        }
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool):
                continue
            low, high = value if isinstance(value, tuple) else (value, value)
            least, most = limits.get(field.name, (0.0, math.inf))
            if not least <= low <= high <= most:
                raise ValueError(f"{field.name} is {value}, expected low <= high within {least} to {most}")
        for name in ("snr", "voltage_kv", "voxel_spacing_angstrom", "scale"):
            if getattr(self, name)[0] <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}, expected positive values")
        if self.snr[0] < self.snr[1] == math.inf:
            raise ValueError(f"snr is {self.snr}; give a finite upper end, or has_noise=False for no noise")

    def sample(self, n: int, generator: torch.Generator) -> "ImagingParameters":
        """Draw the conditions of n particles, on the device of the generator.

        The same generator state gives the same conditions. Every condition is drawn even if its range is a single
        value, so that fixing one leaves the others unchanged.
        """
        share = {
            field.name: torch.rand(n, generator=generator, device=generator.device)
            for field in fields(self)
            if field.name not in (*_NOT_RANGES, "shift_voxels")
        }

        def between(name: str) -> Tensor:
            low, high = getattr(self, name)
            return low + share[name] * (high - low) if low < high else torch.full_like(share[name], low)

        low, high = self.snr
        snr = low * (high / low) ** share["snr"] if low < high else torch.full_like(share["snr"], low)
        rotation = random_rotations(n, generator, self.rotation_max_deg)
        low, high = self.shift_voxels
        shift = low + (high - low) * torch.rand(n, 3, generator=generator, device=generator.device)
        center, half = between("tilt_center_deg"), between("max_tilt_deg")
        tilt_range = torch.stack([center - half, center + half], dim=-1).clamp(-90, 90)
        return ImagingParameters(
            rotation=rotation,
            shift_zyx_voxels=shift.round() if self.shifts_whole_voxels else shift,
            scale=between("scale"),
            tilt_range_deg=tilt_range if self.has_wedge else torch.tensor([[-90.0, 90.0]]).to(tilt_range).repeat(n, 1),
            snr=snr if self.has_noise else torch.full_like(snr, math.inf),
            noise_before_ctf=between("noise_before_ctf"),
            noise_cutoff_nyquist=between("noise_cutoff_nyquist"),
            defocus_um=between("defocus_um"),
            voltage_kv=between("voltage_kv"),
            spherical_aberration_mm=between("spherical_aberration_mm"),
            amplitude_contrast=between("amplitude_contrast"),
            phase_shift_deg=between("phase_shift_deg"),
            b_factor_angstrom2=between("b_factor_angstrom2"),
            envelope_nyquist=between("envelope_nyquist"),
            cutoff_nyquist=between("cutoff_nyquist"),
            voxel_spacing_angstrom=between("voxel_spacing_angstrom"),
            has_ctf=self.has_ctf,
            is_dual_axis=self.is_dual_axis,
        )


@dataclass(frozen=True)
class ImagingParameters:
    """Conditions of n particles, one row each; meaning and units as in :class:`ImagingRanges`."""

    rotation: Float[Tensor, "n 3 3"]
    """Takes the reference into the tomogram frame (zyx column vectors)."""
    shift_zyx_voxels: Float[Tensor, "n 3"]
    scale: Float[Tensor, "n"]
    tilt_range_deg: Float[Tensor, "n 2"]
    """Lowest and highest tilt; (-90, 90) where nothing is missing."""
    snr: Float[Tensor, "n"]
    """Infinite where no noise is added."""
    noise_before_ctf: Float[Tensor, "n"]
    noise_cutoff_nyquist: Float[Tensor, "n"]
    defocus_um: Float[Tensor, "n"]
    voltage_kv: Float[Tensor, "n"]
    spherical_aberration_mm: Float[Tensor, "n"]
    amplitude_contrast: Float[Tensor, "n"]
    phase_shift_deg: Float[Tensor, "n"]
    b_factor_angstrom2: Float[Tensor, "n"]
    envelope_nyquist: Float[Tensor, "n"]
    cutoff_nyquist: Float[Tensor, "n"]
    voxel_spacing_angstrom: Float[Tensor, "n"]
    has_ctf: bool = True
    is_dual_axis: bool = False

    def __len__(self) -> int:
        return self.snr.shape[0]

    def select(self, rows: Tensor | slice) -> "ImagingParameters":
        """Return the conditions of some of the particles."""
        chosen: dict[str, Any] = {name: value[rows] for name, value in self._tensors().items()}
        return replace(self, **chosen)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "ImagingParameters":
        """Return the same conditions on another device or in another precision."""
        moved: dict[str, Any] = {name: value.to(device, dtype) for name, value in self._tensors().items()}
        return replace(self, **moved)

    def _tensors(self) -> dict[str, Tensor]:
        return {f.name: getattr(self, f.name) for f in fields(self) if isinstance(getattr(self, f.name), Tensor)}
