"""Density maps as boxes, before any microscope, and whether a translation of them still shows them."""

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from tomosift.data.subtomograms import Subtomograms
from tomosift.models.generators import low_pass_normalized
from tomosift.physics.augmentation import normalized
from tomosift.physics.imaging import ImagingRanges
from tomosift.simulate.subtomograms import (
    SimulatedBatch,
    SubtomogramSetConfig,
    batch_seed,
    prepared_templates,
    simulate_batch,
)

MAPS = ImagingRanges(
    has_ctf=False, has_noise=False, has_wedge=False, cutoff_nyquist=(0.5, 0.5), shift_voxels=(-2.0, 2.0)
)
"""Poses and places of picks, and nothing of a microscope but a resolution of half Nyquist."""

_EACH = 12  # maps of each class
_DRAWS = 8
_CUTOFF_NYQUIST = 0.25


@runtime_checkable
class BoxStyle(Protocol):
    """What gives simulated boxes a look; two calls differ in their noise alone."""

    @property
    def ranges(self) -> ImagingRanges:
        """How boxes are to be imaged before."""
        ...

    def __call__(self, volume: Float[Tensor, "b d d d"], generator: torch.Generator) -> Float[Tensor, "b d d d"]:
        """The same boxes in the look, of mean 0 and variance 1."""
        ...


def with_tilt_ranges_of(boxes: Subtomograms, ranges: ImagingRanges) -> ImagingRanges:
    """The same conditions at the tilt ranges of these boxes."""
    low, high = boxes.tilt_range_deg.astype(float).T
    half, center = (high - low) / 2, (high + low) / 2
    return replace(
        ranges,
        max_tilt_deg=(float(half.min()), float(half.max())),
        tilt_center_deg=(float(center.min()), float(center.max())),
    )


@dataclass(frozen=True)
class Faithfulness:
    """What of a map is left after its translation."""

    class_kept: float
    """Share of maps whose translation is more like the map of their class than those of all other classes in the same
    place and pose; chance taken off, so that 0 is chance and 1 all of them."""
    density_kept: float
    """Mean correlation of the mean translation with its map."""
    density_elsewhere: float
    """The same with a map of the same class in another pose: what likeness alone gives."""


def measure_faithfulness(config: SubtomogramSetConfig, style: BoxStyle) -> Faithfulness:
    """Translate maps of every class several times and compare the mean with maps of every class, posed like it.

    Compared is what is below a quarter of Nyquist. Maps are without neighbors.
    """
    templates = prepared_templates(config)
    classes = len(templates)
    truth = torch.arange(classes).repeat_interleave(_EACH)
    ranges = replace(config.ranges, voxel_spacing_angstrom=2 * (config.voxel_spacing_angstrom,))

    def posed(label: Tensor) -> SimulatedBatch:
        generator = torch.Generator().manual_seed(batch_seed(config.seed, 0))
        return simulate_batch(templates, label, ranges, generator, box_size=config.box_size, max_neighbors=0)

    maps = posed(truth)
    generator = torch.Generator().manual_seed(batch_seed(config.seed, 1))
    draws = [style(maps.volume, generator) for _ in range(_DRAWS)]
    mean = normalized(torch.stack(draws).mean(dim=0))
    mean = low_pass_normalized(mean, _CUTOFF_NYQUIST)

    def likeness(other: Tensor) -> Tensor:
        return (mean * low_pass_normalized(other, _CUTOFF_NYQUIST)).mean(dim=(1, 2, 3))

    likest = torch.stack([likeness(posed(torch.full_like(truth, k)).volume) for k in range(classes)], dim=1)
    right = float((likest.argmax(dim=1) == truth).float().mean())
    # The next map of the same class: rolled within each class.
    elsewhere = maps.volume.reshape(classes, _EACH, *maps.volume.shape[1:]).roll(1, dims=1).flatten(0, 1)
    return Faithfulness(
        class_kept=(right - 1 / classes) / (1 - 1 / classes),
        density_kept=float(likeness(maps.volume).mean()),
        density_elsewhere=float(likeness(elsewhere).mean()),
    )
