"""Supervised training on few labels: fine-tuning of a pretrained encoder, or training from scratch.

Source: Gupta et al. 2022, Front. Physiol. 13:957484, fine-tunes the whole network from pretrained weights ("finetune"
here). Starting from a fitted probe at a gentle rate ("probe-then-finetune") follows Kumar et al. 2022, "Fine-tuning can
distort pretrained features and underperform out-of-distribution"; for what unlabeled particles add see
`tomosift.learning.label_propagation`. The combination and all default values are ours.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax
from torch import Tensor, nn
from torch.nn import functional

from tomosift.averaging.class_averages import prepare_alignment
from tomosift.averaging.multireference_alignment import (
    LOWER_ACCURACY,
    MAX_CALIBRATION_PARTICLES,
    AlignmentResult,
    lower_accuracy,
    refine_labels,
)
from tomosift.data.batches import BalancedStream, Batch
from tomosift.data.labels import find_rows, is_member, spaced_rows_with, with_pseudo_labels
from tomosift.data.splits import split_held_out
from tomosift.data.subtomograms import Subtomograms
from tomosift.data.training_sets import TrainingSets
from tomosift.inference.class_average_classifier import attach_class_averages
from tomosift.inference.classifier import Classifier, ModelCard, load_classifier, shipped_decoder, starting_encoder
from tomosift.inference.heads import LinearHead
from tomosift.inference.prediction import embed, predict
from tomosift.learning.calibration import fit_temperature, fit_temperature_few_labels, negative_log_likelihood
from tomosift.learning.label_propagation import assign_pseudo_labels, labels_suffice, out_of_fold_logits
from tomosift.learning.linear_probe import fit_linear_probe, leave_one_out_logits
from tomosift.learning.plda import PLDA
from tomosift.models.augmented_views import augment_recentered
from tomosift.models.encoder import BOXES_TO_PREPARE
from tomosift.models.recentering import CenterCache
from tomosift.physics.augmentation import ViewRanges
from tomosift.train.loop import Progress, Training, Validation, fit
from tomosift.train.run import Run

Tuning = Literal["auto", "finetune", "probe-then-finetune", "probe"]
Spread = Literal["auto", "always", "never"]

_MOST_TO_LOOK_AT = 1000
"""Unlabeled particles that calibration and similarity are taken from."""
_MOST_TO_SPREAD_OVER = 5000
"""Unlabeled particles over which labels are spread; the graph of more would cost minutes and teach little."""
_MOST_TO_STANDARDIZE = 500
"""Labeled particles that give means and deviations while training goes on; at its end all do."""
_LABELS_TO_SPLIT = 8
"""Labels per class from which a fifth can be spared in a rehearsal."""
_LABELS_TO_SPREAD = 20
"""Labels per class from which labeled particles alone teach as much."""
USES_LABELS = True
SHARES_BATCHES = True


@dataclass(frozen=True)
class Config:
    """Settings of supervised training."""

    init: Path | None = None
    """Run whose encoder to start from; none trains from scratch."""
    encoder: str = "radial"
    """Encoder to train from scratch; with `init`, the encoder of that run is taken."""
    tuning: Tuning = "auto"
    """Whole network at once; from a fitted probe at a gentle rate; frozen probe; auto: the second, from scratch the
    first."""
    spread: Spread = "auto"
    """Let the labels spread over unlabeled particles of the same set first, and learn from those too on which this
    agrees with the labeled ones alone; auto: from a pretrained encoder, with fewer than 20 labels per class, unless
    the others surely name most of them right."""
    averages: Literal["auto", "never"] = "auto"
    """Turn the particles of each class onto each other, name unlabeled ones by how their averages fit as well, and
    keep the averages for those that are classified later; auto: from a pretrained encoder."""
    encoder_rate: float = 0.3
    """Learning rate of a pretrained encoder, as a share of that of the head."""
    min_confidence: float = 0.0
    """Answer "unknown" where the best probability is lower."""
    min_similarity: float = -1.0
    """Answer "unknown" where a particle looks less like any labeled one than this, -1 to 1."""
    evaluate_every: int = 20
    """Steps between looks at the validation part."""
    patience: int = 5
    """Looks without improvement after which training stops."""
    views: ViewRanges = field(default_factory=ViewRanges)
    """Augmentation of the labeled boxes."""
    training: Training = field(default_factory=lambda: Training(steps=200, batch_size=32))
    """How long and how fast."""


class Learner(nn.Module):
    """Cross-entropy of augmented labeled boxes."""

    def __init__(self, classifier: Classifier, views: ViewRanges) -> None:
        super().__init__()
        self.classifier, self.views, self.centers = classifier, views, CenterCache()

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        spacing = self.classifier.card.voxel_spacing_angstrom
        encoder, boxes = self.classifier.encoder, (batch.volume, batch.index, batch.tilt_range_deg)
        seen = augment_recentered(encoder, *boxes, self.views, spacing, generator, self.centers)
        logits = self.classifier(seen, True).float()
        accuracy = (logits.argmax(1) == batch.label).float().mean()
        return {"loss": functional.cross_entropy(logits, batch.label), "accuracy": accuracy}


def train(config: Config, data: TrainingSets, run: Run, seed: int, progress: Progress | None = None) -> Classifier:
    """A calibrated classifier from ``data.labeled``.

    Training stops early on ``data.validation``. Where that holds no labels but every class has enough of them, a
    rehearsal without a fifth of the labeled particles says how many steps are good and, unless labels spread, how far
    to trust the logits; the classifier then learns from all of them.

    Raises
    ------
    ValueError
        When fewer than two classes are labeled, or the encoder was trained at another voxel spacing.
    """
    labeled = data.labeled.select(data.labeled.labeled_rows)
    counts = np.bincount(labeled.label, minlength=len(data.class_names))
    if (counts > 0).sum() < 2:
        raise ValueError(
            f"labels name {(counts > 0).sum()} classes, expected at least 2; label a few particles of every class"
        )
    rarest = int(counts[counts > 0].min())
    tuning = _resolve(config)
    held_out = data.validation.select(data.validation.labeled_rows)
    run.log(event="labels", tuning=tuning, training=len(labeled), validation=len(held_out), rarest_class=rarest)
    spreads = _is_to_spread(config, data, labeled, rarest)
    lesson = _Lesson(config, data, tuning, spreads, seed, progress, _directions(config) if spreads else None)
    if len(held_out) or tuning == "probe" or rarest < _LABELS_TO_SPLIT:
        classifier, _ = _taught(lesson, labeled, held_out, run)
        return classifier
    most, fifth = split_held_out(labeled, seed)
    rehearsed, steps = _taught(replace(lesson, is_rehearsal=True), most, fifth, run.within("rehearsal"))
    run.log(event="rehearsed", steps=steps, temperature=rehearsed.card.temperature)
    classifier, _ = _taught(replace(lesson, last_step=steps), labeled, held_out, run)
    if not lesson.spreads:  # otherwise folds of all labels calibrate better than a fifth of them
        classifier.card = replace(classifier.card, temperature=rehearsed.card.temperature)
    return classifier


@dataclass(frozen=True)
class _Lesson:
    config: Config
    data: TrainingSets
    tuning: Tuning
    spreads: bool
    seed: int
    progress: Progress | None
    directions: PLDA | None = None
    """Of the model to start from, by which unlabeled particles are compared with labeled ones."""
    is_rehearsal: bool = False
    last_step: int | None = None
    """What a rehearsal found good."""


def _taught(lesson: _Lesson, labeled: Subtomograms, held_out: Subtomograms, run: Run) -> tuple[Classifier, int]:
    """A classifier from these labels, stopped early and calibrated on those held out, and the steps it took."""
    config, data, tuning = lesson.config, lesson.data, lesson.tuning
    torch.manual_seed(lesson.seed)  # the same start for a rehearsal, for what follows it, and for a resumed run
    classifier = _starting_classifier(config, data)
    head = classifier.head
    assert isinstance(head, LinearHead)
    embeddings = _standardize(classifier, labeled)
    classes, nothing = len(data.class_names), np.zeros((0, len(data.class_names)))
    told, boxes, crossed = labeled, labeled, nothing
    compares = config.averages == "auto" and config.init is not None and classifier.encoder.centers
    compares &= not lesson.is_rehearsal
    said: AlignmentResult | None = None
    spare = not len(held_out) and (lesson.last_step is None or lesson.spreads)
    if lesson.spreads:
        boxes = data.unlabeled.select(spaced_rows_with(told, data.unlabeled, held_out, _MOST_TO_SPREAD_OVER))
        asked = embed(classifier.encoder, boxes.volumes, len(boxes))
        label = assign_pseudo_labels(embeddings, told.label, asked, classes, lesson.directions)
        run.log(event="spread", particles=len(boxes), agreed=int((label >= 0).sum()))
        if spare:
            crossed = out_of_fold_logits(embeddings, told.label, asked, classes, lesson.directions)
        if compares:
            probe = fit_linear_probe(asked[label >= 0], label[label >= 0], classes)
            said = _averages(lesson, classifier, boxes, told, label, log_softmax(probe.logits(asked), axis=1), crossed)
            label, compares = (label, False) if said is None else (said.label, True)
            if said is None:
                run.log(event=f"no averages: {LOWER_ACCURACY}")
        labeled, rows = with_pseudo_labels(boxes, label, told)
        embeddings = asked[rows]
        head.standardize(torch.from_numpy(embeddings))
    elif spare or (compares and not len(held_out)):
        crossed = leave_one_out_logits(embeddings, told.label, classes)
    if compares and said is None:
        said = _averages(lesson, classifier, told, told, told.label, np.zeros((len(told), classes)), nothing)
    if tuning != "finetune":
        head.load_probe(fit_linear_probe(embeddings, labeled.label, classes))
    steps = 0
    if tuning != "probe":
        rate = config.training.learning_rate
        gentle = rate if config.init is None else rate * config.encoder_rate
        groups = [
            {"params": list(classifier.encoder.parameters()), "lr": gentle},
            {"params": list(head.parameters()), "lr": rate if tuning == "finetune" else gentle},
        ]
        steps = fit(
            Learner(classifier, config.views),
            BalancedStream(labeled, config.training.batch_size, lesson.seed),
            config.training,
            run,
            lesson.seed,
            validation=_validation(config, classifier, labeled, held_out) if len(held_out) else None,
            parameter_groups=groups,
            last_step=lesson.last_step,
            progress=lesson.progress,
        )
        _standardize(classifier, labeled)
    # What a rehearsal leads to is a number of steps and a temperature, for which held-out labels are enough.
    logits = nothing if lesson.is_rehearsal else _look_around(classifier, data, told)
    frozen = tuning == "probe" and labeled is told
    if len(held_out):
        seen = predict(classifier, held_out.volumes, len(held_out)).logits
        temperature: float | None = fit_temperature(seen, held_out.label)
    else:
        temperature = fit_temperature_few_labels(crossed if spare else nothing, told.label, None if frozen else logits)
    if spare or len(held_out):
        run.log(event="calibrated" if temperature else "not calibrated: no labels to spare", temperature=temperature)
    classifier.card = replace(classifier.card, temperature=temperature or 1.0)
    if said is not None:
        why = _keep_averages(classifier, said, boxes, data, told, held_out, crossed)
        run.log(event=f"no averages: {why}" if why else "averages", **said.summary)
    return classifier.eval(), steps


def _averages(
    lesson: _Lesson,
    classifier: Classifier,
    boxes: Subtomograms,
    told: Subtomograms,
    label: NDArray[np.int64],
    log_probability: NDArray[np.float64],
    crossed: NDArray[np.float64],
) -> AlignmentResult | None:
    """Averages of the classes of these boxes, and what they say of those whose class was not told.

    None where they name fewer particles right than embeddings do, as far as ``crossed`` logits tell.
    """
    progress = lesson.progress
    done = None if progress is None else lambda k, total: progress(k, total, {"averages": float(k)})
    seen = prepare_alignment(boxes.volumes, boxes.tilt_range_deg, classifier.encoder)
    given = (label, is_member(boxes, told), log_probability, shipped_decoder())
    said = refine_labels(boxes.volumes, boxes.tilt_range_deg, seen, *given, done)
    row = find_rows(told, boxes)[: len(crossed)]
    asked = said.is_spared[row]
    mine, known = seen.spectra.select(torch.from_numpy(row[asked])), log_softmax(crossed[asked], axis=1)
    return None if lower_accuracy(said.averages, mine, told.label[: len(crossed)][asked], known) else said


def _keep_averages(
    classifier: Classifier,
    said: AlignmentResult,
    boxes: Subtomograms,
    data: TrainingSets,
    told: Subtomograms,
    held_out: Subtomograms,
    crossed: NDArray[np.float64],
) -> str:
    """Keep averages, to be trusted as far as held-out labels say, or else those of particles that they were not of."""
    around = data.unlabeled if len(data.unlabeled) else told
    asked, logits = held_out, predict(classifier, held_out.volumes, len(held_out)).logits
    if not len(held_out):
        is_spared = is_member(told, boxes.select(np.flatnonzero(said.is_spared)))
        asked, logits = told.select(np.flatnonzero(is_spared)), crossed[is_spared[: len(crossed)]]
    known = log_softmax(logits, axis=1) if len(logits) else None
    some = around.select(around.spaced_rows(MAX_CALIBRATION_PARTICLES))
    return attach_class_averages(classifier, said.averages, some, asked, asked.label, known)


def _resolve(config: Config) -> Tuning:
    if config.tuning != "auto":
        return config.tuning
    # With one and with five labels per class this was ahead of the frozen probe; see experiments/LOG.md.
    return "finetune" if config.init is None else "probe-then-finetune"


def _is_to_spread(config: Config, data: TrainingSets, labeled: Subtomograms, rarest: int) -> bool:
    """Whether unlabeled particles teach as well: decided once, for a rehearsal and for what follows it."""
    if config.spread == "never":
        return False
    # Labeled particles must be among those that are learned from.
    if not is_member(labeled, data.unlabeled).all():
        if config.spread == "always":
            raise ValueError(
                "labels spread within one set, but some labeled particles are not among the unlabeled ones"
            )
        return False
    if config.spread == "always":
        return True
    if config.init is None or rarest >= _LABELS_TO_SPREAD:
        return False
    embeddings = embed(_starting_classifier(config, data).encoder, labeled.volumes, len(labeled))
    return not labels_suffice(embeddings, labeled.label, len(data.class_names))


def _directions(config: Config) -> PLDA | None:
    return None if config.init is None else load_classifier(config.init).plda


def _starting_classifier(config: Config, data: TrainingSets) -> Classifier:
    boxes = data.unlabeled if len(data.unlabeled) else data.labeled
    plain = torch.from_numpy(boxes.volumes(boxes.spaced_rows(BOXES_TO_PREPARE)))
    name, encoder = starting_encoder(config.init, config.encoder, plain, data.voxel_spacing_angstrom)
    card = ModelCard(
        name,
        data.voxel_spacing_angstrom,
        data.box_size,
        class_names=data.class_names,
        min_confidence=config.min_confidence,
        min_similarity=config.min_similarity,
    )
    return Classifier(encoder, card)


def _standardize(classifier: Classifier, labeled: Subtomograms) -> NDArray[np.float32]:
    """Give the head the statistics of the plain labeled boxes under the encoder as it is now; returns embeddings."""
    embeddings = embed(classifier.encoder, labeled.volumes, len(labeled))
    assert isinstance(classifier.head, LinearHead)
    classifier.head.standardize(torch.from_numpy(embeddings))
    return embeddings


def _validation(config: Config, classifier: Classifier, labeled: Subtomograms, held_out: Subtomograms) -> Validation:
    some = labeled.select(labeled.spaced_rows(_MOST_TO_STANDARDIZE))

    def score() -> float:
        _standardize(classifier, some)
        # Likelihood, not accuracy: a few dozen particles make accuracy a staircase.
        logits = predict(classifier, held_out.volumes, len(held_out)).logits
        return -negative_log_likelihood(logits, held_out.label)

    return Validation(score, config.evaluate_every, config.patience)


def _look_around(classifier: Classifier, data: TrainingSets, labeled: Subtomograms) -> NDArray[np.float64]:
    """Let the model remember what labeled particles are like among all others; returns the logits of unlabeled ones."""
    boxes = data.unlabeled if len(data.unlabeled) else labeled
    some = boxes.select(boxes.spaced_rows(_MOST_TO_LOOK_AT))
    others, known = (predict(classifier, part.volumes, len(part)) for part in (some, labeled))
    assert classifier.similarity is not None
    classifier.similarity.remember(
        torch.from_numpy(others.embeddings), torch.from_numpy(known.embeddings), torch.from_numpy(labeled.label)
    )
    return others.logits[: len(data.unlabeled)]
