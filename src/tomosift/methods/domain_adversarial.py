"""From labeled simulations to unlabeled measurements: adversaries that leave an encoder no sign of the domain.

Labeled boxes of the source domain are a set, or simulated anew at every step from structures and wide imaging
conditions; unlabeled boxes of the target domain are the user's. A classifier learns the first; discriminators of
domains, one per class, look at its embeddings from behind a reversed gradient; and a warp learns to change source boxes
until an image discriminator takes them for target ones.

Source: Bandyopadhyay et al. 2022, "Cryo-shift: reducing domain shift in cryo-electron subtomograms with unsupervised
domain adaptation and randomization", Bioinformatics 38:977, and its code: discriminators weighed by detached
probabilities; raw and warped boxes both classified; the warp trained by the image discriminator alone; noise before
deformation; three stages. Deviations: target boxes are drawn blind to their class, and nothing is selected: the weights
of the last step are taken, so no target label is touched; the reversal grows from 0 to 1 as in Ganin et al. 2016
(there it is 100 throughout); discriminators see standardized embeddings; embeddings of the target are standardized by
their own mean and deviation; see `tomosift.models.learned_augmentation` for those of the warp. All default values are ours.
"""

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from tomosift.data.batches import (
    BalancedStream,
    Batch,
    PairedBatch,
    PairedStream,
    PrefetchStream,
    Stream,
    UniformStream,
    read_batch,
)
from tomosift.data.training_sets import TrainingSets
from tomosift.files import written_then_renamed
from tomosift.inference.classifier import GENERAL, Classifier, ModelCard, load_classifier, starting_encoder
from tomosift.inference.heads import LinearHead
from tomosift.inference.prediction import embed
from tomosift.learning.calibration import fit_temperature
from tomosift.learning.linear_probe import fit_linear_probe
from tomosift.models.augmented_views import recenter_cached
from tomosift.models.domain_discriminators import (
    ClasswiseDiscriminators,
    ImageDiscriminator,
    covariance_distance,
    reverse_gradient,
)
from tomosift.models.encoder import BOXES_TO_PREPARE
from tomosift.models.learned_augmentation import NoiseAndDeformation
from tomosift.models.recentering import CenterCache
from tomosift.physics.imaging import ImagingRanges
from tomosift.simulate.subtomograms import SubtomogramSetConfig
from tomosift.simulate.synthetic_stream import RANDOMIZED_RANGES, StructureStream
from tomosift.train.loop import Progress, Training, fit, step_generator
from tomosift.train.run import Run

USES_LABELS = True
SHARES_BATCHES = False

Features = Literal["class-wise", "single", "covariance", "none"]

_HIDDEN = 512
_OF_COVARIANCE = 100.0  # distances of covariances are as much smaller than cross-entropies
_STEEPNESS = 10.0  # of the growth of the reversal, Ganin et al. 2016
_MOST_KNOWN = 480
"""Source boxes that the head starts from and is calibrated by."""
_MOST_TO_LOOK_AT = 1000
"""Target boxes that scale and similarity are taken from."""
_OTHER_BOXES = 1_000_003  # added to the seed, for simulated boxes that are not trained on
_READ_AHEAD = 2
WARPED = "warped.npz"
"""File of a run with source boxes before and after the warp."""
_PICTURED = 8


