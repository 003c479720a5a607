"""Cross-entropy of augmented labeled subtomograms, and the fine-tuning of a classifier with it."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from tomosift.data.batches import BalancedStream, Batch
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.inference.classifier import Classifier
from tomosift.inference.heads import LinearHead
from tomosift.inference.prediction import embed, predict_by_embeddings
from tomosift.learning.calibration import negative_log_likelihood
from tomosift.models.augmented_views import augment_recentered
from tomosift.models.embedder import CenterCache
from tomosift.physics.augmentation import ViewRanges
from tomosift.progress import Progress
from tomosift.train.loop import Training, Validation, fit
from tomosift.train.run import Run

_MAX_STANDARDIZED = 500
"""Labeled particles whose embeddings standardize the head while training goes on; in the end all do."""


class ClassificationObjective(nn.Module):
    """Cross-entropy of augmented labeled subtomograms.

    Parameters
    ----------
    classifier
        With a trainable head.
    views
        Augmentation.
    """

    def __init__(self, classifier: Classifier, views: ViewRanges) -> None:
        super().__init__()
        self.classifier, self.views, self.centers = classifier, views, CenterCache()

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Loss and accuracy of a batch."""
        classifier = self.classifier
        views = augment_recentered(
            classifier.embedder,
            batch.volume,
            batch.index,
            batch.tilt_range_deg,
            self.views,
            classifier.card.voxel_spacing_angstrom,
            generator,
            self.centers,
        )
        logits = classifier.logits(classifier.encoder(views)).float()
        accuracy = (logits.argmax(1) == batch.label).float().mean()
        return {"loss": functional.cross_entropy(logits, batch.label), "accuracy": accuracy}


@dataclass(frozen=True)
class FineTuning:
    """How a classifier is fine-tuned."""

    training: Training
    views: ViewRanges
    encoder_rate: float
    """Learning rate of the encoder."""
    head_rate: float
    """Learning rate of the head."""
    evaluate_every: int
    """Steps between evaluations on held-out particles."""
    patience: int
    """Evaluations without improvement after which training stops."""
    last_step: int | None = None
    """End after this many steps, at learning rates as if all were to come."""


def standardize_head(classifier: Classifier, labeled: Subtomograms) -> None:
    """Standardize the head by the plain labeled subtomograms under the encoder as it is now."""
    assert isinstance(classifier.head, LinearHead)
    classifier.head.standardize(torch.from_numpy(embed(classifier.embedder, labeled)))


def fine_tune(
    classifier: Classifier,
    examples: Subtomograms,
    held_out: Subtomograms,
    settings: FineTuning,
    run: Run,
    seed: int,
    progress: Progress | None = None,
) -> int:
    """Train encoder and head in place on labeled subtomograms; return the number of steps behind the weights.

    Parameters
    ----------
    classifier
        To be trained.
    examples
        Labeled subtomograms; every class counts alike.
    held_out
        Labeled subtomograms that stop the training early; none, and all steps are taken.
    """
    assert classifier.head is not None
    groups = [
        {"params": list(classifier.encoder.parameters()), "lr": settings.encoder_rate},
        {"params": list(classifier.head.parameters()), "lr": settings.head_rate},
    ]
    steps = fit(
        ClassificationObjective(classifier, settings.views),
        BalancedStream(examples, settings.training.batch_size, seed),
        settings.training,
        run,
        seed,
        validation=_validation(classifier, examples, held_out, settings) if len(held_out) else None,
        parameter_groups=groups,
        last_step=settings.last_step,
        progress=progress,
    )
    standardize_head(classifier, examples)
    return steps


def _validation(
    classifier: Classifier, examples: Subtomograms, held_out: Subtomograms, settings: FineTuning
) -> Validation:
    some = examples.select(examples.spaced_rows(_MAX_STANDARDIZED))

    def score() -> float:
        standardize_head(classifier, some)
        # The likelihood, not the accuracy, which a few dozen particles make a staircase.
        return -negative_log_likelihood(predict_by_embeddings(classifier, held_out).logits, held_out.label)

    return Validation(score, settings.evaluate_every, settings.patience)
