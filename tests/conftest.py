"""Shared fixtures."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from tomosift.averaging import class_averages, multireference_alignment
from tomosift.averaging.alignment_input import prepare_alignment
from tomosift.averaging.class_averages import ClassAverages
from tomosift.averaging.multireference_alignment import compute_class_averages
from tomosift.cli.main import main
from tomosift.conventions import UNLABELED
from tomosift.data.set_writer import SubtomogramWriter
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.inference.classifier import fit_embedder
from tomosift.inference.model_files import shipped_decoder
from tomosift.models import recentering
from tomosift.models.center_finder import CENTER_GRID
from tomosift.models.embedder import Embedder
from tomosift.models.encoders import build_encoder
from tomosift.models.encoders.radial import Radial
from tomosift.particles import Particles
from tomosift.physics.rotation import random_rotations, rotate_upsampled, upsample
from tomosift.physics.wedge import apply_mask, wedge_mask
from tomosift.simulation.dataset import DatasetPaths, simulate_dataset, write_label_table
from tomosift.simulation.dataset_config import TomogramDatasetConfig

ROOT = Path(__file__).resolve().parents[1]
WORLD_CLASSES = ("ribosome-70s", "groel", "apoferritin")
WORLD_SPACING_ANGSTROM = 16.0


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real files (TOMOSIFT_TEST_DATA or ../shared/data), or a skip with the reason."""
    folder = Path(os.environ.get("TOMOSIFT_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "MANIFEST.csv").exists():
        pytest.skip(f"no real files at {folder}; set TOMOSIFT_TEST_DATA to the folder that holds MANIFEST.csv")
    return folder


@pytest.fixture(scope="module")
def few_rotations() -> Iterator[None]:
    """Pose searches try 300 rotations, some 35 degrees apart, instead of 1,500: enough for smooth particles."""
    rotations = random_rotations(300, torch.Generator().manual_seed(1))
    with pytest.MonkeyPatch.context() as patch:
        for module in (class_averages, multireference_alignment):
            patch.setattr(module, "search_rotations", lambda: rotations)
        yield


@pytest.fixture(scope="module")
def hardly_any_rotations() -> Iterator[None]:
    """Pose searches try 40 rotations: enough where no test depends on how good a pose is."""
    rotations = random_rotations(40, torch.Generator().manual_seed(1))
    with pytest.MonkeyPatch.context() as patch:
        for module in (class_averages, multireference_alignment):
            patch.setattr(module, "search_rotations", lambda: rotations)
        yield


class _FlatCenterFinder(nn.Module):
    """A center finder to which every center is equally likely."""

    def forward(self, small: Float[Tensor, "b 16 16 16"]) -> Float[Tensor, "b 32 32 32"]:
        return small.new_zeros(len(small), *3 * (CENTER_GRID,))


@pytest.fixture(scope="module")
def fast_recentering() -> Iterator[None]:
    """Two candidates for each center, by shell power alone: recentering is most of the time of a short training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Radial, "center_candidates", 2)
        patch.setattr(recentering, "center_finder", lambda device: _FlatCenterFinder())
        yield


@pytest.fixture(scope="session")
def write_subtomograms() -> Callable[..., Subtomograms]:
    """The function that writes subtomograms in memory as a set and opens it; see `_write_subtomograms`."""
    return _write_subtomograms


def _write_subtomograms(
    folder: Path,
    volume: NDArray[Any] | torch.Tensor,
    label: NDArray[Any] | Sequence[int] | None = None,
    class_names: Sequence[str] | None = None,
    voxel_spacing_angstrom: float = 10.0,
    tilt_range_deg: NDArray[Any] | tuple[float, float] = (-60.0, 60.0),
    tomogram: Sequence[str] | None = None,
    masks: NDArray[np.bool_] | None = None,
) -> Subtomograms:
    """Write subtomograms as a set of its own and open it.

    Parameters
    ----------
    folder
        Of the set; made if absent.
    volume
        ``(n, d, d, d)`` in zyx. The set stores float16 with zero mean and unit variance.
    label
        ``(n,)`` index into ``class_names``, -1 where unlabeled; None leaves all unlabeled.
    class_names
        Names of the classes; None names them ``class-0``, ``class-1`` ...
    voxel_spacing_angstrom
        Edge of a voxel.
    tilt_range_deg
        ``(n, 2)`` lowest and highest tilt angle, or ``(2,)`` for all.
    tomogram
        (n,) names; None puts all particles into ``TS_01``.
    masks
        ``(n, d, d, d)`` voxels of each particle; None writes a set without masks.
    """
    boxes, count = np.asarray(volume), len(volume)
    labels = np.full(count, UNLABELED) if label is None else np.asarray(label)
    names = tuple(f"class-{k}" for k in range(labels.max(initial=-1) + 1)) if class_names is None else class_names
    particles = Particles.create(
        ["TS_01"] * count if tomogram is None else tomogram,
        np.zeros((count, 3)),
        class_name=["" if k == UNLABELED else names[k] for k in labels],
    )
    writer = SubtomogramWriter(
        folder, boxes.shape[-1], voxel_spacing_angstrom, class_names=tuple(names), has_masks=masks is not None
    )
    writer.append(boxes, particles, tilt_range_deg, masks=masks)
    return writer.close()


BALL_CLASSES = ("bent", "rod", "lump")
_BALL_CENTERS = (
    [[0, 0, 3], [0, 3, -1], [-2, -2, -2]],
    [[0, 0, 4], [0, 0, 1], [0, 0, -3]],
    [[0, 0, 1], [0, 1, 0], [1, 0, 0]],
)
_BALL_BOX_SIZE = 16


@dataclass(frozen=True)
class BallParticles:
    """A set of particles of three balls each, all classes in turn, each in its own pose."""

    subtomograms: Subtomograms
    is_particle: NDArray[np.bool_]
    """(n, 16, 16, 16) voxels of each particle."""


@pytest.fixture(scope="session")
def write_ball_particles() -> Callable[..., BallParticles]:
    """The function that images particles of three classes and writes them as a set; see `_write_ball_particles`."""
    return _write_ball_particles


def _write_ball_particles(folder: Path, each: int, seed: int, snr: float = 0.5) -> BallParticles:
    """Image particles of `BALL_CLASSES` in random poses at a tilt range of 60 degrees, and write them as a set.

    Parameters
    ----------
    folder
        Of the set.
    each
        Particles of each class.
    seed
        Of poses and noise.
    snr
        Variance of the signal over that of the noise, before the missing wedge.
    """
    size, count = _BALL_BOX_SIZE, each * len(BALL_CLASSES)
    generator, label = torch.Generator().manual_seed(seed), torch.arange(count) % len(BALL_CLASSES)
    densities = upsample(torch.stack([_ball_density(centers) for centers in _BALL_CENTERS]))
    signal = rotate_upsampled(densities[label], 2, random_rotations(count, generator))
    noise_std = (signal.var(dim=(1, 2, 3)) / snr).sqrt()[:, None, None, None]
    noise = torch.randn(signal.shape, generator=generator)
    image = apply_mask(signal + noise_std * noise, wedge_mask(size, torch.tensor([[-60.0, 60.0]])))
    subtomograms = _write_subtomograms(folder, image, label.numpy(), BALL_CLASSES)
    return BallParticles(subtomograms, (signal > 0.3).numpy())


def _ball_density(centers: list[list[int]]) -> torch.Tensor:
    axis = torch.arange(_BALL_BOX_SIZE) - _BALL_BOX_SIZE // 2
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    balls = [torch.exp(-((z - a) ** 2 + (y - b) ** 2 + (x - c) ** 2) / (2 * 1.3**2)) for a, b, c in centers]
    return sum(weight * ball for weight, ball in enumerate(balls, 1))  # type: ignore[return-value]


@dataclass(frozen=True)
class World:
    """Three small tomograms with fifteen particles each, and two labels per class."""

    folder: Path
    paths: DatasetPaths
    labels: Path


@dataclass(frozen=True)
class Chain:
    """Set and runs that the commands write for the world."""

    subtomograms: Path
    pretrained: Path
    classifier: Path


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Tomograms, picks and labels that are simulated once."""
    folder = tmp_path_factory.mktemp("world")
    config = TomogramDatasetConfig(
        classes=WORLD_CLASSES,
        particles_per_class=5,
        tomograms=3,
        shape_zyx=(24, 64, 64),
        voxel_spacing_angstrom=WORLD_SPACING_ANGSTROM,
        tilt_step_deg=10.0,
        snr=0.5,
        vesicles=0,
        gold_beads=0,
        snr_box_size=16,
        template_extent_angstrom=384.0,
        labels=False,
        seed=1,
    )
    paths = simulate_dataset(config, folder)
    return World(folder, paths, write_label_table(folder, folder / "labels.star", 2))


@pytest.fixture(scope="session")
def chain(world: World, tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """Set and runs of the world, written by the commands."""

    def run(*words: object) -> None:
        main([str(word) for word in words])

    folder = tmp_path_factory.mktemp("chain")
    paths = Chain(folder / "set", folder / "pretrained", folder / "classifier")
    few = ("--training.steps", 3, "--training.batch-size", 8)
    size = ("--voxel-spacing", WORLD_SPACING_ANGSTROM, "--box-size", 16)
    run("extract", world.paths.particles, "--tomograms", world.paths.tomograms, "--out", paths.subtomograms, *size)
    run("train", "contrastive", paths.subtomograms, "--out", paths.pretrained, *few)
    start = ("--labels", world.labels, "--model", paths.pretrained, "--tuning", "probe-then-finetune")
    start += ("--class-averages", "never")  # test_sort and test_identify compute them
    run("train", "supervised", paths.subtomograms, "--out", paths.classifier, *start, *few)
    return paths


@pytest.fixture(scope="module")
def labeled(write_ball_particles: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Subtomograms:
    """Fourteen balls of each of three classes."""
    subtomograms: Subtomograms = write_ball_particles(tmp_path_factory.mktemp("labeled") / "set", 14, 0).subtomograms
    return subtomograms


@pytest.fixture(scope="module")
def queries(write_ball_particles: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Subtomograms:
    """Eight other particles of each class."""
    subtomograms: Subtomograms = write_ball_particles(tmp_path_factory.mktemp("queries") / "set", 8, 1).subtomograms
    return subtomograms


@pytest.fixture(scope="module")
def embedder(labeled: Subtomograms) -> Embedder:
    torch.manual_seed(0)
    return fit_embedder(build_encoder("radial").eval(), labeled)


@pytest.fixture(scope="module")
def averages(few_rotations: None, labeled: Subtomograms, embedder: Embedder) -> ClassAverages:
    """Averages of all particles by their true labels."""
    alignment, confidence = prepare_alignment(embedder, labeled), np.ones(len(labeled))
    return compute_class_averages(labeled, alignment, labeled.label, confidence, 3, shipped_decoder())
