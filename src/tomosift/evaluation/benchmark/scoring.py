"""Scores of one cell: of a prediction for the test particles, or of a model in episodes."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int

from tomosift.evaluation.benchmark.entry import EntryResult
from tomosift.evaluation.benchmark.task import BenchmarkTask
from tomosift.evaluation.metrics.calibration import measure_calibration
from tomosift.evaluation.metrics.classification import score
from tomosift.evaluation.metrics.few_shot import score_episodes
from tomosift.inference.classifier import Classifier, fit_embedder
from tomosift.inference.heads import CosineHead, PrototypeHead
from tomosift.inference.prediction import embed


@dataclass(frozen=True)
class CellScores:
    """The measured fields of a `Row`."""

    accuracy: float
    macro_f1: float
    calibration_error: float | None = None
    unknown_auroc: float | None = None
    macro_precision: float | None = None
    half_width: float | None = None


def score_prediction(result: EntryResult | Classifier, task: BenchmarkTask) -> CellScores:
    """Score the prediction of an entry for the test particles.

    Raises
    ------
    TypeError
        The entry returned a model instead of a prediction.
    """
    if not isinstance(result, EntryResult):
        raise TypeError("the entry returned a model, expected an EntryResult; make its kind few-shot")
    test, predicted = task.data.test, result.probabilities.argmax(axis=1)
    scores = score(test.label, predicted, test.class_names, test.particles.tomogram, task.seed, resamples=1)
    return CellScores(
        accuracy=round(scores.accuracy.value, 4),
        macro_f1=round(scores.macro_f1.value, 4),
        calibration_error=round(measure_calibration(result.probabilities, test.label).expected_error, 4),
        unknown_auroc=_measure_unknown_auroc(result, test.label),
    )


def score_few_shot(result: EntryResult | Classifier, task: BenchmarkTask, shots: int) -> CellScores:
    """Score a model in episodes of the test particles.

    Embeddings are compared by the head of the model if that is a prototype head, and by cosine otherwise.

    Raises
    ------
    TypeError
        The entry returned a prediction instead of a model.
    """
    if not isinstance(result, Classifier):
        raise TypeError("the entry returned a prediction, expected a Classifier; its kind is few-shot")
    test = task.data.test
    embeddings = embed(fit_embedder(result.encoder, test), test)
    head = result.head if isinstance(result.head, PrototypeHead) else CosineHead(embeddings.shape[1], 0)
    head.standardize(torch.from_numpy(embeddings))
    scores = score_episodes(embeddings, test.label, head, ways=task.protocol.ways, shots=shots, seed=task.seed)
    return CellScores(
        accuracy=round(scores.accuracy.value, 4),
        macro_f1=round(scores.macro_f1.value, 4),
        macro_precision=round(scores.macro_precision.value, 4),
        half_width=round(scores.accuracy.half_width, 4),
    )


def _measure_unknown_auroc(result: EntryResult, label: Int[np.ndarray, " n"]) -> float | None:
    """Return how well similarity (without it, confidence) separates particles of the classes from those of none."""
    if (label >= 0).all() or (label < 0).all():
        return None
    from sklearn.metrics import roc_auc_score

    similarity = result.probabilities.max(axis=1) if result.similarity is None else result.similarity
    return round(float(roc_auc_score(label >= 0, similarity)), 4)
