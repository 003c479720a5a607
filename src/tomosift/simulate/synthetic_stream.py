"""Particles simulated anew at every step: a teacher that never runs out and never repeats itself."""

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from tomosift.data.batches import Batch
from tomosift.physics.augmentation import normalized
from tomosift.physics.imaging import ImagingRanges
from tomosift.simulate.crowding import Templates
from tomosift.simulate.structures.bead_templates import prepare_beads
from tomosift.simulate.structures.distractors import random_distractor
from tomosift.simulate.structures.synthetic_complexes import synthetic_complex
from tomosift.simulate.subtomograms import (
    SubtomogramSetConfig,
    batch_seed,
    prepared_templates,
    simulate_batch,
)

_AT_ONCE = 32  # boxes whose spectra stay in the cache

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
"""Conditions of most tomograms there are, and somewhat beyond; the choice is ours."""


@dataclass(frozen=True)
class SyntheticComplexStream:
    """Particles of complexes that do not exist, some of each; no complex comes in two batches.

    What is the same for all particles of a tomogram is the same within a batch: how far picks lie off the center, up to
    what ``ranges`` say; every second batch is without CTF, as after a perfect correction. The batch of a step is a
    function of seed and step alone.
    """

    classes: int
    """Complexes of a batch."""
    per_class: int
    """Particles of each."""
    seed: int
    box_size: int = 32
    voxel_spacing_angstrom: float = 10.0
    ranges: ImagingRanges = field(default_factory=lambda: WIDE_RANGES)
    least_shift_voxels: float = 2.0
    """Of the farthest pick of a batch."""
    max_neighbors: int = 4
    distractors: int = 0
    """So many of a batch's classes are gold, membranes, filaments or fragments, which are nobody's neighbors."""
    halves: bool = False
    """Also give two half boxes with independent noise."""

    def batch(self, step: int) -> Batch:
        """Boxes of step ``step``, complex after complex; labels count on from step to step."""
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
        boxes = _simulated(
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
        return replace(boxes, label=label + step * self.classes)


RANDOMIZED_RANGES = replace(WIDE_RANGES, scale=(0.97, 1.03), shift_voxels=(-4.0, 4.0))
"""The same for structures whose size is known and picks of the usual accuracy."""


@dataclass(frozen=True, eq=False)
class StructureStream:
    """Particles of given structures, each class equally often; the batch of a step is a function of seed and step."""

    config: SubtomogramSetConfig
    """Structures, conditions and seed; its numbers of particles do not matter."""
    batch_size: int

    @cached_property
    def _templates(self) -> Templates:
        return prepared_templates(self.config)

    def batch(self, step: int) -> Batch:
        """Boxes of step ``step``."""
        config, spacing = self.config, self.config.voxel_spacing_angstrom
        seed = batch_seed(config.seed, step)
        classes = len(config.class_names)
        rng = np.random.default_rng(seed)
        drawn = np.concatenate([rng.permutation(classes) for _ in range(-(-self.batch_size // classes))])
        label = torch.from_numpy(drawn[: self.batch_size])
        ranges = replace(
            config.ranges,
            voxel_spacing_angstrom=(spacing, spacing),
            has_ctf=config.ranges.has_ctf and step % 2 == 0,
        )
        generator = torch.Generator().manual_seed(seed)
        return _simulated(
            self._templates,
            label,
            ranges,
            generator,
            step * self.batch_size,
            box_size=config.box_size,
            max_neighbors=config.max_neighbors,
        )


def _simulated(
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
    """Normalized boxes of these classes, which count from ``first``; simulated a few at a time."""
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
        for part in torch.split(label, _AT_ONCE)
    ]
    both = [normalized(part.halves.flatten(0, 1)) for part in parts if part.halves is not None]
    return Batch(
        volume=torch.cat([normalized(part.volume) for part in parts]),
        label=label,
        tilt_range_deg=torch.cat([part.tilt_range_deg for part in parts]),
        rotation=torch.cat([part.rotation for part in parts]),
        index=torch.arange(len(label)) + first,
        halves=torch.cat(both).reshape(len(label), 2, *3 * (box_size,)) if both else None,
    )
