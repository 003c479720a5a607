"""Whole tomograms without picks: a class for every place, and the particles that stand out."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from tomosift.data.extraction.tomograms import Tomogram
from tomosift.data.predictions import CLASS, CONFIDENCE, NUMBER
from tomosift.inference.classifier import Classifier
from tomosift.io.volumes.volume import SupportsSlicing
from tomosift.models.encoders import Dense
from tomosift.models.grid_descriptors import compute_block_descriptors
from tomosift.models.grid_descriptors import descriptor_layout as dense_layout
from tomosift.particles import Particles
from tomosift.picking.blocks import Block, Blocks, DetectionGrid
from tomosift.picking.non_maximum_suppression import find_peaks

BACKGROUND = "background"
"""Name of the class of places without a particle."""
_PLACES_AT_ONCE = 32768
_MOST_LOG_ODDS = 30.0
_WITHIN = 0.5


@dataclass(frozen=True, eq=False)
class DetectionMap:
    """What a model says of every place of a tomogram."""

    lattice: DetectionGrid
    log_odds: NDArray[np.float16]
    """(z, y, x) of the most probable class that is no background, against all others; probabilities would all be 1
    about a particle."""
    label: NDArray[np.uint8]
    """(z, y, x) index of that class among ``class_names``."""
    class_names: tuple[str, ...]
    """Of particles, without the background."""

    @property
    def probability(self) -> NDArray[np.float32]:
        """(z, y, x) of the most probable class."""
        return np.asarray(1 / (1 + np.exp(-self.log_odds.astype(np.float32))))


def open_blocks(classifier: Classifier, tomogram: Tomogram, stride: int | None = None) -> Blocks:
    """The blocks that a model looks at; by default places lie as near as costs nothing more than one step.

    Raises
    ------
    ValueError
        When the model's encoder is none that describes whole blocks, or the stride is not a multiple of its step.
    """
    card = classifier.card
    if not isinstance(classifier.encoder, Dense):
        raise ValueError(
            f"the encoder of the model is {card.encoder}, expected dense, which describes whole tomograms; train one "
            "with: tomosift scan --examples"
        )
    step = dense_layout(card.box_size).step
    stride = step if stride is None else stride
    if stride < 1 or stride % step:
        raise ValueError(f"stride is {stride}, expected a multiple of {step}, the step of this model")
    return Blocks(tomogram, card.voxel_spacing_angstrom, card.box_size, stride)


def check_background(classifier: Classifier) -> None:
    """Refuse a model that takes every place for a particle.

    Raises
    ------
    ValueError
        The model has no background among its classes.
    """
    names = classifier.card.class_names
    if BACKGROUND not in names:
        raise ValueError(
            f"the model knows {', '.join(names) or 'no classes'}, but no class {BACKGROUND!r}; train one with: "
            "tomosift scan --examples"
        )


@torch.inference_mode()
def describe_block(blocks: Blocks, block: Block, device: torch.device) -> Float[Tensor, "z y x n"]:
    """Descriptors of the places of a block."""
    volume = torch.from_numpy(np.ascontiguousarray(block.volume)).to(device)
    z, y, x = block.count_zyx
    return compute_block_descriptors(volume, blocks.box_size, blocks.stride)[:z, :y, :x]


@torch.inference_mode()
def detect(
    classifier: Classifier,
    tomogram: Tomogram,
    stride: int | None = None,
    mask: SupportsSlicing | None = None,
    done: Callable[[int, int], None] | None = None,
) -> DetectionMap:
    """The class of every place of a tomogram by a model that knows a background.

    Where all boxes lie in the tomogram it says what the model says of extracted boxes.

    Parameters
    ----------
    stride
        Voxels of the model between places; a multiple of the step of `tomosift.models.grid_descriptors.DescriptorLayout`.
    mask
        Volume on the grid of the tomogram; where it is zero nothing is found.
    done
        Called with the blocks done and the blocks in all.

    Raises
    ------
    ValueError
        The model has no background among its classes, its encoder is none that describes whole blocks, or the mask
        has another shape than the tomogram.
    """
    check_background(classifier)
    names = classifier.card.class_names
    if mask is not None and tuple(mask.shape) != tomogram.grid.shape_zyx:
        raise ValueError(
            f"the mask of {tomogram.name} has {tuple(mask.shape)} voxels, expected {tomogram.grid.shape_zyx} as the "
            "tomogram has"
        )
    blocks = open_blocks(classifier, tomogram, stride)
    device = next(classifier.parameters()).device
    shape = blocks.lattice.shape_zyx
    log_odds, label = np.full(shape, -_MOST_LOG_ODDS, dtype=np.float16), np.zeros(shape, dtype=np.uint8)
    particle = torch.tensor([k for k, name in enumerate(names) if name != BACKGROUND], device=device)
    for number, block in enumerate(blocks):
        found = describe_block(blocks, block, device).flatten(0, 2)
        # Single precision knows no probability between 1 - 1e-7 and 1: places about a particle would be alike.
        parts = [
            (classifier.logits(classifier.encoder.embed(part)) / classifier.card.temperature)
            .double()
            .log_softmax(1)[:, particle]
            for part in torch.split(found, _PLACES_AT_ONCE)
        ]
        best, kind = torch.cat(parts).max(dim=1)
        odds = (best - torch.log(-torch.expm1(best))).clamp(-_MOST_LOG_ODDS, _MOST_LOG_ODDS)
        log_odds[block.places] = odds.reshape(block.count_zyx).cpu().numpy()
        label[block.places] = kind.reshape(block.count_zyx).cpu().numpy()
        if done is not None:
            done(number + 1, len(blocks))
    if mask is not None:
        log_odds[~_looked_at(mask, tomogram, blocks.lattice)] = -_MOST_LOG_ODDS
    return DetectionMap(blocks.lattice, log_odds, label, tuple(name for name in names if name != BACKGROUND))


def extract_picks(
    found: DetectionMap, tomogram: str, radius_angstrom: Mapping[str, float], least_probability: float
) -> Particles:
    """The particles that stand out in a map, with class and probability, the most probable first.

    Those whose center lies within half a radius of the border are left out: what is cut off looks like something else.
    """
    steps = np.array([radius_angstrom[name] for name in found.class_names]) / found.lattice.spacing_angstrom
    least = math.log(least_probability / (1 - least_probability))
    place, kind, odds = find_peaks(found.log_odds, found.label, steps, least)
    margin = _WITHIN * steps[kind, None]
    inside = ((place >= margin) & (place <= np.array(found.lattice.shape_zyx) - 1 - margin)).all(axis=1)
    place, kind, odds = place[inside], kind[inside], odds[inside]
    probability = 1 / (1 + np.exp(-odds))
    names = np.array(found.class_names, dtype=object)[kind]
    particles = Particles.create(
        tomogram=[tomogram] * len(place),
        position_zyx_angstrom=place * found.lattice.spacing_angstrom,
        class_name=names,
        score=probability,
    )
    return particles.with_columns({NUMBER: kind + 1, CLASS: names, CONFIDENCE: np.round(probability, 4)})


def _looked_at(mask: SupportsSlicing, tomogram: Tomogram, lattice: DetectionGrid) -> NDArray[np.bool_]:
    """Whether the mask is on at the voxel nearest to each place."""
    ratio = lattice.spacing_angstrom / tomogram.grid.voxel_spacing_angstrom
    z, y, x = (
        np.minimum(np.rint(np.arange(n) * ratio).astype(np.int64), edge - 1)
        for n, edge in zip(lattice.shape_zyx, tomogram.grid.shape_zyx, strict=True)
    )
    return np.stack([np.asarray(mask[int(plane)])[np.ix_(y, x)] != 0 for plane in z])
