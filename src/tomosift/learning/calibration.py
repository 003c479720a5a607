"""Calibration: a softmax whose temperature is fitted so that confidence equals accuracy."""

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax as _log_softmax

TEMPERATURE_RANGE = (0.05, 500.0)
"""Lowest and highest temperature; high ones occur where wrong class averages fit particles of high SNR well."""


def softmax(logits: Float[np.ndarray, "n k"], temperature: float = 1.0) -> Float[np.ndarray, "n k"]:
    """Return the probabilities of ``logits / temperature``; rows sum to one.

    Raises
    ------
    ValueError
        The temperature is not positive.

    Examples
    --------
    >>> import numpy as np
    >>> softmax(np.array([[0.0, np.log(3)]])).round(2).tolist()
    [[0.25, 0.75]]
    """
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}, expected a positive number")
    log_probabilities = _log_softmax(np.asarray(logits, dtype=np.float64) / temperature, axis=1)
    return np.asarray(np.exp(log_probabilities))


def negative_log_likelihood(
    logits: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"], temperature: float = 1.0
) -> float:
    """Return the mean of ``-log p(label)`` in nats; rows with label -1 do not count.

    Raises
    ------
    ValueError
        No row has a label, or a label names no column of ``logits``.
    """
    known = labels >= 0
    if not known.any():
        raise ValueError("no particle has a label; the likelihood needs at least one")
    if labels.max() >= logits.shape[1]:
        raise ValueError(f"label {labels.max()} has no logit: there are {logits.shape[1]} classes, counted from 0")
    scaled = np.asarray(logits[known], dtype=np.float64) / temperature
    return -float(_log_softmax(scaled, axis=1)[np.arange(len(scaled)), labels[known]].mean())


def match_temperature_to_accuracy(logits: Float[np.ndarray, "n k"], accuracy: float) -> float:
    """Return the temperature at which the mean confidence equals an accuracy that was estimated elsewhere.

    For models that were trained on every label: their confidence is that on unlabeled particles, and their accuracy
    comes from cross-validation.

    Parameters
    ----------
    logits
        Of n particles of any class.
    accuracy
        Expected share of them that are classified right. One that no temperature reaches gives the end of
        `TEMPERATURE_RANGE`.

    Raises
    ------
    ValueError
        There is no particle.

    Notes
    -----
    Source: ours; the condition is that of a calibrated model, whose mean confidence is its accuracy.
    """
    if not len(logits):
        raise ValueError("there is no particle to calibrate on; give at least one")
    low, high = (float(np.log(end)) for end in TEMPERATURE_RANGE)
    for _ in range(40):  # mean confidence falls with temperature
        center = (low + high) / 2
        is_overconfident = softmax(logits, float(np.exp(center))).max(axis=1).mean() > accuracy
        low, high = (center, high) if is_overconfident else (low, center)
    return float(np.exp((low + high) / 2))


def fit_temperature(logits: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"]) -> float:
    """Fit the temperature T for which ``softmax(logits / T)`` explains the labels of held-out particles best.

    It never changes which class is the most probable.

    Parameters
    ----------
    logits
        Of n particles that took no part in training.
    labels
        Their classes; rows with label -1 do not count.

    Raises
    ------
    ValueError
        No row has a label, or a label names no column of ``logits``.

    Notes
    -----
    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2. Deviation: a prior, log T normal
    around 0 with deviation 1, weighs as much as one particle. Without it, a handful of particles that are all
    classified right would drive T to 0 and every confidence to 1. With a hundred particles its effect vanishes.

    Examples
    --------
    >>> import numpy as np
    >>> fit_temperature(np.eye(3) * 4, np.arange(3)) < 1
    True
    """
    count = int((labels >= 0).sum())

    def loss(log_temperature: float) -> float:
        likelihood = negative_log_likelihood(logits, labels, float(np.exp(log_temperature)))
        return likelihood + 0.5 * log_temperature**2 / max(count, 1)

    # The prior can add a second minimum, so a coarse scan finds the right one before it is refined.
    grid = np.linspace(np.log(TEMPERATURE_RANGE[0]), np.log(TEMPERATURE_RANGE[1]), 49)
    best = int(np.argmin([loss(float(value)) for value in grid]))
    bounds = (float(grid[max(best - 1, 0)]), float(grid[min(best + 1, len(grid) - 1)]))
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-5}).x))


def laplace_accuracy(scores: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"]) -> float:
    """Estimate an accuracy by Laplace's rule, which stays below 1 where all of a few labels are predicted right.

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
        Out-of-fold logits of the labeled particles (n = p), or of none (n = 0).
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
