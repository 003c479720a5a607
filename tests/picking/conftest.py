"""Small tomograms of bright balls and shells in noise, and a detector trained on one of them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tomosift.data.extraction.tomogram_sources import open_tomograms
from tomosift.data.extraction.tomograms import Tomogram
from tomosift.io.volumes import write_volume
from tomosift.particles import Particles
from tomosift.picking.config import Config
from tomosift.picking.detector import train_detector
from tomosift.train.loop import Training
from tomosift.train.run import Run

SHAPE = (24, 48, 48)
SPACING = 10.0
PER_CLASS = 6


@dataclass(frozen=True)
class World:
    """Two tomograms, ``a`` and ``b``, with six balls and six shells each, and a detector trained on ``a``."""

    folder: Path
    tomograms: dict[str, Tomogram]
    particles: dict[str, Particles]
    config: Config
    detector: Path


def simulate_tomogram(name: str, seed: int) -> tuple[np.ndarray, Particles]:
    """Return a density and its particles."""
    rng = np.random.default_rng(seed)
    volume = rng.normal(size=SHAPE)
    slots = rng.permutation([(y, x) for y in (7, 18, 29, 40) for x in (7, 18, 29, 40)])[: 2 * PER_CLASS]
    centers = np.column_stack([rng.uniform(7, 16, 2 * PER_CLASS), slots + rng.uniform(-1, 1, slots.shape)])
    grid = np.stack(np.meshgrid(*[np.arange(edge) for edge in SHAPE], indexing="ij"), axis=-1)
    names = ["ball", "shell"] * PER_CLASS
    for center, kind in zip(centers, names, strict=True):
        radius = np.linalg.norm(grid - center, axis=-1)
        volume += 2.5 * np.exp(-((radius / 2.5) ** 4) if kind == "ball" else -(((radius - 4) / 1.2) ** 2))
    return volume.astype(np.float32), Particles.create([name] * len(names), centers * SPACING, class_name=names)


@pytest.fixture(scope="session")
def picking_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("picking-world")
    particles = {}
    for seed, name in enumerate("ab"):
        volume, particles[name] = simulate_tomogram(name, seed)
        write_volume(folder / "tomograms" / f"{name}.mrc", volume, SPACING)
    tomograms = open_tomograms(folder / "tomograms")
    training = Training(200, 64, 2e-3, checkpoint_every=40)
    config = Config(box_size=16, background_points=4000, self_training_rounds=0, training=training)
    train_detector(config, particles["a"], tomograms, Run.open(folder / "detector", {}), seed=0)
    return World(folder, tomograms, particles, config, folder / "detector")
