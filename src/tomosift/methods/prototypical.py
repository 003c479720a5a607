"""Prototypical networks: an encoder that tells classes apart by a few examples each, also classes it never saw.

Every step is a small problem: some classes, a few examples of each, and particles to name by the mean embedding of the
examples. What is learned is how to be told apart, so that a user's own classes are enrolled later without training.

Source: Li et al. 2020, "Few-shot learning for classification of novel macromolecular structures in cryo-electron
tomograms", PLoS Comput. Biol. 16:e1008227. ProtoNet3D is ``head="euclidean"``; ProtoNet-CE, its second stage, is
``head="attention"`` started from a finished run of the first. Episodes of 5 classes, 5 examples and 15 questions, 25
episodes of validation and patience follow their code; number of steps and rates are ours.

Beside the paper's two there is a discriminant (see `tomosift.learning.plda`), which trains nothing.

Deviations: training may start from a pretrained encoder, and does by default; particles are seen in augmented views;
AdamW with one cosine instead of halving the rate; the attention has no dropout.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tomosift.data.batches import Batch
from tomosift.data.episodes import Episode, Episodes
from tomosift.data.subtomograms import Subtomograms
from tomosift.data.training_sets import TrainingSets
from tomosift.inference.classifier import Classifier, ModelCard, load_classifier, starting_encoder
from tomosift.inference.heads import AttentionHead, PLDAHead, PrototypeHead
from tomosift.inference.prediction import embed
from tomosift.learning.plda import fit_plda
from tomosift.models.augmented_views import augment_recentered
from tomosift.models.encoder import BOXES_TO_PREPARE
from tomosift.models.losses import attention_divergence
from tomosift.models.recentering import CenterCache
from tomosift.physics.augmentation import ViewRanges
from tomosift.train.loop import Progress, Training, Validation, fit
from tomosift.train.run import Run

USES_LABELS = True
SHARES_BATCHES = False

_ATTENTION_WEIGHT = 2.0


@dataclass(frozen=True)
class Config:
    """Settings of episodic training."""

    init: Path | None = Path("general")
    """Run or shipped model whose encoder to start from, none for random weights."""
    encoder: str = "radial"
    """Encoder to train from random weights; with `init`, the encoder of that model is taken."""
    head: Literal["euclidean", "attention", "discriminant"] = "euclidean"
    """Squared distances to the class means (ProtoNet3D); those and refined ones added up (ProtoNet-CE); or likelihoods
    that know how classes, and particles of one class, vary: fitted in seconds to all labeled particles, the encoder as
    it is; what follows is then without use."""
    ways: int = 5
    """Classes of an episode."""
    shots: int = 5
    """Examples of each."""
    queries: int = 15
    """Particles of each to name by them."""
    evaluate_every: int = 25
    """Episodes between looks at the validation classes."""
    validation_episodes: int = 25
    """Episodes of each look, always the same ones."""
    patience: int = 20
    """Looks without improvement after which training stops."""
    views: ViewRanges = field(default_factory=ViewRanges)
    """Augmentation of the boxes."""
    training: Training = field(default_factory=lambda: Training(steps=500))
    """How long and how fast; an episode is the batch, whatever batch size it names."""


class Learner(nn.Module):
    """Negative log-likelihood of the questions of an episode."""

    def __init__(self, classifier: Classifier, views: ViewRanges) -> None:
        super().__init__()
        self.classifier, self.views, self.centers = classifier, views, CenterCache()

    def forward(self, episode: Episode, generator: torch.Generator) -> dict[str, Tensor]:
        support, query = (self._embedded(part, generator) for part in (episode.support, episode.query))
        ways = len(episode.classes)
        prototypes = torch.stack([support[episode.support.label == way].mean(0) for way in range(ways)])
        head, way = self.classifier.head, episode.query.label
        assert isinstance(head, PrototypeHead)
        losses: dict[str, Tensor] = {}
        if isinstance(head, AttentionHead):
            logits, attention = head.refined(query, prototypes)
            losses["divergence"] = attention_divergence(attention, way)
        else:
            logits = head.compare(query, prototypes)
        likelihood = functional.cross_entropy(logits, way)
        accuracy = (logits.argmax(1) == way).float().mean()
        total = likelihood + _ATTENTION_WEIGHT * losses.get("divergence", torch.zeros_like(likelihood))
        return {"loss": total, "accuracy": accuracy, **losses}

    def _embedded(self, batch: Batch, generator: torch.Generator) -> Tensor:
        encoder, spacing = self.classifier.encoder, self.classifier.card.voxel_spacing_angstrom
        boxes = (batch.volume, batch.index, batch.tilt_range_deg)
        seen = augment_recentered(encoder, *boxes, self.views, spacing, generator, self.centers)
        return encoder(seen, True).float()  # type: ignore[no-any-return]


def train(config: Config, data: TrainingSets, run: Run, seed: int, progress: Progress | None = None) -> Classifier:
    """A model without classes, to enrol them in, from the labeled particles of many classes.

    Training stops early on episodes of ``data.validation``, which should hold other classes than ``data.labeled``; with
    too few particles or classes there, it does not. The head is kept with the encoder.

    Raises
    ------
    ValueError
        When too few classes have enough particles for an episode.
    """
    if config.head == "discriminant":
        return _fitted(config, data, run)
    stream = Episodes(data.labeled, config.ways, config.shots, config.queries, seed)
    classifier = _starting_classifier(config, data)
    run.log(event="classes", training=_named(data.labeled), validation=_named(data.validation))
    score = _score(config, classifier, data.validation, seed)
    fit(
        Learner(classifier, config.views),
        stream,
        config.training,
        run,
        seed,
        validation=None if score is None else Validation(score, config.evaluate_every, config.patience),
        progress=progress,
    )
    return classifier.eval()


def _fitted(config: Config, data: TrainingSets, run: Run) -> Classifier:
    """A discriminant on the encoder as it is; episodes after it gained nothing, see experiments/LOG.md."""
    classifier = _starting_classifier(config, data)
    known = data.labeled.select(data.labeled.labeled_rows)
    run.log(event="classes", training=_named(known), particles=len(known))
    assert isinstance(classifier.head, PLDAHead)
    embeddings = embed(classifier.encoder, known.volumes, len(known))
    classifier.head.load(fit_plda(embeddings, known.label))
    if config.init is not None:
        start = load_classifier(config.init)
        classifier.decoder, classifier.card = start.decoder, replace(classifier.card, decoder=start.card.decoder)
    return classifier.eval()


def _named(boxes: Subtomograms) -> list[str]:
    return sorted({boxes.class_names[k] for k in boxes.label[boxes.labeled_rows]})


def _starting_classifier(config: Config, data: TrainingSets) -> Classifier:
    boxes = data.unlabeled if len(data.unlabeled) else data.labeled
    plain = torch.from_numpy(boxes.volumes(boxes.spaced_rows(BOXES_TO_PREPARE)))
    name, encoder = starting_encoder(config.init, config.encoder, plain)
    card = ModelCard(name, data.voxel_spacing_angstrom, data.box_size, head=config.head)
    return Classifier(encoder, card)


def _score(config: Config, classifier: Classifier, boxes: Subtomograms, seed: int) -> Callable[[], float] | None:
    """Accuracy on episodes of these particles as they are; none where there are too few."""
    boxes = boxes.select(boxes.labeled_rows)
    enough = np.bincount(boxes.label, minlength=1) >= config.shots + config.queries
    if enough.sum() < config.ways:
        return None
    episodes = Episodes(boxes, config.ways, config.shots, config.queries, seed)
    head = classifier.head
    assert isinstance(head, PrototypeHead)
    truth = torch.arange(config.ways).repeat_interleave(config.queries)

    @torch.inference_mode()
    def score() -> float:
        embeddings = torch.from_numpy(embed(classifier.encoder, boxes.volumes, len(boxes))).to(head.prototype.device)
        right = 0.0
        for number in range(config.validation_episodes):
            drawn = embeddings[episodes.rows(number)]
            support, query = drawn[:, : config.shots], drawn[:, config.shots :]
            said = head.compare(query.flatten(0, 1), support.mean(1)).argmax(1).cpu()
            right += float((said == truth).float().mean())
        return right / config.validation_episodes

    return score
