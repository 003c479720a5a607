"""Sets of three simple shapes, and short configurations of every method for them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tomosift import methods
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.data.training_sets import TrainingSets
from tomosift.learning.query_rounds import QueryRounds
from tomosift.models.generators import GeneratorConfig

SHAPES = ("ball", "plate", "rod")
WIDTHS = {"ball": (3, 3, 3), "plate": (1, 5, 5), "rod": (1, 1, 6)}


def draw_shape(shape: str, rng: np.random.Generator, size: int = 16) -> np.ndarray:
    """A shape in a random orientation, SNR 1."""
    axis = np.arange(size) - size // 2
    coordinates = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).astype(float)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    density = np.exp(-0.5 * (((coordinates @ rotation) / WIDTHS[shape]) ** 2).sum(-1))
    return density / density.std() + rng.normal(size=density.shape)


@pytest.fixture(scope="module", autouse=True)
def _fast_recentering(fast_recentering: None) -> None:
    """The shapes lie at the center of their boxes."""


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory, write_subtomograms: Callable[..., Subtomograms]) -> Subtomograms:
    """Three shapes, 40 of each, 16^3, SNR 1, in four tomograms, with masks."""
    rng = np.random.default_rng(0)
    label = np.arange(120) % 3
    volume = np.stack([draw_shape(SHAPES[k], rng) for k in label]).astype(np.float32)
    return write_subtomograms(
        tmp_path_factory.mktemp("shapes") / "set",
        volume,
        label,
        SHAPES,
        tilt_range_deg=(-90.0, 90.0),
        tomogram=[f"tomogram_{k // 30}" for k in range(120)],
        masks=volume > 2,
    )


@pytest.fixture(scope="session")
def sets(shapes: Subtomograms) -> TrainingSets:
    """Three tomograms to train on and one to validate on."""
    is_last = shapes.particles.tomogram == "tomogram_3"
    return TrainingSets(shapes.select(~is_last), shapes.select(~is_last), shapes.select(is_last))


@pytest.fixture(scope="session")
def short_config() -> Callable[[str, int], Any]:
    """The function that returns a configuration of a method with so many steps, on sixteen voxels; see `_short`."""
    return _short


def _short(name: str, steps: int) -> Any:
    config = methods.load_method(name).Config()
    if name == "prototypical":  # there are three shapes, not five
        config = replace(config, ways=3, shots=2, queries=3)
    if name == "metric":
        config = replace(
            config, box_size=16, complexes=16, particles_per_complex=4, classes_per_batch=8, plda_complexes=2
        )
    if name == "domain_adversarial":
        config = replace(config, init=None, warp_width=2, source_steps=2, discriminator_steps=2)
    if name == "active":
        config = replace(config, init=None, total_labels=30, rounds=QueryRounds(first_labels=20, labels_per_round=10))
    if name == "cycle_wgan":
        generator = GeneratorConfig(width=2, blocks=1)
        config = replace(config, init=None, structures=("groel", "apoferritin"), generator=generator, critic_width=2)
        config = replace(config, min_faithfulness=-1.0, pool_size=4)
    return replace(config, training=replace(config.training, steps=steps, batch_size=12, checkpoint_every=3))
