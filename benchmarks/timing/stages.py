"""The stages of the program, each as a piece of work that can be timed."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from timing.clock import Work
from tomosift.acquisition import Acquisition
from tomosift.data.batches import Batch, UniformStream
from tomosift.data.extraction.extract import extract
from tomosift.data.extraction.tomograms import Tomogram
from tomosift.data.set_writer import SubtomogramWriter
from tomosift.data.subtomogram_set import Subtomograms, open_subtomograms
from tomosift.inference.classifier import Classifier, ModelCard
from tomosift.io.volumes import write_volume
from tomosift.methods.contrastive import CONTRASTED
from tomosift.models.descriptors.grid import compute_block_descriptors
from tomosift.models.embedder import Embedder
from tomosift.models.encoder import Encoder
from tomosift.models.encoders import build_encoder
from tomosift.models.recentering import Recentering
from tomosift.objectives.contrastive import ContrastiveObjective, ViewPairs
from tomosift.objectives.supervised import ClassificationObjective
from tomosift.particles import Grid, Particles
from tomosift.physics.augmentation import ViewRanges, normalize

SPACING_ANGSTROM = 10.0
CLASSES = ("a", "b", "c")
_PLACES_AT_ONCE = 4096  # whose activations stay in the cache


@dataclass(frozen=True)
class Stage:
    """Some work on so many samples."""

    name: str
    samples: int
    work: Work
    unit: str = "boxes"
    wall: bool = False
    """Reads or writes files, so that only the clock on the wall tells."""
    countable: bool = True
    """Whether its matrix products and transforms are torch's, and can be counted."""


def noise_batch(count: int, size: int) -> Batch:
    """Normalized boxes of white noise with labels in turn."""
    volume = normalize(torch.randn(count, size, size, size, generator=torch.Generator().manual_seed(0)))
    return Batch(
        volume=volume,
        label=torch.arange(count) % len(CLASSES),
        tilt_range_deg=torch.tensor([[-60.0, 60.0]]).repeat(count, 1),
        rotation=torch.full((count, 3, 3), torch.nan),
        index=torch.arange(count),
    )


def noise_set(folder: Path, count: int, size: int) -> Subtomograms:
    """A set of white noise on disk."""
    rng = np.random.default_rng(0)
    with SubtomogramWriter(folder, size, SPACING_ANGSTROM) as writer:
        for start in range(0, count, 256):
            rows = np.arange(start, min(start + 256, count))
            boxes = rng.standard_normal((len(rows), size, size, size), dtype=np.float32)
            ids = [f"particle_{row:06d}" for row in rows]
            particles = Particles.create(["noise"] * len(rows), np.zeros((len(rows), 3)), particle_id=ids)
            writer.append(boxes, particles, np.array([-60.0, 60.0]))
    return open_subtomograms(folder)


def noise_tomogram(folder: Path, shape: tuple[int, int, int]) -> Tomogram:
    """A tomogram of white noise in an MRC file."""
    path = folder / "noise.mrc"
    rng = np.random.default_rng(0)
    write_volume(path, rng.standard_normal(shape, dtype=np.float32), SPACING_ANGSTROM)
    angles = np.arange(-60.0, 61.0, 3.0)
    acquisition = Acquisition(angles, np.zeros(0), np.zeros(0))
    return Tomogram("noise", path, Grid(shape, SPACING_ANGSTROM), acquisition)


