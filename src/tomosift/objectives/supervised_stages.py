"""The stages of supervised training: examples, probe, fine-tuning, calibration and class averages."""

import copy
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from tomosift.averaging.multireference_alignment import LOWER_ACCURACY
from tomosift.data.labels import find_rows, is_member
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.data.training_sets import TrainingSets
from tomosift.inference.classifier import Classifier, ModelCard, fit_embedder
from tomosift.inference.classifier_calibration import estimate_temperature, fit_similarity
from tomosift.inference.heads import LinearHead
from tomosift.inference.training_examples import (
    EmbeddedSet,
    TrainingExamples,
    add_pseudo_labels,
    attach_averages_of,
    use_labels,
)
from tomosift.learning.linear_probe import fit_linear_probe
from tomosift.learning.plda import PLDA
from tomosift.learning.pseudo_labels import labels_suffice
from tomosift.models.embedder import Embedder
from tomosift.models.encoder import Encoder
from tomosift.models.encoders import build_encoder
from tomosift.objectives.supervised import FineTuning, fine_tune
from tomosift.progress import Progress, ignore_progress
from tomosift.train.run import Run

PseudoLabels = Literal["auto", "always", "never"]

_LABELS_WITHOUT_PSEUDO = 20
"""Labels per class from which labeled particles alone teach as much."""


@dataclass(frozen=True, eq=False)
class SupervisedPlan:
    """What is decided before the first step, the same for a training that selects the number of steps."""

    data: TrainingSets
    card: ModelCard
    """Of the classifier to be trained."""
    start: Encoder | None
    """Pretrained encoder; None trains from scratch."""
    plda: PLDA | None
    """Of the model to start from."""
    embedded: EmbeddedSet
    """Embeddings by the starting weights."""
    is_probing: bool
    """Whether the head starts from a fitted probe."""
    is_tuning: bool
    """Whether encoder and head are trained; otherwise the probe is the result."""
    has_class_averages: bool
    has_pseudo_labels: bool
    fine_tuning: FineTuning
    seed: int
    progress: Progress | None = None
    is_selection: bool = False
    """Whether only the number of steps and the temperature are of interest."""

    def build_classifier(self) -> Classifier:
        """Build a classifier with the starting weights, the same at every call."""
        torch.manual_seed(self.seed)
        encoder = build_encoder(self.card.encoder) if self.start is None else copy.deepcopy(self.start)
        return Classifier(Embedder(encoder, self.embedded.embedder.recentering), self.card)


def embed_by_start(
    data: TrainingSets, labeled: Subtomograms, start: Encoder | None, name: str, seed: int
) -> EmbeddedSet:
    """Embeddings by the starting weights, of the unlabeled set if the labeled particles are members, else of these."""
    if start is None:
        torch.manual_seed(seed)
    encoder = build_encoder(name) if start is None else start
    background = data.unlabeled if len(data.unlabeled) else data.labeled
    embedder = fit_embedder(encoder.eval(), background)
    return EmbeddedSet(embedder, data.unlabeled if is_member(labeled, data.unlabeled).all() else labeled)


def needs_pseudo_labels(
    mode: PseudoLabels, data: TrainingSets, labeled: Subtomograms, embedded: EmbeddedSet, is_pretrained: bool
) -> bool:
    """Decide whether pseudo-labels are assigned to unlabeled particles.

    Raises
    ------
    ValueError
        They always should, but labeled particles are not members of the unlabeled set.
    """
    if mode == "never":
        return False
    if not is_member(labeled, data.unlabeled).all():
        if mode == "always":
            raise ValueError(
                "pseudo-labels are assigned within one set, but some labeled particles are not among the unlabeled ones"
            )
        return False
    if mode == "always":
        return True
    counts = np.bincount(labeled.label)
    if not is_pretrained or counts[counts > 0].min() >= _LABELS_WITHOUT_PSEUDO:
        return False
    embeddings = embedded.embed(find_rows(labeled, embedded.subtomograms))
    return not labels_suffice(embeddings, labeled.label, len(data.class_names))


