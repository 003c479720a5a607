"""The stages of the program as pieces of work that can be timed."""

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
_GRID_POINTS_PER_CALL = 4096  # whose activations stay in the cache


@dataclass(frozen=True)
class Stage:
    """A piece of work on a number of samples."""

    name: str
    samples: int
    work: Work
    unit: str = "boxes"
    wall: bool = False
    """Whether it reads or writes files, so that wall-clock time is measured."""
    countable: bool = True
    """Whether all its matrix products and transforms are those of torch, and can be counted."""


def noise_batch(count: int, size: int) -> Batch:
    """Return normalized boxes of white noise, with the labels in turn."""
    volume = normalize(torch.randn(count, size, size, size, generator=torch.Generator().manual_seed(0)))
    return Batch(
        volume=volume,
        label=torch.arange(count) % len(CLASSES),
        tilt_range_deg=torch.tensor([[-60.0, 60.0]]).repeat(count, 1),
        rotation=torch.full((count, 3, 3), torch.nan),
        index=torch.arange(count),
    )


def noise_set(folder: Path, count: int, size: int) -> Subtomograms:
    """Write a set of white noise."""
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
    """Write a tomogram of white noise as MRC file."""
    path = folder / "noise.mrc"
    rng = np.random.default_rng(0)
    write_volume(path, rng.standard_normal(shape, dtype=np.float32), SPACING_ANGSTROM)
    angles = np.arange(-60.0, 61.0, 3.0)
    acquisition = Acquisition(angles, np.zeros(0), np.zeros(0))
    return Tomogram("noise", path, Grid(shape, SPACING_ANGSTROM), acquisition)


def draw_positions(shape: tuple[int, int, int], size: int, count: int) -> NDArray[np.int64]:
    """Draw (count, 3) voxels whose boxes lie within the tomogram."""
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
    """Reading of random batches of a set, one after the other."""

    def __init__(self, data: Subtomograms, batch_size: int) -> None:
        self.stream, self.step = UniformStream(data, batch_size), 0

    def __call__(self) -> Batch:
        self.step += 1
        return self.stream.batch(self.step)


class Pretraining:
    """Contrastive steps on one batch, whose centers are known after the first step, and their parts."""

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
        """Draw two views of each box, whose center is known."""
        return self.draw_views(self.batch, self.generator)

    def centers(self) -> Tensor:
        """Estimate the centers of new boxes."""
        return self.embedder.estimate_offsets(self.batch.volume)

    @torch.no_grad()
    def inputs(self) -> Tensor:
        """Compute the input of the network from both views."""
        return self.embedder.encoder.prepare_input(self.both)

    def step(self) -> None:
        """Take one step of the optimizer."""
        self.optimizer.zero_grad()
        self.objective(self.batch, self.generator)["loss"].backward()
        self.optimizer.step()

    def bare_convolutions(self) -> Work:
        """Return the forward and backward passes of all convolutions of the encoder on their inputs in a step.

        As in a step, the first convolution computes no gradient of its input.
        """
        calls: list[tuple[nn.Conv3d, Tensor, Tensor]] = []
        layers = [layer for layer in self.embedder.encoder.modules() if isinstance(layer, nn.Conv3d)]
        hooks = [
            layer.register_forward_hook(lambda layer, inputs, output: calls.append((layer, inputs[0], output)))
            for layer in layers
        ]
        self.embedder.encoder(self.both)
        for hook in hooks:
            hook.remove()
        passes = []
        for layer, volume, output in calls:
            variables = [volume.detach().requires_grad_(volume.requires_grad), layer.weight]
            differentiated = variables if volume.requires_grad else variables[1:]
            passes.append((layer, differentiated, variables[0], torch.ones_like(output)))

        def work() -> None:
            for layer, differentiated, volume, slope in passes:
                output = functional.conv3d(volume, layer.weight, None, layer.stride, layer.padding)
                torch.autograd.grad(output, differentiated, slope)

        return work


def make_supervised_step(encoder: str, batch: Batch) -> Work:
    """Return a step of fine-tuning on labeled boxes."""
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


def build_seeded_encoder(encoder: str) -> Encoder:
    """Build an encoder with random weights, in evaluation mode."""
    torch.manual_seed(0)
    return build_encoder(encoder).eval()


def make_embedding(embedder: Embedder, volume: Tensor) -> Work:
    """Return the embedding of boxes."""

    @torch.no_grad()
    def work() -> Tensor:
        return embedder(volume)

    return work


@torch.no_grad()
def embed_block(encoder: Encoder, block: Tensor, size: int, stride: int) -> Tensor:
    """Return the embeddings (i, j, k, e) of all boxes in a block, by the encoder `dense`."""
    descriptors = compute_block_descriptors(block, size, stride)
    parts = [encoder.embed(part) for part in descriptors.flatten(0, 2).split(_GRID_POINTS_PER_CALL)]
    return torch.cat(parts).reshape(*descriptors.shape[:3], -1)


def make_linear_layers(encoder: Encoder, inputs: Tensor) -> Work:
    """Return the trained layers of an encoder on descriptors, alone."""

    @torch.no_grad()
    def work() -> Tensor:
        return encoder.embed(inputs)

    return work
