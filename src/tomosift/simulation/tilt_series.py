"""Simulation of a tomogram from a specimen: tilt series, CTF, dose, noise, weighted back-projection.

All steps from projection to reconstruction are linear in the images. Signal and noise are therefore reconstructed
apart, scaled to the stated SNR and kept apart in the result.
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
from tomosift.simulation.specimen import GOLD, Specimen


@dataclass(frozen=True)
class TiltSeriesSettings:
    """Settings of a tilt series and its reconstruction."""

    tilt_range_deg: tuple[float, float] = (-60.0, 60.0)
    tilt_step_deg: float = 3.0
    dose_per_tilt_e_per_A2: float = 3.0
    """Dose of each image; the scheme is dose-symmetric, from the smallest tilt outwards."""
    defocus_um: float = 4.0
    """Mean underfocus of the series."""
    defocus_jitter_um: float = 0.1
    """Standard deviation of the defocus from image to image. The reconstruction uses the true values."""
    voltage_kv: float = 300.0
    spherical_aberration_mm: float = 2.7
    amplitude_contrast: float = 0.07
    ctf: bool = True
    ctf_correction: Literal["phase_flip", "wiener", "none"] = "phase_flip"
    wiener_snr: float = 1.0
    """Constant signal-to-noise ratio of the Wiener filter ``S c / (S c^2 + 1)``."""
    radiation_damage: bool = True
    dose_weighting: bool = True
    """Low-pass every image according to its dose in the reconstruction, as motion correction and Warp do."""
    noise: Literal["gaussian", "poisson"] = "gaussian"
    noise_before_ctf: float = 0.5
    """Share of the Gaussian noise variance that passes the CTF; the rest is noise of the detector."""
    snr: float | None = 0.1
    """Variance of the signal over that of the noise in boxes around particles of the reconstruction; None: no noise."""
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
    """Signal and noise of a reconstruction, kept apart. Protein is positive."""

    signal: NDArray[np.float32]
    """(z, y, x) reconstruction of the noise-free images."""
    noise: NDArray[np.float32]
    """(2, z, y, x) noise of the two half tomograms, independent; the full tomogram holds their mean."""
    acquisition: Acquisition
    snr: float
    """SNR as measured in boxes around the particles; infinite without noise."""

    @property
    def full(self) -> NDArray[np.float32]:
        """(z, y, x) tomogram of all frames: the mean of the halves."""
        mean: NDArray[np.float32] = self.signal + 0.5 * (self.noise[0] + self.noise[1])
        return mean

    @property
    def halves(self) -> NDArray[np.float32]:
        """(2, z, y, x) tomograms of the odd and the even frames: same tilts and wedge, noise of twice the variance."""
        return self.signal + self.noise


def critical_exposure(frequency_per_angstrom: Float[Tensor, "*f"]) -> Float[Tensor, "*f"]:
    """Return the dose (e/A^2) at which the signal of a frequency has fallen to exp(-1/2); infinite at zero frequency.

    Source: Grant & Grigorieff, eLife 2015, equation 3, fitted at 300 kV; used unscaled at every voltage.
    """
    return 0.245 * frequency_per_angstrom**-1.665 + 2.81


def plan_acquisition(settings: TiltSeriesSettings, rng: np.random.Generator) -> Acquisition:
    """Draw the acquisition of a tilt series: tilt angles in ascending order, the dose before each, and its defocus.

    The scheme is dose-symmetric: images are taken in order of their distance from the smallest tilt, the positive side
    first (Hagen, Wan & Briggs 2017, with groups of one).
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
    """Return the mean variance inside boxes, which are truncated at borders; without centers, that of the volume."""
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
    """Return the centers (voxels) of the particles that define the SNR: those without gold in their box, else all.

    A gold bead has a hundred times the variance of a protein and would dominate the average.
    """
    centers = specimen.particles.position_zyx_angstrom / specimen.voxel_spacing_angstrom
    gold = specimen.label_names.index(GOLD)
    clean = [not (specimen.class_labels[box] == gold).any() for box in _boxes(specimen.density, centers, box_size)]
    result: NDArray[np.float64] = centers[clean] if any(clean) else centers
    return result


class _Transfer:
    """Fourier filters of every image for imaging and for reconstruction, on the rfft layout (t, y, x//2 + 1)."""

    def __init__(
        self, settings: TiltSeriesSettings, acquisition: Acquisition, shape_yx: tuple[int, int], pixel_angstrom: float
    ) -> None:
        ky = torch.fft.fftfreq(shape_yx[0], pixel_angstrom)[:, None]
        kx = torch.fft.rfftfreq(shape_yx[1], pixel_angstrom)[None, :]
        frequency = torch.sqrt(ky * ky + kx * kx)
        dose = torch.as_tensor(acquisition.dose_e_per_A2 + 0.5 * settings.dose_per_tilt_e_per_A2).float()
        decay = torch.exp(-0.5 * dose[:, None, None] / critical_exposure(frequency))
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


def _filter(images: Float[Tensor, "t y x"], transfer: Float[Tensor, "t y _"]) -> Float[Tensor, "t y x"]:
    """Multiply the spectra of images by a transfer function."""
    spectrum = torch.fft.rfftn(images, dim=(-2, -1)) * transfer
    result: Tensor = torch.fft.irfftn(spectrum, s=images.shape[-2:], dim=(-2, -1))
    return result


