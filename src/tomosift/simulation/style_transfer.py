"""Style transfer: the interface, the source domain of density maps, and how faithful a transfer is to its source."""

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from tomosift.data.subtomogram_set import Subtomograms
from tomosift.models.generators import low_pass_normalized
from tomosift.physics.augmentation import normalize
from tomosift.physics.imaging import ImagingRanges
from tomosift.simulation.batch import SimulatedBatch, simulate_batch
from tomosift.simulation.subtomograms import SubtomogramSetConfig, batch_seed, load_prepared_templates

MAP_RANGES = ImagingRanges(
    has_ctf=False, has_noise=False, has_wedge=False, cutoff_nyquist=(0.5, 0.5), shift_voxels=(-2.0, 2.0)
)
"""Density maps: poses and picking errors, but no CTF, noise or missing wedge; a resolution of half Nyquist."""

_MAPS_PER_CLASS = 12
_TRANSFERS = 8  # of each map
_CUTOFF_NYQUIST = 0.25


@runtime_checkable
class StyleTransfer(Protocol):
    """Changes simulated subtomograms so that they resemble those of a target domain.

    Two calls with the same volumes differ in their noise only.
    """

    @property
    def ranges(self) -> ImagingRanges:
        """Imaging conditions that it expects of its input."""
        ...

    def __call__(self, volume: Float[Tensor, "b d d d"], generator: torch.Generator) -> Float[Tensor, "b d d d"]:
        """Return the volumes in the style of the target, with mean 0 and variance 1."""
        ...


def match_tilt_ranges(subtomograms: Subtomograms, ranges: ImagingRanges) -> ImagingRanges:
    """Return the same imaging conditions with the tilt ranges of a set."""
    low, high = subtomograms.tilt_range_deg.astype(float).T
    half, center = (high - low) / 2, (high + low) / 2
    return replace(
        ranges,
        max_tilt_deg=(float(half.min()), float(half.max())),
        tilt_center_deg=(float(center.min()), float(center.max())),
    )


def describe_maps(structures: tuple[str, ...], target: Subtomograms, seed: int) -> SubtomogramSetConfig:
    """Describe density maps of structures with the box size, voxel spacing and tilt ranges of a set."""
    return SubtomogramSetConfig(
        classes=structures,
        box_size=target.box_size,
        voxel_spacing_angstrom=target.voxel_spacing_angstrom,
        ranges=match_tilt_ranges(target, MAP_RANGES),
        seed=seed,
    )


@dataclass(frozen=True)
class Faithfulness:
    """How much of a density map is preserved by a style transfer."""

    class_kept: float
    """Share of maps whose transfer is most similar to the map of their own class, among maps of all classes in the same
    pose; corrected for chance, so that 0 is chance and 1 all of them."""
    density_kept: float
    """Mean correlation of the mean transfer with its map."""
    density_elsewhere: float
    """Mean correlation with a map of the same class in another pose, as a baseline."""


def measure_faithfulness(config: SubtomogramSetConfig, style: StyleTransfer) -> Faithfulness:
    """Measure how well a style transfer preserves class and density of maps.

    Maps of every class, without neighbors, are transferred several times. The mean transfer is compared with maps of
    all classes in the same pose, below a quarter of Nyquist.

    Parameters
    ----------
    config
        Structures, imaging conditions of the maps, box size and seed.
    style
        Style transfer to be measured.
    """
    templates = load_prepared_templates(config)
    classes = len(templates)
    truth = torch.arange(classes).repeat_interleave(_MAPS_PER_CLASS)
    ranges = replace(config.ranges, voxel_spacing_angstrom=2 * (config.voxel_spacing_angstrom,))

    def simulate_maps(label: Tensor) -> SimulatedBatch:
        generator = torch.Generator().manual_seed(batch_seed(config.seed, 0))
        return simulate_batch(templates, label, ranges, generator, box_size=config.box_size, max_neighbors=0)

    maps = simulate_maps(truth)
    generator = torch.Generator().manual_seed(batch_seed(config.seed, 1))
    transfers = [style(maps.volume, generator) for _ in range(_TRANSFERS)]
    mean = normalize(torch.stack(transfers).mean(dim=0))
    mean = low_pass_normalized(mean, _CUTOFF_NYQUIST)

    def similarity(other: Tensor) -> Tensor:
        return (mean * low_pass_normalized(other, _CUTOFF_NYQUIST)).mean(dim=(1, 2, 3))

    similarities = torch.stack(
        [similarity(simulate_maps(torch.full_like(truth, k)).volume) for k in range(classes)], dim=1
    )
    accuracy = float((similarities.argmax(dim=1) == truth).float().mean())
    # The next map of the same class: rolled within each class.
    elsewhere = maps.volume.reshape(classes, _MAPS_PER_CLASS, *maps.volume.shape[1:]).roll(1, dims=1).flatten(0, 1)
    return Faithfulness(
        class_kept=(accuracy - 1 / classes) / (1 - 1 / classes),
        density_kept=float(similarity(maps.volume).mean()),
        density_elsewhere=float(similarity(elsewhere).mean()),
    )
