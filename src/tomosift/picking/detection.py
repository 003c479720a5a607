"""Detection in whole tomograms: the class of every grid point, and the particles that stand out."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy.typing import NDArray
from torch import Tensor

from tomosift.data.extraction.tomograms import Tomogram
from tomosift.data.predictions import CLASS, CONFIDENCE, NUMBER
from tomosift.inference.classifier import Classifier
from tomosift.io.volumes.volume import SupportsSlicing
from tomosift.models.descriptors.grid import compute_block_descriptors
from tomosift.models.descriptors.grid_layout import descriptor_layout
from tomosift.models.encoders.dense import Dense
from tomosift.particles import Particles
from tomosift.picking.blocks import Block, Blocks, DetectionGrid
from tomosift.picking.non_maximum_suppression import find_peaks
from tomosift.progress import Progress, ignore_progress

BACKGROUND = "background"
"""Name of the class of grid points without a particle."""
_CHUNK = 32768
"""Grid points that are classified at a time."""
_MAX_LOG_ODDS = 30.0
_BORDER_RADII = 0.5
"""Particles whose center lies closer to the border of the tomogram, in radii, are left out."""


@dataclass(frozen=True, eq=False)
class DetectionMap:
    """The prediction of a detector for every grid point of a tomogram."""

    grid: DetectionGrid
    log_odds: NDArray[np.float16]
    """(z, y, x) of the most probable class other than background against all others. Probabilities instead would all
    round to 1 around a particle."""
    label: NDArray[np.uint8]
    """(z, y, x) index of that class in ``class_names``."""
    class_names: tuple[str, ...]
    """Of particles, without the background."""

    @property
    def probability(self) -> NDArray[np.float32]:
        """(z, y, x) probability of the most probable class."""
        return np.asarray(1 / (1 + np.exp(-self.log_odds.astype(np.float32))))


def open_blocks(classifier: Classifier, tomogram: Tomogram, stride: int | None = None) -> Blocks:
    """Return the blocks of a tomogram that a detector describes.

    Parameters
    ----------
    classifier
        Detector, or another model with the encoder `dense`.
    tomogram
        Its voxel spacing may differ from that of the model.
    stride
        Voxels of the model between grid points; by default the step of its descriptors, the finest grid without
        further cost.

    Raises
    ------
    ValueError
        When the encoder of the model does not describe whole blocks, or the stride is not a multiple of its step.
    """
    card = classifier.card
    if not isinstance(classifier.encoder, Dense):
        raise ValueError(
            f"the encoder of the model is {card.encoder}, expected dense, which describes whole tomograms; train one "
            "with: tomosift scan --labels"
        )
    step = descriptor_layout(card.box_size).step
    stride = step if stride is None else stride
    if stride < 1 or stride % step:
        raise ValueError(f"stride is {stride}, expected a multiple of {step}, the step of this model")
    return Blocks(tomogram, card.voxel_spacing_angstrom, card.box_size, stride)


def check_background(classifier: Classifier) -> None:
    """Refuse a model without a class for the background, which would classify every grid point as a particle.

    Raises
    ------
    ValueError
        The model has no such class.
    """
    names = classifier.card.class_names
    if BACKGROUND not in names:
        raise ValueError(
            f"the model knows {', '.join(names) or 'no classes'}, but no class {BACKGROUND!r}; train one with: "
            "tomosift scan --labels"
        )


@torch.inference_mode()
def describe_block(blocks: Blocks, block: Block, device: torch.device) -> Float[Tensor, "z y x n"]:
    """Compute the n descriptors of every grid point of a block."""
    volume = torch.from_numpy(np.ascontiguousarray(block.volume)).to(device)
    z, y, x = block.count_zyx
    return compute_block_descriptors(volume, blocks.box_size, blocks.stride)[:z, :y, :x]


@torch.inference_mode()
def detect(
    classifier: Classifier,
    tomogram: Tomogram,
    stride: int | None = None,
    mask: SupportsSlicing | None = None,
    progress: Progress = ignore_progress,
) -> DetectionMap:
    """Classify every grid point of a tomogram with a detector.

    Where the box around a grid point lies in the tomogram, the prediction is that for the subtomogram extracted there.

    Parameters
    ----------
    classifier
        Detector, as `tomosift.picking.detector.train_detector` returns it.
    tomogram
        Its voxel spacing may differ from that of the detector.
    stride
        Voxels of the detector between grid points; a multiple of the step of
        `tomosift.models.descriptors.grid_layout.DescriptorLayout`, which is the default.
    mask
        Volume on the voxel grid of the tomogram; no particle is detected where it is zero.
    progress
        Called with the number of finished blocks.

    Raises
    ------
    ValueError
        When the model has no class for the background, its encoder does not describe whole blocks, or the shape of the
        mask is not that of the tomogram.
    """
    check_background(classifier)
    _check_mask(mask, tomogram)
    blocks = open_blocks(classifier, tomogram, stride)
    grid, names = blocks.grid, classifier.card.class_names
    log_odds = np.full(grid.shape_zyx, -_MAX_LOG_ODDS, dtype=np.float16)
    label = np.zeros(grid.shape_zyx, dtype=np.uint8)
    for number, block in enumerate(blocks):
        descriptors = describe_block(blocks, block, classifier.embedder.device).flatten(0, 2)
        point_odds, point_label = _classify_points(classifier, descriptors)
        log_odds[block.slices_zyx] = point_odds.reshape(block.count_zyx).cpu().numpy()
        label[block.slices_zyx] = point_label.reshape(block.count_zyx).cpu().numpy()
        progress(number + 1, len(blocks))
    if mask is not None:
        log_odds[~_sample_mask(mask, tomogram, grid)] = -_MAX_LOG_ODDS
    return DetectionMap(grid, log_odds, label, tuple(name for name in names if name != BACKGROUND))


def _classify_points(
    classifier: Classifier, descriptors: Float[Tensor, "p n"]
) -> tuple[Float[Tensor, " p"], Int64[Tensor, " p"]]:
    """Return the log odds of the most probable particle class of each grid point, and its index among these classes."""
    particle_classes = [k for k, name in enumerate(classifier.card.class_names) if name != BACKGROUND]
    columns = torch.tensor(particle_classes, device=descriptors.device)
    # Double precision: single has no probability between 1 - 1e-7 and 1, and grid points around a particle would tie.
    log_probability = torch.cat(
        [
            (classifier.logits(classifier.encoder.embed(chunk)) / classifier.card.temperature)
            .double()
            .log_softmax(1)[:, columns]
            for chunk in torch.split(descriptors, _CHUNK)
        ]
    )
    best, label = log_probability.max(dim=1)
    return (best - torch.log(-torch.expm1(best))).clamp(-_MAX_LOG_ODDS, _MAX_LOG_ODDS), label


def extract_picks(
    detections: DetectionMap, tomogram: str, radius_angstrom: Mapping[str, float], min_confidence: float
) -> Particles:
    """Return the particles of a detection map with class and confidence, the most probable first.

    Particles whose center lies within half a radius of the border are left out: a part of a particle resembles
    something else.

    Parameters
    ----------
    detections
        Map of one tomogram.
    tomogram
        Its name, for the table.
    radius_angstrom
        Particle radius of each class; it sets how close two particles may lie.
    min_confidence
        Particles with a lower probability are left out; between 0 and 1.
    """
    grid, names = detections.grid, detections.class_names
    radius = np.array([radius_angstrom[name] for name in names]) / grid.spacing_angstrom
    min_log_odds = math.log(min_confidence / (1 - min_confidence))
    index, label, log_odds = find_peaks(detections.log_odds, detections.label, radius, min_log_odds)
    margin = _BORDER_RADII * radius[label, None]
    is_inside = ((index >= margin) & (index <= np.array(grid.shape_zyx) - 1 - margin)).all(axis=1)
    index, label, log_odds = index[is_inside], label[is_inside], log_odds[is_inside]
    probability = 1 / (1 + np.exp(-log_odds))
    class_name = np.array(names, dtype=object)[label]
    particles = Particles.create(
        tomogram=[tomogram] * len(index),
        position_zyx_angstrom=index * grid.spacing_angstrom,
        class_name=class_name,
        score=probability,
    )
    return particles.with_columns({NUMBER: label + 1, CLASS: class_name, CONFIDENCE: np.round(probability, 4)})


def _check_mask(mask: SupportsSlicing | None, tomogram: Tomogram) -> None:
    """Refuse a mask of another shape than the tomogram."""
    if mask is not None and tuple(mask.shape) != tomogram.grid.shape_zyx:
        raise ValueError(
            f"the mask of {tomogram.name} has {tuple(mask.shape)} voxels, expected {tomogram.grid.shape_zyx} as the "
            "tomogram has"
        )


def _sample_mask(mask: SupportsSlicing, tomogram: Tomogram, grid: DetectionGrid) -> NDArray[np.bool_]:
    """Return whether the mask is nonzero at the voxel nearest to each grid point."""
    ratio = grid.spacing_angstrom / tomogram.grid.voxel_spacing_angstrom
    z, y, x = (
        np.minimum(np.rint(np.arange(n) * ratio).astype(np.int64), edge - 1)
        for n, edge in zip(grid.shape_zyx, tomogram.grid.shape_zyx, strict=True)
    )
    return np.stack([np.asarray(mask[int(plane)])[np.ix_(y, x)] != 0 for plane in z])
