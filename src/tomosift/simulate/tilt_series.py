"""From a specimen to the tomogram a microscope would give: tilt series, CTF, dose, noise, weighted back-projection.

Everything from projection to reconstruction is linear in the images, so signal and noise are reconstructed apart and
added at the stated SNR at the end; the parts are kept, for whoever needs to know how much of a voxel is noise.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from tomosift.acquisition import Acquisition
from tomosift.conventions import center_index
from tomosift.physics.ctf import ctf_2d
from tomosift.physics.projection import back_project, project
from tomosift.simulate.specimen import GOLD, Specimen


@dataclass(frozen=True)
class TiltSeriesSettings:
    """How the tilt series is recorded and reconstructed."""

    tilt_range_deg: tuple[float, float] = (-60.0, 60.0)
    tilt_step_deg: float = 3.0
    dose_per_tilt_e_per_A2: float = 3.0
    """Electrons per square Angstrom and image; the scheme is dose-symmetric, from the smallest tilt outwards."""
    defocus_um: float = 4.0
    """Mean underfocus of the series."""
    defocus_jitter_um: float = 0.1
    """Standard deviation of the defocus from image to image. The reconstruction knows the true values."""
    voltage_kv: float = 300.0
    spherical_aberration_mm: float = 2.7
    amplitude_contrast: float = 0.07
    ctf: bool = True
    ctf_correction: Literal["phase_flip", "wiener", "none"] = "phase_flip"
    wiener_snr: float = 1.0
    """Constant signal-to-noise ratio of the Wiener filter ``S c / (S c^2 + 1)``."""
    radiation_damage: bool = True
    dose_weighting: bool = True
    """Low-pass every image by its dose in the reconstruction, as motion correction and Warp do."""
    noise: Literal["gaussian", "poisson"] = "gaussian"
    noise_before_ctf: float = 0.5
    """Share of Gaussian noise variance that lies in the specimen and so passes the CTF; the rest is the camera's."""
    snr: float | None = 0.1
    """Variance of the signal over variance of the noise in boxes around particles of the reconstruction; None = no
    noise at all."""
    snr_box_size: int = 32
    """Edge, in voxels, of the boxes in which the SNR is measured."""

    def __post_init__(self) -> None:
        low, high = self.tilt_range_deg
        if not -90 <= low < high <= 90:
            raise ValueError(f"tilt_range_deg is {self.tilt_range_deg}, expected -90 <= low < high <= 90")
        for name in ("tilt_step_deg", "dose_per_tilt_e_per_A2", "wiener_snr", "snr_box_size"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}, expected more than 0")
        if self.snr is not None and not self.snr > 0:
            raise ValueError(f"snr is {self.snr}, expected more than 0, or None for no noise")
        if not 0 <= self.noise_before_ctf <= 1:
            raise ValueError(f"noise_before_ctf is {self.noise_before_ctf}, expected a share between 0 and 1")


@dataclass(frozen=True)
class SimulatedTomogram:
    """A reconstruction in its parts. Protein is positive."""

    signal: NDArray[np.float32]
    """(z, y, x) reconstruction of the noise-free images."""
    noise: NDArray[np.float32]
    """(2, z, y, x) noise of the two half tomograms, independent; the full tomogram holds their mean."""
    acquisition: Acquisition
    snr: float
    """As measured in boxes around the particles; infinite without noise."""

    @property
    def full(self) -> NDArray[np.float32]:
        """(z, y, x) the tomogram of all frames: the mean of the halves."""
        mean: NDArray[np.float32] = self.signal + 0.5 * (self.noise[0] + self.noise[1])
        return mean

    @property
    def halves(self) -> NDArray[np.float32]:
        """(2, z, y, x) tomograms of the odd and the even frames: same tilts and wedge, noise of twice the variance."""
        return self.signal + self.noise


def critical_exposure(frequency_per_angstrom: Float[Tensor, "*f"]) -> Float[Tensor, "*f"]:
    """Dose (e/A^2) at which the signal of a spatial frequency has fallen to exp(-1/2); infinite at zero frequency.

    Source: Grant & Grigorieff, eLife 2015, equation 3, fitted at 300 kV; used unscaled at every voltage.
    """
    return 0.245 * frequency_per_angstrom**-1.665 + 2.81


