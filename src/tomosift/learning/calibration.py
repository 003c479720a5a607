"""Calibration of probabilities: a softmax with one fitted temperature."""

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax as _log_softmax

TEMPERATURE_RANGE = (0.05, 500.0)
"""Temperatures that are considered; high ones where averages of the wrong particles fit clean boxes well."""


def softmax(logits: Float[np.ndarray, "n k"], temperature: float = 1.0) -> Float[np.ndarray, "n k"]:
    """Probabilities of ``logits / temperature``; rows sum to one.

    Raises
    ------
    ValueError
        When the temperature is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}, expected a positive number")
    log_probabilities = _log_softmax(np.asarray(logits, dtype=np.float64) / temperature, axis=1)
    return np.asarray(np.exp(log_probabilities))


def negative_log_likelihood(
    logits: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"], temperature: float = 1.0
) -> float:
    """Mean of ``-log p(label)`` in nats over the rows with a label; rows with label -1 do not count.

    Raises
    ------
    ValueError
        When no row has a label, or a label names no column of ``logits``.
    """
    known = labels >= 0
    if not known.any():
        raise ValueError("no particle has a label; the likelihood needs at least one")
    if labels.max() >= logits.shape[1]:
        raise ValueError(f"label {labels.max()} has no logit: there are {logits.shape[1]} classes, counted from 0")
    scaled = np.asarray(logits[known], dtype=np.float64) / temperature
    return -float(_log_softmax(scaled, axis=1)[np.arange(len(scaled)), labels[known]].mean())


def match_temperature_to_accuracy(logits: Float[np.ndarray, "n k"], accuracy: float) -> float:
    """The temperature at which the mean confidence over many particles equals an accuracy estimated elsewhere.

    For a model that was trained on every label there is: unlabeled particles say how sure it is, cross-validation how
    sure it should be. An accuracy that no temperature reaches gives the end of the range.

    Source: ours; the condition is that of a calibrated model, whose mean confidence is its accuracy.

    Raises
    ------
    ValueError
        When there is no particle.
    """
    if not len(logits):
        raise ValueError("there is no particle to calibrate on; give at least one")
    low, high = (float(np.log(end)) for end in TEMPERATURE_RANGE)
    for _ in range(40):  # mean confidence falls with temperature
        middle = (low + high) / 2
        surer = softmax(logits, float(np.exp(middle))).max(axis=1).mean() > accuracy
        low, high = (middle, high) if surer else (low, middle)
    return float(np.exp((low + high) / 2))


def fit_temperature(logits: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"]) -> float:
    """The temperature T for which ``softmax(logits / T)`` explains the labels of held-out particles best.

    Fit it on particles that took no part in training. It never changes which class wins. Rows with label -1 do not
    count.

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2. Deviation: a prior, log T normal
    around 0 with deviation 1, weighs as much as one particle. A handful of particles that happen to be all right would
    otherwise drive T to 0 and every confidence to 1; with a hundred particles the prior is no longer felt.

    Raises
    ------
    ValueError
        When no row has a label, or a label names no column of ``logits``.
    """
    count = int((labels >= 0).sum())

    def loss(log_temperature: float) -> float:
        likelihood = negative_log_likelihood(logits, labels, float(np.exp(log_temperature)))
        return likelihood + 0.5 * log_temperature**2 / max(count, 1)

    # The prior can make a second dip, so a coarse scan finds the right one before it is refined.
    grid = np.linspace(np.log(TEMPERATURE_RANGE[0]), np.log(TEMPERATURE_RANGE[1]), 49)
    best = int(np.argmin([loss(float(value)) for value in grid]))
    bounds = (float(grid[max(best - 1, 0)]), float(grid[min(best + 1, len(grid) - 1)]))
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-5}).x))


def laplace_accuracy(scores: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"]) -> float:
    """Estimate an accuracy by Laplace's rule: a few dozen labels that are all right do not make a particle certain.

    Parameters
    ----------
    scores
        Scores of k classes, the highest of which is the prediction.
    labels
        True classes of the n particles.
    """
    right = int((scores.argmax(axis=1) == labels).sum())
    return (right + 1) / (len(labels) + 2)


def fit_temperature_few_labels(
    out_of_fold: Float[np.ndarray, "n k"],
    labels: Int[np.ndarray, " p"],
    unlabeled_logits: Float[np.ndarray, "m k"] | None,
) -> float | None:
    """Fit the temperature where no labels can be held out.

    A frozen probe is calibrated on its out-of-fold logits. A fine-tuned network, or one that learned from
    pseudo-labels, has none of its own; its mean confidence on unlabeled particles is set to the out-of-fold accuracy of
    the probe.

    Parameters
    ----------
    out_of_fold
        Out-of-fold logits of the labeled particles, n = p, or none, n = 0.
    labels
        Their labels.
    unlabeled_logits
        Logits of unlabeled particles; None for a frozen probe.

    Returns
    -------
    float or None
        None where there is nothing to fit it to.
    """
    if not len(out_of_fold):
        return None
    if unlabeled_logits is None:
        return fit_temperature(out_of_fold, labels)
    if not len(unlabeled_logits):
        return None
    return match_temperature_to_accuracy(unlabeled_logits, laplace_accuracy(out_of_fold, labels))
