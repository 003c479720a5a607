"""How good predictions are, and how sure one can be of that: arrays in, numbers with intervals out.

Every score here is a function of the confusion matrix, so an interval costs one multinomial draw per resample instead
of a pass over the particles.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

MINIMUM_TOMOGRAMS = 5
"""Below this many tomograms, resampling them says nothing and particles are resampled instead."""


@dataclass(frozen=True)
class Interval:
    """A score with its 95 % interval; NaN where it is not defined (a class without test particles)."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class ClassScores:
    """What happened to one class."""

    name: str
    precision: Interval
    recall: Interval
    f1: Interval
    count: int
    """Test particles that are of this class."""
    predicted_count: int


@dataclass(frozen=True)
class Scores:
    """Scores of predicted classes on particles whose class is known."""

    accuracy: Interval
    balanced_accuracy: Interval
    """Mean recall over the classes that have test particles."""
    macro_f1: Interval
    """Mean F1 over the classes that have test particles or predictions."""
    classes: tuple[ClassScores, ...]
    confusion: Int[np.ndarray, "k k"]
    """Rows are true classes, columns predicted ones."""
    count: int
    tomogram_count: int
    resampled_by: str
    """``tomogram`` or ``particle``. The latter takes the particles of a tomogram for independent, which they are not:
    such intervals are too narrow."""

    @property
    def majority_accuracy(self) -> float:
        """Accuracy of always answering the most frequent true class."""
        return float(self.confusion.sum(axis=1).max() / max(self.count, 1))


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
class Selective:
    """What is kept and how much of it is right when particles below a confidence are called unknown."""

    threshold: Float[np.ndarray, " m"]
    """Every confidence that occurs, descending; particles at or above it are kept."""
    coverage: Float[np.ndarray, " m"]
    accuracy: Float[np.ndarray, " m"]

    def threshold_for(self, accuracy: float) -> tuple[float, float] | None:
        """(threshold, coverage) that keeps most particles at this accuracy or better; None where none does."""
        reached = np.flatnonzero(self.accuracy >= accuracy)
        if reached.size == 0:
            return None
        return float(self.threshold[reached[-1]]), float(self.coverage[reached[-1]])


def confusion_matrix(
    true_label: Int[np.ndarray, " n"], predicted_label: Int[np.ndarray, " n"], class_count: int
) -> Int[np.ndarray, "k k"]:
    """Counts, rows true and columns predicted; particles with true label -1 are left out."""
    known = true_label >= 0
    cell = true_label[known] * class_count + predicted_label[known]
    return np.bincount(cell, minlength=class_count**2).reshape(class_count, class_count)


def score(
    true_label: Int[np.ndarray, " n"],
    predicted_label: Int[np.ndarray, " n"],
    class_names: tuple[str, ...],
    tomogram: NDArray[Any],
    seed: int = 0,
    resamples: int = 2000,
) -> Scores:
    """Accuracy, balanced accuracy, macro F1 and scores per class with 95 % percentile bootstrap intervals.

    Tomograms are resampled where there are at least five, since particles of one tomogram share its quality; else
    particles. Where every resample gives 0 or every one gives 1, the percentiles would claim certainty, so the far
    bound is then Wilson's for that many particles. Particles with true label -1 are left out.

    Source: Efron & Tibshirani 1993, "An Introduction to the Bootstrap", ch. 8 (groups) and 13 (percentiles); Wilson
    1927, J. Am. Stat. Assoc. 22, 209.

    Raises
    ------
    ValueError
        When no particle has a true label or a label names no class.
    """
    known, k = true_label >= 0, len(class_names)
    if not known.any():
        raise ValueError("no particle has a true label; scores need at least one")
    if max(true_label.max(), predicted_label[known].max()) >= k or predicted_label[known].min() < 0:
        raise ValueError(f"a label lies outside 0 .. {k - 1}, the range of the {k} class names")
    confusion = confusion_matrix(true_label, predicted_label, k)
    names, group = np.unique(tomogram[known].astype(str), return_inverse=True)
    by_tomogram = len(names) >= MINIMUM_TOMOGRAMS
    generator = np.random.default_rng(seed)
    count = int(confusion.sum())
    if by_tomogram:
        cells = np.zeros((len(names), k * k))
        np.add.at(cells, (group, true_label[known] * k + predicted_label[known]), 1.0)
        weights = generator.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
        drawn = weights @ cells
    else:
        drawn = generator.multinomial(count, confusion.ravel() / count, size=resamples).astype(float)
    drawn = drawn.reshape(resamples, k, k)

    def interval(function: Callable[[NDArray[Any]], NDArray[np.float64]], support: NDArray[Any]) -> NDArray[np.float64]:
        return _intervals(function(confusion), function(drawn), support)

    true_count, predicted_count = confusion.sum(axis=1), confusion.sum(axis=0)
    precision, recall = interval(_precision, predicted_count), interval(_recall, true_count)
    f1 = interval(_f1, true_count + predicted_count - np.diag(confusion))
    total = np.asarray([count])
    return Scores(
        accuracy=Interval(*interval(_accuracy, total)[0].tolist()),
        balanced_accuracy=Interval(*interval(_balanced_accuracy, total)[0].tolist()),
        macro_f1=Interval(*interval(_macro_f1, total)[0].tolist()),
        classes=tuple(
            ClassScores(
                name,
                Interval(*precision[c].tolist()),
                Interval(*recall[c].tolist()),
                Interval(*f1[c].tolist()),
                int(true_count[c]),
                int(predicted_count[c]),
            )
            for c, name in enumerate(class_names)
        ),
        confusion=confusion,
        count=count,
        tomogram_count=len(names),
        resampled_by="tomogram" if by_tomogram else "particle",
    )