def plan_acquisition(settings: TiltSeriesSettings, rng: np.random.Generator) -> Acquisition:
    """Tilt angles in ascending order, each with the dose it had already seen and its defocus.

    Dose-symmetric: images are taken in order of their distance from the smallest tilt, the positive side first
    (Hagen, Wan & Briggs 2017, with groups of one).
    """
    low, high = settings.tilt_range_deg
    angles = np.arange(low, high + 1e-6 * settings.tilt_step_deg, settings.tilt_step_deg, dtype=np.float64)
    start = angles[np.argmin(np.abs(angles))]
    order = np.lexsort((-angles, np.round(np.abs(angles - start), 6)))
    dose = np.empty_like(angles)
    dose[order] = np.arange(len(angles)) * settings.dose_per_tilt_e_per_A2
    defocus = settings.defocus_um + settings.defocus_jitter_um * rng.standard_normal(len(angles))
    return Acquisition(
        tilt_angles_deg=angles,
        dose_e_per_A2=dose,
        defocus_um=defocus,
        voltage_kv=settings.voltage_kv,
        spherical_aberration_mm=settings.spherical_aberration_mm,
        amplitude_contrast=settings.amplitude_contrast,
        ctf_corrected=settings.ctf and settings.ctf_correction != "none",
    )


def box_variance(volume: NDArray[np.float32], centers_zyx_voxel: NDArray[np.float64], box_size: int) -> float:
    """Mean over boxes of the variance inside the box; boxes are cut at the border. No center: the whole volume."""
    if len(centers_zyx_voxel) == 0:
        return float(volume.var(dtype=np.float64))
    return float(np.mean([volume[box].var(dtype=np.float64) for box in _boxes(volume, centers_zyx_voxel, box_size)]))


def _boxes(
    volume: NDArray[np.float32], centers_zyx_voxel: NDArray[np.float64], box_size: int
) -> list[tuple[slice, ...]]:
    starts = np.round(centers_zyx_voxel).astype(int) - center_index(box_size)
    return [
        tuple(slice(max(0, s), min(n, s + box_size)) for s, n in zip(start, volume.shape, strict=True))
        for start in starts
    ]


def snr_centers(specimen: Specimen, box_size: int) -> NDArray[np.float64]:
    """Centers (voxels) of the particles by which the SNR is stated: those whose box holds no gold, else all.

    A gold bead has a hundred times the variance of a protein; a neighbor's share of it would swamp the average.
    """
    centers = specimen.particles.position_zyx_angstrom / specimen.voxel_spacing_angstrom
    gold = specimen.label_names.index(GOLD)
    clean = [not (specimen.class_labels[box] == gold).any() for box in _boxes(specimen.density, centers, box_size)]
    chosen: NDArray[np.float64] = centers[clean] if any(clean) else centers
    return chosen


class _Transfer:
    """The Fourier filters of every image, on the rfft layout (t, y, x//2 + 1)."""

    def __init__(
        self, settings: TiltSeriesSettings, acquisition: Acquisition, shape_yx: tuple[int, int], pixel_angstrom: float
    ) -> None:
        ky = torch.fft.fftfreq(shape_yx[0], pixel_angstrom)[:, None]
        kx = torch.fft.rfftfreq(shape_yx[1], pixel_angstrom)[None, :]
        frequency = torch.sqrt(ky * ky + kx * kx)
        exposed = torch.as_tensor(acquisition.dose_e_per_A2 + 0.5 * settings.dose_per_tilt_e_per_A2).float()
        decay = torch.exp(-0.5 * exposed[:, None, None] / critical_exposure(frequency))
        ctf = torch.ones_like(decay)
        if settings.ctf:
            ctf = ctf_2d(
                shape_yx,
                pixel_angstrom,
                torch.as_tensor(acquisition.defocus_um).float(),
                voltage_kv=acquisition.voltage_kv,
                spherical_aberration_mm=acquisition.spherical_aberration_mm,
                amplitude_contrast=acquisition.amplitude_contrast,
            )
        self.imaging = ctf * decay if settings.radiation_damage else ctf
        correction = torch.ones_like(ctf)
        if settings.ctf_correction == "phase_flip":
            correction = torch.where(ctf < 0, -1.0, 1.0)
        elif settings.ctf_correction == "wiener":
            correction = settings.wiener_snr * ctf / (settings.wiener_snr * ctf * ctf + 1)
        self.correction = correction * decay if settings.dose_weighting else correction


