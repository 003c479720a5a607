"""Two tomograms of ten blobs each: a right extraction has a blob in the center of every subtomogram."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tomosift.cli.main import main
from tomosift.io.volumes import write_volume

SHAPE, SPACING = (30, 52, 60), 10.0
NAMES = ("TS_01", "TS_02")


@dataclass(frozen=True)
class Outcome:
    """What a command answered."""

    code: int
    text: str
    """Standard output and standard error."""

    @property
    def sentence(self) -> str:
        """The error, without the name of the program."""
        return self.text.rpartition("tomosift: ")[2].strip()


Run = Callable[..., Outcome]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command as typed at a terminal."""

    def run(*words: object) -> Outcome:
        capsys.readouterr()
        code = 0
        try:
            main([str(word) for word in words])
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return Outcome(code, captured.out + captured.err)

    return run


def draw_centers(seed: int, shape: tuple[int, int, int] = SHAPE) -> NDArray[np.float64]:
    """Ten positions in voxels, at least 12 voxels apart, with whole boxes of 12 voxels."""
    rng, centers = np.random.default_rng(seed), np.zeros((0, 3))
    while len(centers) < 10:
        center = rng.uniform(7, np.array(shape) - 8)
        if not len(centers) or np.linalg.norm(centers - center, axis=1).min() > 12:
            centers = np.concatenate([centers, center[None]])
    return centers


def draw_blobs(centers: NDArray[np.float64], shape: tuple[int, int, int] = SHAPE) -> NDArray[np.float32]:
    """Gaussians of 2 voxels in weak noise."""
    volume = np.random.default_rng(0).normal(0, 0.05, shape)
    grid = np.indices(shape)
    for center in centers:
        volume += np.exp(-((grid - center[:, None, None, None]) ** 2).sum(axis=0) / 8)
    return volume.astype(np.float32)


@pytest.fixture(scope="session")
def blobs() -> dict[str, tuple[NDArray[np.float64], NDArray[np.float32]]]:
    """Centers in voxels and volume of each tomogram."""
    centers = {name: draw_centers(seed) for seed, name in enumerate(NAMES, 1)}
    return {name: (found, draw_blobs(found)) for name, found in centers.items()}


@pytest.fixture
def field(tmp_path: Path, blobs: dict[str, tuple[NDArray[np.float64], NDArray[np.float32]]]) -> Path:
    """A folder with both tomograms, as a user has it."""
    for name, (_, volume) in blobs.items():
        write_volume(tmp_path / f"{name}.mrc", volume, SPACING)
    return tmp_path
