"""Scores of predicted classes and their confidence intervals, as functions of arrays.

Every score is a function of the confusion matrix, so each bootstrap resample costs one multinomial draw instead of a
pass over the particles.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

from tomosift.evaluation.metrics.intervals import Interval, wilson_interval

MINIMUM_TOMOGRAMS = 5
"""With fewer tomograms particles are resampled instead, because so few tomograms give no useful interval."""


@dataclass(frozen=True)
class ClassScores:
    """Scores of one class."""

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
    """``tomogram`` or ``particle``. The latter assumes that the particles of a tomogram are independent. They are not,
    so such intervals are too narrow."""

    @property
    def majority_accuracy(self) -> float:
        """Accuracy of always predicting the most frequent true class."""
        return float(self.confusion.sum(axis=1).max() / max(self.count, 1))


def confusion_matrix(
    true_label: Int[np.ndarray, " n"], predicted_label: Int[np.ndarray, " n"], class_count: int
) -> Int[np.ndarray, "k k"]:
    """Return counts of particles, rows true and columns predicted; true label -1 is left out.

    Examples
    --------
    >>> confusion_matrix(np.array([0, 1, 1, -1]), np.array([0, 1, 0, 1]), 2).tolist()
    [[1, 0], [1, 1]]
    """
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
    """Compute accuracy, balanced accuracy, macro F1 and scores per class, with 95 % percentile bootstrap intervals.

    Where there are at least five tomograms these are resampled, because particles of one tomogram share its quality;
    otherwise particles are. Where every resample gives 0 or every one gives 1, the percentiles would have no width. The
    far bound is then Wilson's for that many particles.

    Parameters
    ----------
    true_label, predicted_label
        Indices of classes. Particles of true label -1 are left out.
    class_names
        Names of the k classes.
    tomogram
        (n,) name of the tomogram of each particle.
    seed, resamples
        Of the bootstrap, and its number of resamples.

    Raises
    ------
    ValueError
        No particle has a true label, or a label names no class.

    Source: Efron & Tibshirani 1993, "An Introduction to the Bootstrap", ch. 8 (groups) and 13 (percentiles); Wilson
    1927, J. Am. Stat. Assoc. 22, 209.

    Examples
    --------
    >>> labels = np.array([0, 0, 1, 1])
    >>> scores = score(labels, np.array([0, 1, 1, 1]), ("ribosome", "proteasome"), np.array(["TS_01"] * 4))
    >>> scores.accuracy.value, scores.resampled_by
    (0.75, 'particle')
    """
    is_known = true_label >= 0
    _check_labels(true_label, predicted_label, is_known, len(class_names))
    confusion = confusion_matrix(true_label, predicted_label, len(class_names))
    names, group = np.unique(tomogram[is_known].astype(str), return_inverse=True)
    generator = np.random.default_rng(seed)
    if len(names) >= MINIMUM_TOMOGRAMS:
        labels = true_label[is_known], predicted_label[is_known]
        drawn = _resample_tomograms(*labels, group, len(class_names), generator, resamples)
    else:
        drawn = _resample_particles(confusion, generator, resamples)
    return Scores(
        accuracy=_bound(_accuracy, confusion, drawn),
        balanced_accuracy=_bound(_balanced_accuracy, confusion, drawn),
        macro_f1=_bound(_macro_f1, confusion, drawn),
        classes=_score_classes(class_names, confusion, drawn),
        confusion=confusion,
        count=int(confusion.sum()),
        tomogram_count=len(names),
        resampled_by="tomogram" if len(names) >= MINIMUM_TOMOGRAMS else "particle",
    )


def _bound(
    function: Callable[[NDArray[Any]], NDArray[np.float64]],
    confusion: Int[np.ndarray, "k k"],
    drawn: Float[np.ndarray, "r k k"],
) -> Interval:
    """Return a score of all particles with its interval."""
    count = np.asarray([confusion.sum()])
    return Interval(*_intervals(function(confusion), function(drawn), count)[0].tolist())


def _check_labels(
    true_label: Int[np.ndarray, " n"],
    predicted_label: Int[np.ndarray, " n"],
    is_known: Bool[np.ndarray, " n"],
    class_count: int,
) -> None:
    if not is_known.any():
        raise ValueError("no particle has a true label; scores need at least one")
    highest = max(true_label.max(), predicted_label[is_known].max())
    if highest >= class_count or predicted_label[is_known].min() < 0:
        raise ValueError(f"a label lies outside 0 .. {class_count - 1}, the range of the {class_count} class names")


def _resample_tomograms(
    true_label: Int[np.ndarray, " n"],
    predicted_label: Int[np.ndarray, " n"],
    group: Int[np.ndarray, " n"],
    class_count: int,
    generator: np.random.Generator,
    resamples: int,
) -> Float[np.ndarray, "r k k"]:
    """Return confusion matrices of tomograms drawn with replacement."""
    k, count = class_count, int(group.max()) + 1
    cells = np.zeros((count, k * k))
    np.add.at(cells, (group, true_label * k + predicted_label), 1.0)
    weights = generator.multinomial(count, np.full(count, 1 / count), size=resamples)
    return np.asarray(weights @ cells).reshape(resamples, k, k)


def _resample_particles(
    confusion: Int[np.ndarray, "k k"], generator: np.random.Generator, resamples: int
) -> Float[np.ndarray, "r k k"]:
    """Return confusion matrices of particles drawn with replacement."""
    count = int(confusion.sum())
    drawn = generator.multinomial(count, confusion.ravel() / count, size=resamples).astype(float)
    return drawn.reshape(resamples, *confusion.shape)


def _score_classes(
    class_names: tuple[str, ...], confusion: Int[np.ndarray, "k k"], drawn: Float[np.ndarray, "r k k"]
) -> tuple[ClassScores, ...]:
    true_count, predicted_count = confusion.sum(axis=1), confusion.sum(axis=0)
    precision = _intervals(_precision(confusion), _precision(drawn), predicted_count)
    recall = _intervals(_recall(confusion), _recall(drawn), true_count)
    f1 = _intervals(_f1(confusion), _f1(drawn), true_count + predicted_count - np.diag(confusion))
    return tuple(
        ClassScores(
            name,
            Interval(*precision[c].tolist()),
            Interval(*recall[c].tolist()),
            Interval(*f1[c].tolist()),
            int(true_count[c]),
            int(predicted_count[c]),
        )
        for c, name in enumerate(class_names)
    )


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
    """Return (c, 3) value, low, high from (c,) values, (r, c) resamples and the (c,) particles behind each value."""
    result = np.full((len(value), 3), np.nan)
    result[:, 0] = value
    for c in np.flatnonzero(np.isfinite(value)):
        defined = drawn[np.isfinite(drawn[:, c]), c]
        low, high = np.quantile(defined, [0.025, 0.975]) if defined.size else (value[c], value[c])
        if low == high and value[c] in (0.0, 1.0):
            bounds = wilson_interval(value[c : c + 1], support[c : c + 1])
            low, high = min(low, bounds[0][0]), max(high, bounds[1][0])
        result[c, 1:] = low, high
    return result