def _filtered(images: Float[Tensor, "t y x"], transfer: Float[Tensor, "t y _"]) -> Float[Tensor, "t y x"]:
    spectrum = torch.fft.rfftn(images, dim=(-2, -1)) * transfer
    filtered: Tensor = torch.fft.irfftn(spectrum, s=images.shape[-2:], dim=(-2, -1))
    return filtered


def record(
    specimen: Specimen,
    settings: TiltSeriesSettings,
    *,
    rng: np.random.Generator,
    device: torch.device | str = "cpu",
) -> SimulatedTomogram:
    """Record a tilt series of the specimen and reconstruct it by weighted back-projection.

    What is not modelled: the change of defocus within the slab, multiple scattering, errors of the alignment, and
    ice or specimen outside the volume.

    Notes
    -----
    SNR is what the word means for the boxes cut from the tomogram: the variance of the noise-free reconstruction over
    that of the noise, both averaged over boxes of ``snr_box_size`` around the particles (those without gold), whole
    box, neighbors included. It is stated for the full tomogram; each half has half of it. Gaussian noise meets it
    exactly; with Poisson noise the contrast is set for it and the counts scatter about it.
    """
    volume = torch.as_tensor(specimen.density, device=device)
    acquisition = plan_acquisition(settings, rng)
    angles = torch.as_tensor(acquisition.tilt_angles_deg, device=device).float()
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    shape_zyx = (volume.shape[0], volume.shape[1], volume.shape[2])
    transfer = _Transfer(settings, acquisition, shape_zyx[1:], specimen.voxel_spacing_angstrom)
    imaging, correction = transfer.imaging.to(device), transfer.correction.to(device)
    images = _filtered(project(volume, angles), imaging)

    def reconstruct(series: Float[Tensor, "t y x"]) -> NDArray[np.float32]:
        tomogram: NDArray[np.float32] = back_project(_filtered(series, correction), angles, shape_zyx).cpu().numpy()
        return tomogram

    def gaussian() -> Float[Tensor, "t y x"]:
        inside, behind = (torch.randn(images.shape, generator=generator).to(device) for _ in range(2))
        share = settings.noise_before_ctf if settings.noise == "gaussian" else 0.0
        noisy: Tensor = _filtered(share**0.5 * inside, imaging) + (1 - share) ** 0.5 * behind
        return noisy

    signal = reconstruct(images)
    if settings.snr is None:
        return SimulatedTomogram(signal, np.zeros((2, *shape_zyx), np.float32), acquisition, float("inf"))
    centers = snr_centers(specimen, settings.snr_box_size)
    signal_variance = box_variance(signal, centers, settings.snr_box_size)
    if settings.noise == "gaussian":
        noise = np.stack([reconstruct(gaussian()), reconstruct(gaussian())])
        unit_variance = box_variance(0.5 * (noise[0] + noise[1]), centers, settings.snr_box_size)
        noise *= np.float32(np.sqrt(signal_variance / (settings.snr * unit_variance)))
    else:
        electrons = settings.dose_per_tilt_e_per_A2 * specimen.voxel_spacing_angstrom**2
        unit_variance = box_variance(reconstruct(gaussian()), centers, settings.snr_box_size)
        contrast = float(np.sqrt(settings.snr * unit_variance / (electrons * signal_variance)))
        expected = 0.5 * electrons * (1 + contrast * images).clamp(min=0).cpu()
        noise = np.stack(
            [
                reconstruct((torch.poisson(expected, generator=generator) - expected).to(device))
                / np.float32(0.5 * electrons * contrast)
                for _ in range(2)
            ]
        )
    measured = signal_variance / box_variance(0.5 * (noise[0] + noise[1]), centers, settings.snr_box_size)
    return SimulatedTomogram(signal, noise, acquisition, measured)