@dataclass(frozen=True)
class Config:
    """Settings of adaptation from a labeled source domain to an unlabeled target domain."""

    init: Path | None = GENERAL
    """Run or shipped model to start from; one that already names these classes is not taught them again."""
    encoder: str = "radial"
    """Encoder to train from random weights; with `init`, the encoder of that model is taken."""
    structures: tuple[str, ...] = ()
    """Names of the atlas, or structure or map files, to simulate source boxes from anew at every step; none takes the
    labeled set."""
    imaging: ImagingRanges = field(default_factory=lambda: RANDOMIZED_RANGES)
    """Conditions of those simulations."""
    features: Features = "class-wise"
    """What keeps embeddings of both domains alike: a discriminator per class, a single one, equal covariances, or
    nothing."""
    feature_weight: float = 0.5
    """Of that, beside the classification loss; for covariances a hundred times as much."""
    warps: bool = True
    """Also learn from source boxes that were warped to pass for target boxes."""
    warp_width: int = 4
    """Channels of the warp where they are fewest; 64 as published, for GPUs."""
    most_noise: float = 0.5
    """Most that the warp adds to a voxel, in standard deviations of the box."""
    most_bend_voxels: float = 1.0
    """Farthest that the warp takes a voxel from its place along each axis."""
    warped_share: float = 0.25
    """Share of a step's source boxes that are warped."""
    own_scale: bool = True
    """Standardize embeddings of each domain by its own mean and deviation: right where the classes are about as
    frequent in both."""
    source_steps: int = 200
    """Steps on the source alone, before the target comes in; none where the model to start from names the classes."""
    discriminator_steps: int = 40
    """Steps in which the image discriminator alone learns."""
    encoder_rate: float = 0.3
    """Learning rate of a pretrained encoder, as a share of that of the others."""
    discriminator_rate: float = 0.1
    """Learning rate of the image discriminator, as such a share."""
    training: Training = field(default_factory=lambda: Training(steps=200, batch_size=48))
    """How long and how fast both domains are trained on together; a step has so many boxes of each."""


Stage = Literal["source", "images", "joint"]


