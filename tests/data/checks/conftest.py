"""Two tomograms of balls whose picks are right, for checks to which one thing is then done wrong."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from tomosift.acquisition import Acquisition
from tomosift.data.checks.findings import LEVELS, Finding
from tomosift.data.checks.preflight import run_preflight
from tomosift.data.extraction.tomograms import Tomogram
from tomosift.io.volumes import write_volume
from tomosift.particles import Grid, Particles

SHAPE = (48, 96, 104)
SPACING = 10.0
RADIUS_VOXELS = 4.0


def _jittered_centers(rng: np.random.Generator) -> NDArray[np.float64]:
    """Forty centers on a jittered lattice, so that no two balls touch and the volume is filled to its border."""
    centers = np.stack(np.meshgrid([16, 31], np.linspace(9, 86, 4), np.linspace(9, 94, 5), indexing="ij"), axis=-1)
    return centers.reshape(-1, 3) + rng.uniform(-2, 2, size=(40, 3))


def _remove_wedge(volume: NDArray[np.float64], low: float, high: float) -> NDArray[np.float32]:
    """The volume without the frequencies that tilts from low to high about y do not measure."""
    kz = np.fft.fftfreq(volume.shape[0])[:, None, None]
    kx = np.fft.fftfreq(volume.shape[2])[None, None, :]
    tilt = np.rad2deg(np.arctan2(kz * np.where(kx < 0, -1, 1), np.abs(kx)))
    kept = ((tilt >= low) & (tilt <= high)) | ((kx == 0) & (kz == 0))
    return np.fft.ifftn(np.fft.fftn(volume) * kept).real.astype(np.float32)


def _simulate_balls(seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Noise with bright balls of 80 A, and their centers in voxels."""
    rng = np.random.default_rng(seed)
    centers = _jittered_centers(rng)
    volume = rng.standard_normal(SHAPE)
    grid = np.indices(SHAPE)
    for center in centers:
        distance = np.sqrt(((grid - center[:, None, None, None]) ** 2).sum(axis=0))
        volume += 2.0 / (1 + np.exp((distance - RADIUS_VOXELS) / 0.4))
    return volume, centers


@pytest.fixture(scope="session")
def remove_wedge() -> Callable[..., NDArray[np.float32]]:
    return _remove_wedge


@pytest.fixture(scope="session")
def simulate_balls() -> Callable[[int], tuple[NDArray[np.float64], NDArray[np.float64]]]:
    return _simulate_balls


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Particles, dict[str, Tomogram]]:
    """Two tomograms of balls, tilts of -50 to 60 degrees, and picks with two classes."""
    folder = tmp_path_factory.mktemp("world")
    tomograms, names, positions = {}, [], []
    acquisition = Acquisition(np.array([-50.0, 0.0, 60.0]), np.zeros(0), np.zeros(0))
    for seed, name in enumerate(("TS_1", "TS_2")):
        volume, centers = _simulate_balls(seed)
        write_volume(folder / f"{name}.mrc", _remove_wedge(volume, -50, 60), SPACING)
        tomograms[name] = Tomogram(name, folder / f"{name}.mrc", Grid(SHAPE, SPACING), acquisition)
        names += [name] * len(centers)
        positions.append(centers * SPACING)
    classes = ["ball", "sphere"] * (len(names) // 2)
    return Particles.create(names, np.concatenate(positions), class_name=classes), tomograms


@pytest.fixture(scope="session")
def check() -> Callable[..., dict[str, Finding]]:
    """Run all checks; findings by subject."""

    def check(
        particles: Particles, tomograms: dict[str, Tomogram], box_size: int = 16, diameter: float | None = None
    ) -> dict[str, Finding]:
        preflight = run_preflight(
            particles, tomograms, box_size=box_size, voxel_spacing_angstrom=SPACING, particle_diameter_angstrom=diameter
        )
        findings = preflight.findings
        assert len({finding.about for finding in findings}) == len(findings)
        assert all(finding.level in LEVELS and finding.sentence for finding in findings)
        return {finding.about: finding for finding in findings}

    return check


@pytest.fixture(scope="session")
def move() -> Callable[[Particles, NDArray[np.float64]], Particles]:
    """The particles at other positions, in voxels."""

    def move(particles: Particles, voxel_zyx: NDArray[np.float64]) -> Particles:
        return replace(particles, position_zyx_angstrom=voxel_zyx * SPACING, source="")

    return move