def train_once(plan: SupervisedPlan, labeled: Subtomograms, held_out: Subtomograms, run: Run) -> tuple[Classifier, int]:
    """Train a classifier from labels, stopped early and calibrated on those held out.

    Returns
    -------
    classifier
        Ready to evaluate.
    steps
        Number of fine-tuning steps behind its weights.
    """
    classifier = plan.build_classifier()
    # Out-of-fold logits calibrate where nothing is held out and no earlier training has calibrated.
    is_calibrating = not len(held_out) and (plan.fine_tuning.last_step is None or plan.has_pseudo_labels)
    examples = collect_examples(plan, labeled, held_out, run, is_calibrating)
    fit_head(plan, classifier, examples)
    steps = 0
    if plan.is_tuning:
        settings = plan.fine_tuning
        steps = fine_tune(classifier, examples.subtomograms, held_out, settings, run, plan.seed, plan.progress)
    classifier = calibrate(plan, classifier, examples, held_out, run, is_calibrating)
    return attach_averages(plan, classifier, examples, held_out, run).eval(), steps


def collect_examples(
    plan: SupervisedPlan, labeled: Subtomograms, held_out: Subtomograms, run: Run, is_calibrating: bool
) -> TrainingExamples:
    """Stage 1: labeled particles, pseudo-labels of unlabeled ones, and class averages that refine them."""
    is_averaging = plan.has_class_averages and not plan.is_selection
    progress = _alignment_progress(plan.progress)
    if plan.has_pseudo_labels:
        examples = add_pseudo_labels(
            labeled, plan.embedded, held_out, plan.plda, is_averaging, is_calibrating, progress
        )
        run.log(event="pseudo_labels", particles=examples.pool_size, assigned=examples.pseudo_labeled)
        if is_averaging and examples.alignment is None:
            run.log(event="class_averages", attached=False, reason=LOWER_ACCURACY)
        return examples
    embeddings = plan.embedded.embed(find_rows(labeled, plan.embedded.subtomograms))
    needs_out_of_fold = is_calibrating or (is_averaging and not len(held_out))
    return use_labels(
        labeled, embeddings, plan.embedded.embedder if is_averaging else None, needs_out_of_fold, progress
    )


def fit_head(plan: SupervisedPlan, classifier: Classifier, examples: TrainingExamples) -> None:
    """Stage 2: standardize the head and, unless the whole network starts at once, load a fitted probe into it."""
    head = classifier.head
    assert isinstance(head, LinearHead)
    head.standardize(torch.from_numpy(examples.embeddings))
    if plan.is_probing:
        classes = len(plan.card.class_names)
        head.load_probe(fit_linear_probe(examples.embeddings, examples.subtomograms.label, classes))


def calibrate(
    plan: SupervisedPlan,
    classifier: Classifier,
    examples: TrainingExamples,
    held_out: Subtomograms,
    run: Run,
    is_calibrating: bool,
) -> Classifier:
    """Stage 4: similarity to the labeled classes, and the temperature."""
    unlabeled_logits = np.zeros((0, len(plan.card.class_names)))
    if not plan.is_selection:
        unlabeled_logits = fit_similarity(classifier, plan.data.unlabeled, examples.labeled)
    is_frozen = not plan.is_tuning and not examples.has_pseudo_labels
    temperature = estimate_temperature(
        classifier, examples, held_out, unlabeled_logits, is_frozen, has_estimate=not is_calibrating
    )
    if is_calibrating or len(held_out):
        run.log(event="calibration", is_calibrated=temperature is not None, temperature=temperature)
    return classifier.replace_card(temperature=temperature or 1.0)


def attach_averages(
    plan: SupervisedPlan, classifier: Classifier, examples: TrainingExamples, held_out: Subtomograms, run: Run
) -> Classifier:
    """Stage 5: class averages of the examples, kept if they do not lower the accuracy."""
    if examples.alignment is None:
        return classifier
    attached = attach_averages_of(examples, classifier.eval(), plan.data.unlabeled, held_out)
    run.log(
        event="class_averages",
        attached=not attached.reason,
        **({"reason": attached.reason} if attached.reason else {}),
        **examples.alignment.summary,
    )
    return attached.classifier


def _alignment_progress(progress: Progress | None) -> Progress:
    if progress is None:
        return ignore_progress

    def report(done: int, total: int, note: str = "") -> None:
        progress(done, total, note or "class averages")

    return report
