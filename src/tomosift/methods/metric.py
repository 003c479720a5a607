"""An encoder that knows what complexes look like: trained on simulated ones to keep them apart, any number of them.

Simulation gives labels for nothing, so the teacher is a stream of complexes that do not exist, each seen a few dozen
times under widely varied imaging; what is learned is a metric, in which complexes never seen lie apart as well. The
shipped model `general` is made this way, and ``init="general"`` starts other methods from it.

An encoder whose first part has no weights (`radial`) learns in a thousandth of the time that simulation takes, so its
boxes are simulated once, what that part makes of them is kept as *lessons* in the folder of the run, and training goes
over these several times. Others get fresh boxes at every step.

Source: Rice et al. 2023, "TomoTwin: generalized 3D localization of macromolecules in cryo-electron tomograms with
structural data mining", for one metric of all complexes; the losses name theirs. Deviations: complexes that do not
exist instead of the Protein Data Bank, so that none is a homologue of what is asked for later; supervised contrast
instead of triplets. All default values are ours.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from tomosift.data.batches import Batch, FeatureBatch, PrefetchStream
from tomosift.data.training_sets import TrainingSets
from tomosift.inference.classifier import Classifier, ModelCard, starting_encoder
from tomosift.inference.heads import PLDAHead
from tomosift.inference.prediction import embed
from tomosift.learning.plda import fit_plda
from tomosift.models.distributed import all_gather
from tomosift.models.encoder import BOXES_TO_PREPARE, Encoder
from tomosift.models.losses import nt_xent, prototypical_loss, supervised_contrastive, triplet_loss
from tomosift.models.recentering import REACH
from tomosift.physics.imaging import ImagingRanges, lab_protocol
from tomosift.rng import normal
from tomosift.simulate.feature_cache import MOST_WORKERS, FeatureCache, cached_features
from tomosift.simulate.synthetic_stream import WIDE_RANGES, SyntheticComplexStream
from tomosift.train.loop import Progress, Training, fit
from tomosift.train.run import Run

USES_LABELS = False
SHARES_BATCHES = True

Loss = Literal["supervised-contrastive", "cosine", "triplet", "prototypical"]

_LESSON_COMPLEXES = 64
_DISTRACTORS = 1 / 32  # of what is learned from
_DIRECTIONS_SNRS = (0.03, 0.06, 0.12, 0.3)
_DIRECTIONS_EACH, _DIRECTIONS_SHIFT = 40, 2.0
_OTHER_COMPLEXES = 1_000_003  # added to the seed, for complexes that training does not see


@dataclass(frozen=True)
class Config:
    """Settings of metric training."""

    init: Path | None = None
    """Run or shipped model whose encoder to start from, none for random weights."""
    encoder: str = "radial"
    """Encoder to train from random weights; with `init`, the encoder of that model is taken."""
    loss: Loss = "supervised-contrastive"
    """Each particle finds those of its complex among all others; or its complex among all there are, by cosine; or
    triplets; or its complex by two examples of each of the batch."""
    temperature: float = 0.05
    """Temperature of the softmax over similarities; triplets have none."""
    independent_noise: float = 0.0
    """Weight of a second term, in which the two halves of a particle, of independent noise, find each other."""
    complexes: int = 8192
    """Complexes to learn from; where every step has fresh boxes, no complex comes twice."""
    boxes_each: int = 48
    """Boxes of each of these complexes."""
    fresh: bool = False
    """Simulate anew at every step, as is always done for encoders that have no fixed first part."""
    imaging: ImagingRanges = field(default_factory=lambda: WIDE_RANGES)
    """Conditions of what is learned from."""
    box_size: int = 32
    """Edge of the boxes in voxels."""
    voxel_spacing_angstrom: float = 10.0
    """Of the boxes."""
    classes_per_batch: int = 96
    """Complexes of a step."""
    per_class: int = 4
    """Boxes of each in a step."""
    input_noise: float = 0.05
    """Noise added to standardized lessons, in their standard deviations."""
    dropout: float = 0.1
    """Share of hidden features left out at every step, in encoders with a fixed first part."""
    projection_size: int = 128
    """Dimensions in which particles are compared; the projection is thrown away afterwards."""
    plda_complexes: int = 100
    """Complexes, none of them learned from, to which a discriminant is fitted at each of four levels of noise."""
    training: Training = field(default_factory=lambda: Training(6000, learning_rate=2e-3, checkpoint_every=500))
    """How long and how fast; the batch size follows from complexes and boxes of a step."""


class Learner(nn.Module):
    """An encoder, a projection that is thrown away, and the loss between the particles of a batch."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, config: Config, encoder: Encoder, scale: tuple[Tensor, Tensor] | None) -> None:
        super().__init__()
        self.config, self.encoder = config, encoder
        encoder.dropout = config.dropout
        self.projection = nn.Linear(encoder.embedding_size, config.projection_size)
        mean, deviation = scale or (torch.zeros(1), torch.ones(1))
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)
        complexes = config.complexes if config.loss == "cosine" else 0
        proxies = functional.normalize(torch.randn(complexes, config.projection_size), dim=1)
        self.proxies = nn.Parameter(proxies, requires_grad=complexes > 0)

    def forward(self, batch: FeatureBatch | Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """The loss of a batch, and how many particles have one of their own complex as their nearest."""
        if isinstance(batch, Batch):
            batch = self._seen(batch)
        projected, label = all_gather(self._projected(batch.x, generator)), all_gather(batch.label)
        loss = self._between(projected, label)
        losses = {"right": _nearest_is_right(projected.detach(), label)}
        if batch.halves is not None:
            first, second = (all_gather(self._projected(batch.halves[:, k], generator)) for k in (0, 1))
            losses["halves"] = nt_xent(first, second, self.config.temperature)
            loss = loss + self.config.independent_noise * losses["halves"]
        return {"loss": loss, **losses}

    def _seen(self, batch: Batch) -> FeatureBatch:
        plain, halves = batch.volume, batch.halves
        x = cached_features(
            self.encoder, plain, plain[:, None] if halves is None else torch.cat((plain[:, None], halves), 1)
        )
        return FeatureBatch(x[:, 0].clone(), batch.label, None if halves is None else x[:, 1:].clone())

    def _projected(self, x: Tensor, generator: torch.Generator) -> Float[Tensor, "b p"]:
        if x.ndim == 2:  # lessons; boxes are normalized and noisy as they are
            x = (x - self.mean) / self.deviation
            noise = normal(x.shape, generator).to(x.device)
            x = x + self.config.input_noise * noise
        return self.projection(self.encoder.embed(x)).float()  # type: ignore[no-any-return]

    def _between(self, projected: Float[Tensor, "b p"], label: Int64[Tensor, " b"]) -> Float[Tensor, ""]:
        if self.config.loss == "triplet":
            return triplet_loss(projected, label)
        if self.config.loss == "prototypical":
            return prototypical_loss(projected, label, self.config.temperature)
        if self.config.loss == "cosine":
            unit, proxies = (functional.normalize(one, dim=1) for one in (projected, self.proxies))
            return functional.cross_entropy(unit @ proxies.T / self.config.temperature, label)
        return supervised_contrastive(projected, label, self.config.temperature)


@torch.no_grad()
def _nearest_is_right(projected: Float[Tensor, "b p"], label: Int64[Tensor, " b"]) -> Float[Tensor, ""]:
    unit = functional.normalize(projected, dim=1)
    similarity = (unit @ unit.T).fill_diagonal_(-torch.inf)
    return (label[similarity.argmax(dim=1)] == label).float().mean()


def train(
    config: Config, data: TrainingSets | None, run: Run, seed: int, progress: Progress | None = None
) -> Classifier:
    """An encoder with a discriminant, to start from or to enrol classes in; from simulation alone, ``data`` is unused.

    Raises
    ------
    ValueError
        When a number is too small, or the loss cannot be had with fresh boxes at every step.
    """
    _check(config)
    name, encoder = starting_encoder(config.init, config.encoder, _some_boxes(config, seed))
    fresh = config.fresh or not encoder.has_fixed_part
    if fresh and config.loss == "cosine":
        raise ValueError("the cosine loss needs complexes that come again, not fresh ones; take another loss")
    if fresh and config.training.processes > 1:
        raise ValueError(
            f"{config.training.processes} processes are asked for, expected 1: each would simulate the fresh boxes of "
            "all; take an encoder with a fixed first part, such as radial"
        )
    if (boxes := config.classes_per_batch * config.per_class) % config.training.processes:
        raise ValueError(f"a step has {boxes} boxes, expected a multiple of {config.training.processes} processes")
    stream = SyntheticComplexStream(
        config.classes_per_batch if fresh else _LESSON_COMPLEXES,
        config.per_class if fresh else config.boxes_each,
        seed,
        config.box_size,
        config.voxel_spacing_angstrom,
        config.imaging,
        distractors=round(_DISTRACTORS * (config.classes_per_batch if fresh else _LESSON_COMPLEXES)),
        halves=config.independent_noise > 0,
    )
    run.log(event="teaches", complexes=None if fresh else config.complexes, fresh=fresh)
    if fresh:
        learner = Learner(config, encoder, None)
        ahead = PrefetchStream(stream, min(os.cpu_count() or 1, MOST_WORKERS))
        fit(learner, ahead, config.training, run, seed, progress=progress)
        ahead.close()
    else:
        lessons = FeatureCache(
            run.folder / "lessons", stream, config.complexes, config.classes_per_batch, config.per_class, seed
        )
        lessons.simulate(encoder, progress)
        learner = Learner(config, encoder, lessons.scale)
        fit(learner, lessons, config.training, run, seed, progress=progress)
        encoder.take_scale(learner.mean, learner.deviation)
    encoder.dropout = 0.0
    unseen = [_embedded(encoder, batch) for batch in unseen_batches(config, seed)]
    encoder.spread.fill_(REACH)  # it is to look at the user's picks, not to remember these
    return with_directions(config, name, encoder, unseen)


def _check(config: Config) -> None:
    if config.complexes < 2 or config.boxes_each < config.per_class or config.per_class < 2:
        raise ValueError(
            f"complexes, boxes of each and boxes of each in a step are {config.complexes}, {config.boxes_each} and "
            f"{config.per_class}, expected at least 2, as many as in a step, and 2"
        )


def _some_boxes(config: Config, seed: int) -> Float[Tensor, "b d d d"]:
    other = SyntheticComplexStream(
        16, 8, seed + _OTHER_COMPLEXES, config.box_size, config.voxel_spacing_angstrom, config.imaging
    )
    return other.batch(0).volume


def unseen_batches(config: Config, seed: int) -> Iterator[Batch]:
    """Boxes of complexes that are not learned from, in groups that were imaged alike.

    Four groups of different noise, imaged as in the field's published simulation: what makes particles of one class
    differ within one data set, where tilt range and defocus hardly do.
    """
    for group, snr in enumerate(_DIRECTIONS_SNRS):
        shift = (-_DIRECTIONS_SHIFT, _DIRECTIONS_SHIFT)
        ranges = replace(lab_protocol(), snr=(snr, snr), shift_voxels=shift, has_ctf=group % 2 == 0)
        yield SyntheticComplexStream(
            config.plda_complexes,
            _DIRECTIONS_EACH,
            seed + _OTHER_COMPLEXES + 1 + group,
            config.box_size,
            config.voxel_spacing_angstrom,
            ranges,
        ).batch(0)


def _embedded(encoder: Encoder, batch: Batch) -> tuple[Float[np.ndarray, "n e"], Int64[np.ndarray, " n"]]:
    encoder.prepare(batch.volume[:: max(1, len(batch) // BOXES_TO_PREPARE)])
    embeddings = embed(encoder, lambda rows: batch.volume[torch.from_numpy(rows)].numpy(), len(batch))
    return embeddings, batch.label.numpy()


def with_directions(
    config: Config, name: str, encoder: Encoder, unseen: list[tuple[Float[np.ndarray, "_ e"], Int64[np.ndarray, " _"]]]
) -> Classifier:
    """The encoder with a discriminant, fitted to embeddings and labels of each group of `unseen_batches`."""
    embeddings, label = (np.concatenate(parts) for parts in zip(*unseen, strict=True))
    group = np.repeat(np.arange(len(unseen)), [len(one) for one, _ in unseen])
    card = ModelCard(name, config.voxel_spacing_angstrom, config.box_size, head="discriminant")
    made = Classifier(encoder, card)
    assert isinstance(made.head, PLDAHead)
    made.head.load(fit_plda(embeddings, label, group))
    return made.eval()
