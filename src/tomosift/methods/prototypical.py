"""Prototypical networks: an encoder that classifies by a few examples of each class, also classes it never saw.

Every step is an episode: a few classes, a support set with a few examples of each, and queries that are classified by
the prototypes, the mean embeddings of the examples. A user's own classes are enrolled later without training.

Source: Li et al. 2020, "Few-shot learning for classification of novel macromolecular structures in cryo-electron
tomograms", PLoS Comput. Biol. 16:e1008227. ProtoNet3D is ``head="euclidean"``; ProtoNet-CE, its second stage, is
``head="attention"`` started from a finished run of the first. Episodes of 5 classes, 5 examples and 15 queries, 25
episodes of validation and patience follow their code; number of steps and rates are ours.

Besides the two heads of the paper there is a PLDA (see `tomosift.learning.plda`), fitted to the encoder as it is.

Deviations: training may start from a pretrained encoder, and does by default; particles are augmented; AdamW with one
cosine instead of halving the rate; the attention has no dropout.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tomosift.data.episodes import Episodes
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.data.training_sets import TrainingSets
from tomosift.inference.classifier import Classifier, ModelCard
from tomosift.inference.heads import PLDAHead
from tomosift.inference.model_files import GENERAL, load_classifier, start_embedder
from tomosift.inference.prediction import embed
from tomosift.learning.plda import fit_plda
from tomosift.methods import TrainingInput
from tomosift.objectives.prototypical import EpisodeObjective, episode_score
from tomosift.physics.augmentation import ViewRanges
from tomosift.progress import Progress
from tomosift.train.loop import Training, Validation, fit
from tomosift.train.run import Run

INPUT = TrainingInput(
    "labels", "Folder of a set with many classes, twenty subtomograms or more of each.", validation="classes"
)
USES_LABELS = True
SHARES_BATCHES = False
RENAMED_VALUES = {"head": {"discriminant": "plda"}}


@dataclass(frozen=True)
class Config:
    """Settings of episodic training."""

    init: Path | None = GENERAL
    """Run or shipped model whose encoder to start from; none starts from random weights."""
    encoder: str = "radial"
    """Encoder to train from random weights; with a model to start from, its encoder is used."""
    head: Literal["euclidean", "attention", "plda"] = "euclidean"
    """How particles are compared with prototypes: squared distance (ProtoNet3D); that and the distance after attention,
    added up (ProtoNet-CE); or a PLDA, which is fitted to all labeled particles in seconds, without training the
    encoder. For the PLDA all settings below are ignored."""
    ways: int = 5
    """Classes of an episode."""
    shots: int = 5
    """Examples of each class in the support set."""
    queries: int = 15
    """Particles of each class that are classified by the support set."""
    evaluate_every: int = 25
    """Episodes between evaluations on the validation classes."""
    validation_episodes: int = 25
    """Episodes of each evaluation, the same ones every time."""
    patience: int = 20
    """Evaluations without improvement after which training stops."""
    views: ViewRanges = field(default_factory=ViewRanges)
    """Augmentation of the subtomograms."""
    training: Training = field(default_factory=lambda: Training(steps=500))
    """Number of steps and learning rate; an episode is the batch, whatever the batch size."""


def train(config: Config, data: TrainingSets, run: Run, seed: int, progress: Progress | None = None) -> Classifier:
    """Train a model without classes, in which classes can be enrolled, from the labeled particles of many classes.

    Training stops early on episodes of ``data.validation``, which should hold other classes than ``data.labeled``; with
    too few particles or classes there, it takes all steps. The head is kept with the encoder.

    Raises
    ------
    ValueError
        When too few classes have enough particles for an episode.
    """
    if config.head == "plda":
        return _fit_plda_head(config, data, run)
    shape = (config.ways, config.shots, config.queries)
    stream = Episodes(data.labeled, *shape, seed)
    classifier = _start_classifier(config, data)
    run.log(event="classes", training=_labeled_classes(data.labeled), validation=_labeled_classes(data.validation))
    score = episode_score(classifier, data.validation, *shape, config.validation_episodes, seed)
    fit(
        EpisodeObjective(classifier, config.views),
        stream,
        config.training,
        run,
        seed,
        validation=None if score is None else Validation(score, config.evaluate_every, config.patience),
        progress=progress,
    )
    return classifier.eval()


def _fit_plda_head(config: Config, data: TrainingSets, run: Run) -> Classifier:
    """Fit a PLDA on the encoder as it is; episodes after it gained nothing, see experiments/LOG.md."""
    classifier = _start_classifier(config, data)
    labeled = data.labeled.select(data.labeled.labeled_rows)
    run.log(event="classes", training=_labeled_classes(labeled), particles=len(labeled))
    assert isinstance(classifier.head, PLDAHead)
    classifier.head.load(fit_plda(embed(classifier.embedder, labeled), labeled.label))
    if config.init is None:
        return classifier.eval()
    start = load_classifier(config.init)
    return classifier.replace(decoder=start.decoder).replace_card(decoder=start.card.decoder).eval()


def _labeled_classes(subtomograms: Subtomograms) -> list[str]:
    return sorted({subtomograms.class_names[k] for k in subtomograms.label[subtomograms.labeled_rows]})


def _start_classifier(config: Config, data: TrainingSets) -> Classifier:
    embedder = start_embedder(config.init, config.encoder, data.unlabeled if len(data.unlabeled) else data.labeled)
    card = ModelCard(embedder.encoder.name, data.voxel_spacing_angstrom, data.box_size, head=config.head)
    return Classifier(embedder, card)
