"""Streams of subtomograms that are simulated anew at every step."""

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from tomosift.data.batches import Batch
from tomosift.physics.augmentation import normalize
from tomosift.physics.imaging import ImagingRanges
from tomosift.simulation.batch import simulate_batch
from tomosift.simulation.crowding import Templates
from tomosift.simulation.structures.bead_templates import prepare_beads
from tomosift.simulation.structures.distractors import random_distractor
from tomosift.simulation.structures.synthetic_complexes import synthetic_complex
from tomosift.simulation.subtomograms import SubtomogramSetConfig, batch_seed, load_prepared_templates

_CHUNK_SIZE = 32  # subtomograms whose spectra stay in the cache of the processor

WIDE_RANGES = ImagingRanges(
    max_tilt_deg=(40.0, 70.0),
    snr=(0.01, 1.0),
    noise_before_ctf=(0.0, 1.0),
    noise_cutoff_nyquist=(0.4, 2.0),
    defocus_um=(2.0, 7.0),
    spherical_aberration_mm=(2.0, 2.7),
    amplitude_contrast=(0.05, 0.12),
    envelope_nyquist=(0.3, 2.0),
    cutoff_nyquist=(0.4, 2.0),
    shift_voxels=(-8.0, 8.0),
    scale=(0.8, 1.25),
)
"""Imaging conditions of most tomograms, and somewhat beyond; the choice is ours."""


@dataclass(frozen=True)
class SyntheticComplexStream:
    """Subtomograms of synthetic complexes; no complex is in two batches.

    Conditions that are the same for all particles of a tomogram are the same within a batch: the picking error is drawn
    once, up to the range in ``ranges``, and every second batch has no CTF, as after a perfect correction. The batch of
    a step is a function of seed and step alone.

    Examples
    --------
    >>> from tomosift.simulation.synthetic_stream import SyntheticComplexStream
    >>> SyntheticComplexStream(classes=2, per_class=3, seed=0, box_size=16).batch(0).volume.shape
    torch.Size([6, 16, 16, 16])
    """

    classes: int
    """Number of complexes in a batch."""
    per_class: int
    """Number of subtomograms of each complex."""
    seed: int
    box_size: int = 32
    voxel_spacing_angstrom: float = 10.0
    ranges: ImagingRanges = field(default_factory=lambda: WIDE_RANGES)
    least_shift_voxels: float = 2.0
    """Minimum of the largest picking error of a batch, along each axis."""
    max_neighbors: int = 4
    distractors: int = 0
    """Number of a batch's classes that are gold, membranes, filaments or fragments; they are never neighbors."""
    halves: bool = False
    """Also simulate two half subtomograms with independent noise."""

    def batch(self, step: int) -> Batch:
        """Return the batch of a step, complex after complex; labels continue from step to step."""
        seed = batch_seed(self.seed, step)
        spacing = self.voxel_spacing_angstrom
        rngs = [np.random.default_rng([seed, index]) for index in range(self.classes)]
        beads = [synthetic_complex(rng) for rng in rngs[self.distractors :]]
        beads += [random_distractor(rng) for rng in rngs[: self.distractors]]
        templates = prepare_beads(beads, spacing)
        generator = torch.Generator().manual_seed(seed)
        farthest = max(self.ranges.shift_voxels[1], self.least_shift_voxels)
        reach = float(np.random.default_rng(seed).uniform(self.least_shift_voxels, farthest))
        ranges = replace(
            self.ranges,
            shift_voxels=(-reach, reach),
            voxel_spacing_angstrom=(spacing, spacing),
            has_ctf=self.ranges.has_ctf and step % 2 == 0,
        )
        label = torch.arange(self.classes).repeat_interleave(self.per_class)
        batch = _simulate_in_chunks(
            templates,
            label,
            ranges,
            generator,
            step * len(label),
            box_size=self.box_size,
            max_neighbors=self.max_neighbors,
            neighbor_classes=self.classes - self.distractors,
            halves=self.halves,
        )
        return replace(batch, label=label + step * self.classes)


RANDOMIZED_RANGES = replace(WIDE_RANGES, scale=(0.97, 1.03), shift_voxels=(-4.0, 4.0))
"""The same for structures whose size is known and picks of usual accuracy."""


@dataclass(frozen=True, eq=False)
class StructureStream:
    """Subtomograms of chosen structures, each class equally often; a batch is a function of seed and step alone."""

    config: SubtomogramSetConfig
    """Structures, imaging conditions and seed; its number of particles is ignored."""
    batch_size: int

    @cached_property
    def _templates(self) -> Templates:
        return load_prepared_templates(self.config)

    def batch(self, step: int) -> Batch:
        """Return the batch of a step."""
        config, spacing = self.config, self.config.voxel_spacing_angstrom
        seed = batch_seed(config.seed, step)
        classes = len(config.class_names)
        rng = np.random.default_rng(seed)
        labels = np.concatenate([rng.permutation(classes) for _ in range(-(-self.batch_size // classes))])
        label = torch.from_numpy(labels[: self.batch_size])
        ranges = replace(
            config.ranges,
            voxel_spacing_angstrom=(spacing, spacing),
            has_ctf=config.ranges.has_ctf and step % 2 == 0,
        )
        generator = torch.Generator().manual_seed(seed)
        return _simulate_in_chunks(
            self._templates,
            label,
            ranges,
            generator,
            step * self.batch_size,
            box_size=config.box_size,
            max_neighbors=config.max_neighbors,
        )


def _simulate_in_chunks(
    templates: Templates,
    label: Int64[Tensor, " b"],
    ranges: ImagingRanges,
    generator: torch.Generator,
    first: int,
    *,
    box_size: int,
    max_neighbors: int,
    neighbor_classes: int | None = None,
    halves: bool = False,
) -> Batch:
    """Simulate normalized subtomograms of these classes, a few at a time; their indices start at ``first``."""
    parts = [
        simulate_batch(
            templates,
            part,
            ranges,
            generator,
            box_size=box_size,
            max_neighbors=max_neighbors,
            neighbor_classes=neighbor_classes,
            halves=halves,
        )
        for part in torch.split(label, _CHUNK_SIZE)
    ]
    halves_of_parts = [normalize(part.halves.flatten(0, 1)) for part in parts if part.halves is not None]
    return Batch(
        volume=torch.cat([normalize(part.volume) for part in parts]),
        label=label,
        tilt_range_deg=torch.cat([part.tilt_range_deg for part in parts]),
        rotation=torch.cat([part.rotation for part in parts]),
        index=torch.arange(len(label)) + first,
        halves=torch.cat(halves_of_parts).reshape(len(label), 2, *3 * (box_size,)) if halves_of_parts else None,
    )
