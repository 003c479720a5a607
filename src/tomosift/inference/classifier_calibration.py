"""Last stage of a training with labels: similarity to labeled classes, and a calibrated temperature."""

import numpy as np
import torch
from jaxtyping import Float

from tomosift.data.batches import Batch
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.inference.classifier import Classifier
from tomosift.inference.heads import LinearHead
from tomosift.inference.prediction import embed, embed_volumes, predict_by_embeddings
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
        None where no label is available for it.
    """
    if len(held_out):
        return fit_temperature(predict_by_embeddings(classifier, held_out).logits, held_out.label)
    out_of_fold = examples.out_of_fold[:0] if has_estimate else examples.out_of_fold
    return fit_temperature_few_labels(out_of_fold, examples.labeled.label, None if is_frozen else unlabeled_logits)


def calibrate_across_domains(
    classifier: Classifier, source: Batch, target: Subtomograms, is_standardized_by_target: bool
) -> Classifier:
    """Calibrate a classifier on labeled subtomograms of one domain, for unlabeled ones of another domain.

    The similarity is fitted in place. The temperature is that of the source: without labels of the target, nothing
    shows how well probabilities are calibrated there.

    Parameters
    ----------
    classifier
        Trained, with a linear head.
    source
        Labeled subtomograms.
    target
        Unlabeled subtomograms; at most 1000 are embedded.
    is_standardized_by_target
        Standardize embeddings by the statistics of the target in the end, instead of those of the source.

    Returns
    -------
    Classifier
        The same model with the temperature.
    """
    head, similarity, volume = classifier.head, classifier.similarity, source.volume.numpy()
    assert isinstance(head, LinearHead)
    assert similarity is not None
    target_embeddings = embed(classifier.embedder, target.select(target.spaced_rows(_MAX_BACKGROUND)))
    source_embeddings = embed_volumes(classifier.embedder, lambda rows: volume[rows], len(volume))
    head.standardize(torch.from_numpy(source_embeddings))
    with torch.inference_mode():
        logits = head(torch.from_numpy(source_embeddings)).double().numpy()
    if is_standardized_by_target:
        head.standardize(torch.from_numpy(target_embeddings))
    similarity.fit(torch.from_numpy(target_embeddings), torch.from_numpy(source_embeddings), source.label)
    return classifier.replace_card(temperature=fit_temperature(logits, source.label.numpy()))
