"""Confidence against accuracy: calibration, and the accuracy above a threshold on the confidence."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from tomosift.evaluation.metrics.intervals import wilson_interval


@dataclass(frozen=True)
class Calibration:
    """Confidence against accuracy in bins of equal width; empty bins are left out."""

    expected_error: float
    """Mean over particles of |accuracy - confidence| of their bin."""
    confidence: Float[np.ndarray, " b"]
    accuracy: Float[np.ndarray, " b"]
    low: Float[np.ndarray, " b"]
    high: Float[np.ndarray, " b"]
    count: Int[np.ndarray, " b"]


@dataclass(frozen=True)
class SelectiveAccuracy:
    """Accuracy and share of the particles that are kept when those below a confidence are classified as unknown."""

    threshold: Float[np.ndarray, " m"]
    """Every confidence that occurs, descending. Particles at or above it are kept."""
    coverage: Float[np.ndarray, " m"]
    """Share of the particles that are kept."""
    accuracy: Float[np.ndarray, " m"]

    def threshold_for(self, accuracy: float) -> tuple[float, float] | None:
        """Return the threshold that keeps most particles at this accuracy or better, and its coverage.

        Returns
        -------
        tuple or None
            (threshold, coverage); None where no threshold reaches the accuracy.
        """
        reached = np.flatnonzero(self.accuracy >= accuracy)
        if reached.size == 0:
            return None
        return float(self.threshold[reached[-1]]), float(self.coverage[reached[-1]])


def measure_calibration(
    probabilities: Float[np.ndarray, "n k"], true_label: Int[np.ndarray, " n"], bins: int = 10
) -> Calibration:
    """Compute the expected calibration error and the reliability curve of the most probable class.

    Parameters
    ----------
    probabilities
        Rows sum to one.
    true_label
        Index of the true class, -1 where unknown; those particles are left out.
    bins
        Bins of equal width over the confidence, each with its Wilson interval.

    Raises
    ------
    ValueError
        No particle has a true label.

    Source: Naeini et al. 2015, AAAI, "Obtaining Well Calibrated Probabilities Using Bayesian Binning", for the error.
    """
    known = true_label >= 0
    if not known.any():
        raise ValueError("no particle has a true label; calibration needs at least one")
    confidence = probabilities[known].max(axis=1).astype(np.float64)
    right = (probabilities[known].argmax(axis=1) == true_label[known]).astype(float)
    # Right-closed bins, as in the source: a confidence of exactly 1 belongs to the last.
    which = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    count = np.bincount(which, minlength=bins)
    used = count > 0
    mean_confidence = np.bincount(which, confidence, bins)[used] / count[used]
    accuracy = np.bincount(which, right, bins)[used] / count[used]
    low, high = wilson_interval(accuracy, count[used])
    error = float((count[used] * np.abs(accuracy - mean_confidence)).sum() / count.sum())
    return Calibration(error, mean_confidence, accuracy, low, high, count[used])


def measure_selective_accuracy(
    probabilities: Float[np.ndarray, "n k"], true_label: Int[np.ndarray, " n"]
) -> SelectiveAccuracy:
    """Compute coverage and accuracy of the particles kept, for every threshold on the confidence.

    Raises
    ------
    ValueError
        No particle has a true label.

    Source: Geifman & El-Yaniv 2017, "Selective Classification for Deep Neural Networks" (softmax response).

    Examples
    --------
    >>> probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]])
    >>> measure_selective_accuracy(probabilities, np.array([0, 0, 1])).threshold_for(1.0)
    (0.8, 0.6666666666666666)
    """
    known = true_label >= 0
    if not known.any():
        raise ValueError("no particle has a true label; selective accuracy needs at least one")
    confidence = probabilities[known].max(axis=1).astype(np.float64)
    right = probabilities[known].argmax(axis=1) == true_label[known]
    order = np.argsort(-confidence, kind="stable")
    kept = np.arange(1, len(order) + 1)
    # No threshold separates particles of equal confidence: only the last of each tie is one.
    last = np.append(np.diff(confidence[order]) != 0, True)
    accuracy = np.cumsum(right[order]) / kept
    return SelectiveAccuracy(confidence[order][last], kept[last] / len(order), accuracy[last])