def record_tilt_series(
    specimen: Specimen,
    settings: TiltSeriesSettings,
    *,
    rng: np.random.Generator,
    device: torch.device | str = "cpu",
) -> SimulatedTomogram:
    """Record a tilt series of the specimen and reconstruct it by weighted back-projection.

    Not modelled: the change of defocus within the slab, multiple scattering, alignment errors, and ice or specimen
    outside the volume.

    Parameters
    ----------
    specimen
        Slab to be imaged.
    settings
        Tilts, dose, optics, reconstruction and SNR.
    rng
        Source of defocus and noise.
    device
        Device of projection and reconstruction.

    Notes
    -----
    The SNR is that of the boxes cut from the tomogram: the variance of the noise-free reconstruction over that of the
    noise, both averaged over boxes of ``snr_box_size`` around the particles (those without gold), whole box, neighbors
    included. It is stated for the full tomogram; each half has half of it. Gaussian noise meets it exactly. With
    Poisson noise the contrast is set for it, and the counts scatter about it.
    """
    acquisition = plan_acquisition(settings, rng)
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    series = _Series(specimen, settings, acquisition, generator, device)
    signal = series.reconstruct(series.images)
    if settings.snr is None:
        return SimulatedTomogram(signal, np.zeros((2, *signal.shape), np.float32), acquisition, float("inf"))
    centers = snr_centers(specimen, settings.snr_box_size)
    signal_variance = box_variance(signal, centers, settings.snr_box_size)
    if settings.noise == "gaussian":
        noise = _gaussian_noise(series, signal_variance, settings.snr, centers)
    else:
        noise = _poisson_noise(series, signal_variance, settings.snr, centers, specimen.voxel_spacing_angstrom)
    measured = signal_variance / box_variance(0.5 * (noise[0] + noise[1]), centers, settings.snr_box_size)
    return SimulatedTomogram(signal, noise, acquisition, measured)


class _Series:
    """Noise-free images of a specimen, and the linear maps from images to tomograms."""

    def __init__(
        self,
        specimen: Specimen,
        settings: TiltSeriesSettings,
        acquisition: Acquisition,
        generator: torch.Generator,
        device: torch.device | str,
    ) -> None:
        volume = torch.as_tensor(specimen.density, device=device)
        self.settings, self.generator, self.device = settings, generator, device
        self.angles = torch.as_tensor(acquisition.tilt_angles_deg, device=device).float()
        self.shape_zyx = (volume.shape[0], volume.shape[1], volume.shape[2])
        transfer = _Transfer(settings, acquisition, self.shape_zyx[1:], specimen.voxel_spacing_angstrom)
        self.imaging, self.correction = transfer.imaging.to(device), transfer.correction.to(device)
        self.images = _filter(project(volume, self.angles), self.imaging)

    def reconstruct(self, images: Float[Tensor, "t y x"]) -> NDArray[np.float32]:
        """Correct and back-project images."""
        volume = back_project(_filter(images, self.correction), self.angles, self.shape_zyx)
        tomogram: NDArray[np.float32] = volume.cpu().numpy()
        return tomogram

    def draw_gaussian_noise(self) -> Float[Tensor, "t y x"]:
        """Draw noise images of unit variance, a share of which passes the CTF."""
        shape = self.images.shape
        before, after = (torch.randn(shape, generator=self.generator).to(self.device) for _ in range(2))
        share = self.settings.noise_before_ctf if self.settings.noise == "gaussian" else 0.0
        noise: Tensor = _filter(share**0.5 * before, self.imaging) + (1 - share) ** 0.5 * after
        return noise


def _gaussian_noise(
    series: _Series, signal_variance: float, snr: float, centers: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Return the Gaussian noise of two half tomograms, scaled to the SNR of the full one."""
    noise = np.stack([series.reconstruct(series.draw_gaussian_noise()) for _ in range(2)])
    unit_variance = box_variance(0.5 * (noise[0] + noise[1]), centers, series.settings.snr_box_size)
    noise *= np.float32(np.sqrt(signal_variance / (snr * unit_variance)))
    return noise


def _poisson_noise(
    series: _Series,
    signal_variance: float,
    snr: float,
    centers: NDArray[np.float64],
    voxel_spacing_angstrom: float,
) -> NDArray[np.float32]:
    """Return the noise of electron counts in two half tomograms, at the contrast that gives the SNR of the full one."""
    electrons = series.settings.dose_per_tilt_e_per_A2 * voxel_spacing_angstrom**2
    unit_noise = series.reconstruct(series.draw_gaussian_noise())
    unit_variance = box_variance(unit_noise, centers, series.settings.snr_box_size)
    contrast = float(np.sqrt(snr * unit_variance / (electrons * signal_variance)))
    expected = 0.5 * electrons * (1 + contrast * series.images).clamp(min=0).cpu()
    counts = (torch.poisson(expected, generator=series.generator) for _ in range(2))
    halves = [series.reconstruct((count - expected).to(series.device)) for count in counts]
    return np.stack([half / np.float32(0.5 * electrons * contrast) for half in halves])