class Learner(nn.Module):
    """Classifier, adversaries of its embeddings, warp and image discriminator; what is descended is up to the stage."""

    progress: Tensor

    def __init__(self, classifier: Classifier, config: Config) -> None:
        super().__init__()
        self.classifier, self.config = classifier, config
        self.stage: Stage = "source"
        size, classes = classifier.encoder.embedding_size, len(classifier.card.class_names)
        self.adversaries = ClasswiseDiscriminators(size, classes if config.features == "class-wise" else 1, _HIDDEN)
        self.warp = NoiseAndDeformation(config.warp_width, config.most_noise, config.most_bend_voxels)
        self.images = ImageDiscriminator(config.warp_width)
        self.register_buffer("progress", torch.zeros(()))
        self.source_centers, self.target_centers = CenterCache(), CenterCache()

    def forward(self, batch: PairedBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """The losses of a step; ``loss`` is their weighed sum."""
        source, target = batch.parts
        with torch.no_grad():
            plain = self._centered(source, None if self.config.structures else self.source_centers)
            measured = plain if self.stage == "source" else self._centered(target, self.target_centers)
        some = plain[: max(2, round(self.config.warped_share * len(plain)))]
        if self.stage == "images":
            return {"loss": self._image_loss(some, measured[: len(some)])}
        label, losses = source.label, {}
        if self.stage == "joint" and self.config.warps:
            warped = self.warp(some, generator)
            losses["images"] = self._image_loss(reverse_gradient(warped), measured[: len(some)])
            plain, label = torch.cat((plain, warped.detach())), torch.cat((label, label[: len(some)]))
        embeddings = self.classifier.encoder(plain, True).float()
        logits = self.classifier.logits(embeddings)
        losses["classes"] = functional.cross_entropy(logits, label)
        losses["accuracy"] = (logits.argmax(1) == label).float().mean()
        if self.stage == "joint" and self.config.features != "none":
            losses["features"] = self._feature_loss(embeddings, logits, measured)
            self.progress += 1 / self.config.training.steps
        parts = [losses[name] for name in ("classes", "images", "features") if name in losses]
        return {"loss": torch.stack(parts).sum(), **losses}

    def _centered(self, batch: Batch, centers: CenterCache | None) -> Float[Tensor, "b d d d"]:
        """Boxes with their particles in the middle; no center is known of boxes that are simulated anew each time."""
        encoder = self.classifier.encoder
        if centers is None:
            return encoder.centered(batch.volume)
        return recenter_cached(encoder, batch.volume, batch.index, centers)

    def _image_loss(self, source: Float[Tensor, "b d d d"], target: Float[Tensor, "b d d d"]) -> Float[Tensor, ""]:
        said = self.images(torch.cat((source, target)))
        truth = (torch.arange(len(said), device=said.device) >= len(source)).to(said.dtype)
        return functional.binary_cross_entropy_with_logits(said, truth)

    def _feature_loss(
        self, embeddings: Float[Tensor, "b e"], logits: Float[Tensor, "b k"], measured: Float[Tensor, "c d d d"]
    ) -> Float[Tensor, ""]:
        weight = self.config.feature_weight
        others = self.classifier.encoder(measured, True).float()
        both = torch.cat((embeddings, others))
        deviation, mean = torch.std_mean(both.detach(), dim=0)
        standardized = (both - mean) / (deviation + 1e-3)
        is_target = torch.arange(len(both), device=both.device) >= len(embeddings)
        if self.config.features == "covariance":
            return _OF_COVARIANCE * weight * covariance_distance(standardized[~is_target], standardized[is_target])
        # The head standardizes by what it is given together: here the other domain.
        probability = torch.softmax(torch.cat((logits, self.classifier.logits(others))).detach(), dim=1)
        share = probability if self.config.features == "class-wise" else torch.ones_like(probability[:, :1])
        reversal = 2 / (1 + math.exp(-_STEEPNESS * float(self.progress))) - 1
        # The reversal carries the weight, so that discriminators learn at full speed from the start.
        return self.adversaries(reverse_gradient(standardized, weight * reversal), share, is_target)  # type: ignore[no-any-return]


def train(config: Config, data: TrainingSets, run: Run, seed: int, progress: Progress | None = None) -> Classifier:
    """A classifier of ``data.unlabeled``, the target domain, from labeled boxes of another domain.

    Those are ``data.labeled``, or simulated from ``config.structures``, whose names become the classes. Labels of the
    target are not looked at. Probabilities are calibrated on the source; how right they are on the target nothing but
    labels there can say.

    Raises
    ------
    ValueError
        When there is no target box, or the source has fewer than two classes.
    """
    source, known, names = source_of(config, data, seed)
    if len(data.unlabeled) < 2:
        raise ValueError(f"the target set has {len(data.unlabeled)} subtomograms, expected at least 2")
    classifier, is_taught = _starting_classifier(config, data, names)
    if not is_taught:
        _take_probe(classifier, known)
    learner = Learner(classifier, config)
    streams = PrefetchStream(
        PairedStream((source, UniformStream(data.unlabeled, config.training.batch_size, seed))), _READ_AHEAD
    )
    stages: list[tuple[Stage, int]] = [("source", 0 if is_taught else config.source_steps)]
    stages += [("images", config.discriminator_steps if config.warps else 0), ("joint", config.training.steps)]
    for stage, steps in stages:
        if steps:
            learner.stage = stage
            training = replace(config.training, steps=steps)
            groups = _groups(learner, config)
            where = run if stage == "joint" else run.within(stage)
            fit(learner, streams, training, where, seed, parameter_groups=groups, progress=progress)
    streams.close()
    if config.warps:
        _keep_warped(run, learner, known, seed)
    _look_around(config, classifier, known, data)
    return classifier.eval()


def source_of(config: Config, data: TrainingSets, seed: int) -> tuple[Stream[Batch], Batch, tuple[str, ...]]:
    """Where source boxes come from, some that take no part in training or all there are, and their classes."""
    size = config.training.batch_size
    if config.structures:
        described = SubtomogramSetConfig(
            classes=config.structures,
            box_size=data.box_size,
            voxel_spacing_angstrom=data.voxel_spacing_angstrom,
            ranges=config.imaging,
            seed=seed,
        )
        if len(described.class_names) < 2:
            raise ValueError(f"structures name only {described.class_names[0]}, expected at least 2")
        others = StructureStream(replace(described, seed=seed + _OTHER_BOXES), _MOST_KNOWN)
        return StructureStream(described, size), others.batch(0), described.class_names
    labeled = data.labeled.select(data.labeled.labeled_rows)
    if len(np.unique(labeled.label)) < 2:
        raise ValueError("the source set names fewer than 2 classes; label it, or give structures to simulate from")
    known = read_batch(labeled, labeled.spaced_rows(_MOST_KNOWN))
    return BalancedStream(labeled, size, seed), known, data.class_names


def _starting_classifier(config: Config, data: TrainingSets, names: tuple[str, ...]) -> tuple[Classifier, bool]:
    """The model to start from as a classifier of these classes, and whether it already is one."""
    boxes, spacing = data.unlabeled, data.voxel_spacing_angstrom
    plain = torch.from_numpy(boxes.volumes(boxes.spaced_rows(BOXES_TO_PREPARE)))
    name, encoder = starting_encoder(config.init, config.encoder, plain, spacing)
    classifier = Classifier(encoder, ModelCard(name, spacing, data.box_size, class_names=names))
    start = None if config.init is None else load_classifier(config.init)
    if start is None or start.card.class_names != names or not isinstance(start.head, LinearHead):
        return classifier, False
    classifier.head = start.head
    return classifier, True


@torch.inference_mode()
def _keep_warped(run: Run, learner: Learner, known: Batch, seed: int) -> None:
    """Some source boxes, centered, and what the warp makes of them, to be looked at."""
    plain = learner.classifier.encoder.centered(known.volume[:_PICTURED])
    warped = learner.warp(plain, step_generator(seed, 0))
    with written_then_renamed(run.folder / WARPED) as temporary, temporary.open("wb") as stream:
        np.savez(stream, source=plain.numpy(), warped=warped.numpy())


def _embeddings(classifier: Classifier, batch: Batch) -> NDArray[np.float32]:
    return embed(classifier.encoder, lambda rows: batch.volume[torch.from_numpy(rows)].numpy(), len(batch))


def _take_probe(classifier: Classifier, known: Batch) -> None:
    embeddings = _embeddings(classifier, known)
    head = classifier.head
    assert isinstance(head, LinearHead)
    head.standardize(torch.from_numpy(embeddings))
    head.load_probe(fit_linear_probe(embeddings, known.label.numpy(), len(classifier.card.class_names)))


def _groups(learner: Learner, config: Config) -> list[dict[str, Any]]:
    """What learns in the stage that the learner is in, and how fast."""
    rate = config.training.learning_rate
    images = {"params": list(learner.images.parameters()), "lr": rate * config.discriminator_rate}
    if learner.stage == "images":
        return [images]
    encoder = rate if config.init is None else rate * config.encoder_rate
    groups = [{"params": list(learner.classifier.parameters()), "lr": encoder}]
    if learner.stage == "joint":
        groups += [{"params": [*learner.adversaries.parameters(), *learner.warp.parameters()], "lr": rate}, images]
    return groups


def _look_around(config: Config, classifier: Classifier, known: Batch, data: TrainingSets) -> None:
    """Scale, calibration and similarity of the trained classifier."""
    boxes = data.unlabeled.select(data.unlabeled.spaced_rows(_MOST_TO_LOOK_AT))
    measured, source = embed(classifier.encoder, boxes.volumes, len(boxes)), _embeddings(classifier, known)
    head = classifier.head
    assert isinstance(head, LinearHead)
    assert classifier.similarity is not None
    head.standardize(torch.from_numpy(source))
    with torch.inference_mode():
        temperature = fit_temperature(head(torch.from_numpy(source)).double().numpy(), known.label.numpy())
    if config.own_scale:
        head.standardize(torch.from_numpy(measured))
    classifier.card = replace(classifier.card, temperature=temperature)
    classifier.similarity.remember(torch.from_numpy(measured), torch.from_numpy(source), known.label)
