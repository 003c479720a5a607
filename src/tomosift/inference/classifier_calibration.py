"""Last stage of supervised training: similarity to labeled classes, and a calibrated temperature."""

import numpy as np
import torch
from jaxtyping import Float

from tomosift.data.subtomogram_set import Subtomograms
from tomosift.inference.classifier import Classifier
from tomosift.inference.prediction import predict_by_embeddings
from tomosift.inference.training_examples import TrainingExamples
from tomosift.learning.calibration import fit_temperature, fit_temperature_few_labels

_MAX_BACKGROUND = 1000
"""Unlabeled particles to which similarity and temperature are fitted."""


def fit_similarity(classifier: Classifier, unlabeled: Subtomograms, labeled: Subtomograms) -> Float[np.ndarray, "m k"]:
    """Fit the similarity score of a classifier to its labeled particles among unlabeled ones.

    Returns
    -------
    logits
        Of m unlabeled particles; m = 0 where there are none and the labeled ones stand in.
    """
    background = unlabeled if len(unlabeled) else labeled
    some = background.select(background.spaced_rows(_MAX_BACKGROUND))
    others, known = (predict_by_embeddings(classifier, part) for part in (some, labeled))
    assert classifier.similarity is not None
    classifier.similarity.fit(
        torch.from_numpy(others.embeddings), torch.from_numpy(known.embeddings), torch.from_numpy(labeled.label)
    )
    return others.logits[: len(unlabeled)]


def estimate_temperature(
    classifier: Classifier,
    examples: TrainingExamples,
    held_out: Subtomograms,
    unlabeled_logits: Float[np.ndarray, "m k"],
    is_frozen: bool,
    has_estimate: bool,
) -> float | None:
    """Estimate the temperature at which the probabilities of a classifier are calibrated.

    Parameters
    ----------
    classifier
        Trained.
    examples
        Its training examples, with out-of-fold logits if the estimate is to come from these.
    held_out
        Labeled particles that took no part in the training; the best source if there are any.
    unlabeled_logits
        From `fit_similarity`.
    is_frozen
        The classifier is a probe of labeled particles on a frozen encoder, whose out-of-fold logits are its own.
    has_estimate
        The caller has an estimate already; without held-out particles None is returned.

    Returns
    -------
    float or None
        None where no label can be spared for it.
    """
    if len(held_out):
        return fit_temperature(predict_by_embeddings(classifier, held_out).logits, held_out.label)
    out_of_fold = examples.out_of_fold[:0] if has_estimate else examples.out_of_fold
    return fit_temperature_few_labels(out_of_fold, examples.labeled.label, None if is_frozen else unlabeled_logits)