def places(shape: tuple[int, int, int], size: int, count: int) -> NDArray[np.int64]:
    """Voxels about which whole boxes lie, (count, 3)."""
    rng = np.random.default_rng(1)
    found: NDArray[np.int64] = rng.integers(size // 2, np.asarray(shape) - size // 2, size=(count, 3))
    return found


class Extraction:
    """Extraction of the same particles into a new set each time."""

    def __init__(
        self, tomogram: Tomogram, center_zyx_voxel: NDArray[np.float64], size: int, folder: Path, workers: int
    ) -> None:
        self.tomogram, self.size, self.folder, self.workers = tomogram, size, folder, workers
        names = [tomogram.name] * len(center_zyx_voxel)
        self.particles = Particles.create(names, center_zyx_voxel * SPACING_ANGSTROM)
        self.times = 0

    def __call__(self) -> Subtomograms:
        self.times += 1
        return extract(
            self.particles,
            {self.tomogram.name: self.tomogram},
            self.folder / f"set-{self.workers}-{self.times}",
            voxel_spacing_angstrom=SPACING_ANGSTROM,
            box_size=self.size,
            workers=self.workers,
        )


class Reading:
    """Batches of random boxes of a set, one after the other."""

    def __init__(self, data: Subtomograms, batch_size: int) -> None:
        self.stream, self.step = UniformStream(data, batch_size), 0

    def __call__(self) -> Batch:
        self.step += 1
        return self.stream.batch(self.step)


class Pretraining:
    """Contrastive steps on one batch, whose boxes were met before, and what they are made of."""

    def __init__(self, encoder: str, batch: Batch) -> None:
        torch.manual_seed(0)
        self.embedder = Embedder(build_encoder(encoder), Recentering())
        self.draw_views = ViewPairs(self.embedder, CONTRASTED, SPACING_ANGSTROM)
        self.objective = ContrastiveObjective(self.embedder.encoder, self.draw_views)
        self.optimizer = torch.optim.AdamW(self.objective.parameters())
        self.batch, self.generator = batch, torch.Generator().manual_seed(1)
        self.both = torch.cat(self.views())

    @torch.no_grad()
    def views(self) -> tuple[Tensor, Tensor]:
        """Two views of each box, whose middle is known."""
        return self.draw_views(self.batch, self.generator)

    def centers(self) -> Tensor:
        """The search for the middles of boxes that are met first."""
        return self.embedder.estimate_offsets(self.batch.volume)

    @torch.no_grad()
    def inputs(self) -> Tensor:
        """What is computed of both views without weights."""
        return self.embedder.encoder.prepare_input(self.both)

    def step(self) -> None:
        """All of it."""
        self.optimizer.zero_grad()
        self.objective(self.batch, self.generator)["loss"].backward()
        self.optimizer.step()

    def bare_convolutions(self) -> Work:
        """Forward and backward pass of every convolution of the encoder on what it sees in a step, and nothing else.

        As in a step the first one gives no gradient of its input.
        """
        seen: list[tuple[nn.Conv3d, Tensor, Tensor]] = []
        layers = [layer for layer in self.embedder.encoder.modules() if isinstance(layer, nn.Conv3d)]
        hooks = [
            layer.register_forward_hook(lambda layer, given, found: seen.append((layer, given[0], found)))
            for layer in layers
        ]
        self.embedder.encoder(self.both)
        for hook in hooks:
            hook.remove()
        passes = []
        for layer, given, found in seen:
            wants = [given.detach().requires_grad_(given.requires_grad), layer.weight]
            passes.append((layer, wants if given.requires_grad else wants[1:], wants[0], torch.ones_like(found)))

        def work() -> None:
            for layer, wanted, given, slope in passes:
                found = functional.conv3d(given, layer.weight, None, layer.stride, layer.padding)
                torch.autograd.grad(found, wanted, slope)

        return work


def supervised_step(encoder: str, batch: Batch) -> Work:
    """A step of fine-tuning on labeled boxes."""
    torch.manual_seed(0)
    card = ModelCard(encoder, SPACING_ANGSTROM, batch.volume.shape[-1], CLASSES)
    classifier = Classifier(Embedder(build_encoder(encoder), Recentering()), card)
    objective = ClassificationObjective(classifier, ViewRanges())
    optimizer = torch.optim.AdamW(objective.parameters())
    generator = torch.Generator().manual_seed(1)

    def work() -> None:
        optimizer.zero_grad()
        objective(batch, generator)["loss"].backward()
        optimizer.step()

    return work


def seeded(encoder: str) -> Encoder:
    """An encoder with random weights, ready to evaluate."""
    torch.manual_seed(0)
    return build_encoder(encoder).eval()


def embedding(encoder: Encoder, volume: Tensor) -> Work:
    """Embeddings of boxes."""

    @torch.no_grad()
    def work() -> Tensor:
        return encoder(volume)  # type: ignore[no-any-return]

    return work


@torch.no_grad()
def scanned(encoder: Encoder, block: Tensor, size: int, stride: int) -> Tensor:
    """Embeddings (i, j, k, e) of all boxes in a block, by the encoder `dense`."""
    described = compute_block_descriptors(block, size, stride)
    parts = [encoder.embed(part) for part in described.flatten(0, 2).split(_PLACES_AT_ONCE)]
    return torch.cat(parts).reshape(*described.shape[:3], -1)


def linear_layers(encoder: Encoder, inputs: Tensor) -> Work:
    """The layers of an encoder that has a fixed part, alone."""

    @torch.no_grad()
    def work() -> Tensor:
        return encoder.embed(inputs)

    return work