def calibration(
    probabilities: Float[np.ndarray, "n k"], true_label: Int[np.ndarray, " n"], bins: int = 10
) -> Calibration:
    """Expected calibration error and the reliability curve of the winning class, with Wilson intervals per bin.

    Source: Naeini et al. 2015, AAAI, "Obtaining Well Calibrated Probabilities Using Bayesian Binning", for the error.

    Raises
    ------
    ValueError
        When no particle has a true label.
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
    low, high = wilson(accuracy, count[used])
    error = float((count[used] * np.abs(accuracy - mean_confidence)).sum() / count.sum())
    return Calibration(error, mean_confidence, accuracy, low, high, count[used])


def selective(probabilities: Float[np.ndarray, "n k"], true_label: Int[np.ndarray, " n"]) -> Selective:
    """Coverage and accuracy of the particles kept, for every threshold on the confidence.

    Source: Geifman & El-Yaniv 2017, "Selective Classification for Deep Neural Networks" (softmax response).

    Raises
    ------
    ValueError
        When no particle has a true label.
    """
    known = true_label >= 0
    if not known.any():
        raise ValueError("no particle has a true label; selective accuracy needs at least one")
    confidence = probabilities[known].max(axis=1).astype(np.float64)
    right = probabilities[known].argmax(axis=1) == true_label[known]
    order = np.argsort(-confidence, kind="stable")
    kept = np.arange(1, len(order) + 1)
    # Particles of equal confidence are kept or left together: only the last of each tie is a threshold.
    last = np.append(np.diff(confidence[order]) != 0, True)
    accuracy = np.cumsum(right[order]) / kept
    return Selective(confidence[order][last], kept[last] / len(order), accuracy[last])


def wilson(
    share: Float[np.ndarray, "..."], count: Int[np.ndarray, "..."]
) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
    """95 % interval of a share observed in ``count`` trials. Source: Wilson 1927."""
    z = 1.959964
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return np.clip(middle - half, 0, 1), np.clip(middle + half, 0, 1)


def _divide(numerator: NDArray[Any], denominator: NDArray[Any]) -> NDArray[np.float64]:
    undefined = np.full(np.shape(numerator), np.nan)
    np.divide(numerator, denominator, out=undefined, where=denominator > 0)
    return undefined


def _hits(confusion: NDArray[Any]) -> NDArray[Any]:
    return np.diagonal(confusion, axis1=-2, axis2=-1)


def _precision(confusion: NDArray[Any]) -> NDArray[np.float64]:
    return _divide(_hits(confusion), confusion.sum(axis=-2))


def _recall(confusion: NDArray[Any]) -> NDArray[np.float64]:
    return _divide(_hits(confusion), confusion.sum(axis=-1))


def _f1(confusion: NDArray[Any]) -> NDArray[np.float64]:
    return _divide(2 * _hits(confusion), confusion.sum(axis=-1) + confusion.sum(axis=-2))


def _mean_of_defined(values: NDArray[np.float64]) -> NDArray[np.float64]:
    defined = np.isfinite(values)
    total = np.where(defined, values, 0).sum(axis=-1, keepdims=True)
    return _divide(total, defined.sum(axis=-1, keepdims=True))


def _accuracy(confusion: NDArray[Any]) -> NDArray[np.float64]:
    return _divide(_hits(confusion).sum(axis=-1, keepdims=True), confusion.sum(axis=(-2, -1))[..., None])


def _balanced_accuracy(confusion: NDArray[Any]) -> NDArray[np.float64]:
    return _mean_of_defined(_recall(confusion))


def _macro_f1(confusion: NDArray[Any]) -> NDArray[np.float64]:
    return _mean_of_defined(_f1(confusion))


def _intervals(value: NDArray[np.float64], drawn: NDArray[np.float64], support: NDArray[Any]) -> NDArray[np.float64]:
    """(c, 3) value, low, high from (c,) values, (r, c) resamples and the (c,) particles behind each value."""
    result = np.full((len(value), 3), np.nan)
    result[:, 0] = value
    for c in np.flatnonzero(np.isfinite(value)):
        defined = drawn[np.isfinite(drawn[:, c]), c]
        low, high = np.quantile(defined, [0.025, 0.975]) if defined.size else (value[c], value[c])
        if low == high and value[c] in (0.0, 1.0):
            bounds = wilson(value[c : c + 1], support[c : c + 1])
            low, high = min(low, bounds[0][0]), max(high, bounds[1][0])
        result[c, 1:] = low, high
    return result
