"""Supervised training on few labels: fine-tuning of a pretrained encoder, or training from scratch.

Source: Gupta et al. 2022, Front. Physiol. 13:957484, fine-tunes the whole network from pretrained weights ("finetune"
here). Starting from a fitted probe at a low rate ("probe-then-finetune") follows Kumar et al. 2022, "Fine-tuning can
distort pretrained features and underperform out-of-distribution". For what unlabeled particles add see
`tomosift.learning.pseudo_labels`. The combination and all default values are ours.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from tomosift.data.splits import split_held_out
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.data.training_sets import TrainingSets
from tomosift.inference.classifier import Classifier, ModelCard
from tomosift.inference.model_files import load_start
from tomosift.methods import TrainingInput
from tomosift.objectives.supervised import FineTuning
from tomosift.objectives.supervised_stages import SupervisedPlan, embed_by_start, needs_pseudo_labels, train_once
from tomosift.physics.augmentation import ViewRanges
from tomosift.progress import Progress
from tomosift.train.loop import Training
from tomosift.train.run import Run

Tuning = Literal["auto", "finetune", "probe-then-finetune", "probe"]

INPUT = TrainingInput("labels", "Folder of a set.", validation="table")
USES_LABELS = True
SHARES_BATCHES = True
RENAMED = {"spread": "pseudo_labels", "averages": "class_averages"}
RENAMED |= {"unknown_below": "min_confidence", "unfamiliar_below": "min_similarity"}
"""Fields of the configuration that had other names in earlier versions."""

_LABELS_TO_HOLD_OUT = 8  # per class, from which a fifth is held out to select the number of steps


@dataclass(frozen=True)
class Config:
    """Settings of supervised training."""

    init: Path | None = None
    """Run or shipped model whose encoder to start from; none trains from scratch."""
    encoder: str = "radial"
    """Encoder to train from scratch; with a model to start from, its encoder is used."""
    tuning: Tuning = "auto"
    """Train the whole network at once, from a fitted probe at a low rate, or only a probe of the frozen encoder. Auto
    is the second with a model to start from, and the first from scratch."""
    pseudo_labels: Literal["auto", "always", "never"] = "auto"
    """Assign pseudo-labels to unlabeled particles of the same set and learn from them as well. Auto does so with a
    model to start from and fewer than 20 labels per class, unless labels alone classify each other well enough."""
    class_averages: Literal["auto", "never"] = "auto"
    """Align the particles of each class, refine pseudo-labels by the class averages, and keep the averages for
    prediction. Auto does so with a model to start from whose encoder recenters."""
    encoder_rate: float = 0.3
    """Learning rate of a pretrained encoder, as a share of that of the head."""
    min_confidence: float = 0.0
    """Classify particles of lower confidence as "unknown"."""
    min_similarity: float = -1.0
    """Classify particles whose similarity to every labeled class is lower (-1 to 1) as "unknown"."""
    evaluate_every: int = 20
    """Steps between evaluations on held-out labels."""
    patience: int = 5
    """Evaluations without improvement after which training stops."""
    views: ViewRanges = field(default_factory=ViewRanges)
    """Augmentation of the labeled subtomograms."""
    training: Training = field(default_factory=lambda: Training(steps=200, batch_size=32))
    """Number of steps and learning rate."""


def train(config: Config, data: TrainingSets, run: Run, seed: int, progress: Progress | None = None) -> Classifier:
    """Train a calibrated classifier from ``data.labeled``.

    Training stops early on ``data.validation``. Where that holds no labels but every class has enough of them, a first
    training holds out a fifth of the labeled particles. It selects the number of steps and, without pseudo-labels, the
    temperature; the classifier then learns from all labels.

    Raises
    ------
    ValueError
        Fewer than two classes are labeled, or the encoder was trained at another voxel spacing.
    """
    labeled = data.labeled.select(data.labeled.labeled_rows)
    held_out = data.validation.select(data.validation.labeled_rows)
    rarest = _count_rarest(labeled)
    if config.tuning == "auto":
        # With one and with five labels per class the second was ahead of the frozen probe; see experiments/LOG.md.
        config = replace(config, tuning="finetune" if config.init is None else "probe-then-finetune")
    plan = _plan(config, data, labeled, seed, progress)
    run.log(event="labels", tuning=config.tuning, training=len(labeled), validation=len(held_out), rarest_class=rarest)
    if len(held_out) or not plan.is_tuning or rarest < _LABELS_TO_HOLD_OUT:
        return train_once(plan, labeled, held_out, run)[0]
    most, fifth = split_held_out(labeled, seed)
    selected, steps = train_once(replace(plan, is_selection=True), most, fifth, run.open_stage("hold-out"))
    run.log(event="steps_selected", steps=steps, temperature=selected.card.temperature)
    plan = replace(plan, fine_tuning=replace(plan.fine_tuning, last_step=steps))
    classifier, _ = train_once(plan, labeled, held_out, run)
    if plan.has_pseudo_labels:  # then out-of-fold logits of all labels calibrate better than a fifth of them
        return classifier
    return classifier.replace_card(temperature=selected.card.temperature)


def _plan(
    config: Config, data: TrainingSets, labeled: Subtomograms, seed: int, progress: Progress | None
) -> SupervisedPlan:
    rate = config.training.learning_rate
    start = None if config.init is None else load_start(config.init, data.voxel_spacing_angstrom)
    encoder = None if start is None else start.encoder
    name = config.encoder if encoder is None else encoder.name
    embedded = embed_by_start(data, labeled, encoder, name, seed)
    low_rate = rate if config.init is None else rate * config.encoder_rate
    head_rate = rate if config.tuning == "finetune" else low_rate
    return SupervisedPlan(
        data=data,
        card=ModelCard(
            name,
            data.voxel_spacing_angstrom,
            data.box_size,
            class_names=data.class_names,
            min_confidence=config.min_confidence,
            min_similarity=config.min_similarity,
        ),
        start=encoder,
        plda=None if start is None else start.plda,
        embedded=embedded,
        is_probing=config.tuning != "finetune",
        is_tuning=config.tuning != "probe",
        has_class_averages=config.class_averages == "auto" and encoder is not None and encoder.recenters,
        has_pseudo_labels=needs_pseudo_labels(
            config.pseudo_labels, data, labeled, embedded, is_pretrained=start is not None
        ),
        fine_tuning=FineTuning(
            config.training, config.views, low_rate, head_rate, config.evaluate_every, config.patience
        ),
        seed=seed,
        progress=progress,
    )


def _count_rarest(labeled: Subtomograms) -> int:
    counts = np.bincount(labeled.label, minlength=len(labeled.class_names))
    if (counts > 0).sum() < 2:
        raise ValueError(
            f"labels name {(counts > 0).sum()} classes, expected at least 2; label a few particles of every class"
        )
    return int(counts[counts > 0].min())
