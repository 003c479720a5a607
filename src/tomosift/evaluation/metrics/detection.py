"""Scores of picked particles against true positions.

A pick is right when a true particle of its class lies within half the particle radius; each true particle counts for
one pick. Picks are counted over all tomograms; intervals are bootstrap intervals over tomograms.

Source: the F-beta score with beta 4 at half the radius is that of the CryoET Object Identification challenge of 2024
(CZ Imaging Institute). Deviation: there the classes are weighted, here they have equal weight.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from tomosift.evaluation.metrics.intervals import Interval
from tomosift.particles import Particles

BETA = 4.0
"""A missed particle counts sixteen times as much as a wrong pick, because averaging removes wrong picks later."""
RADIUS_SHARE = 0.5
"""Greatest distance of a right pick from its particle, as a share of the particle radius."""
_DRAWS = 1000


@dataclass(frozen=True)
class ClassDetectionScores:
    """Scores of the picks of one class."""

    right: int
    picks: int
    particles: int
    error_angstrom: float
    """Median distance of right picks from their particle; NaN without any."""

    @property
    def precision(self) -> float:
        """Share of picks that are right; NaN without picks."""
        return self.right / self.picks if self.picks else float("nan")

    @property
    def recall(self) -> float:
        """Share of particles that were found; NaN without particles."""
        return self.right / self.particles if self.particles else float("nan")

    def f_score(self, beta: float) -> float:
        """Return the F-beta score; NaN without particles."""
        if not self.particles:
            return float("nan")
        wrong, missed = self.picks - self.right, self.particles - self.right
        weighted = (1 + beta**2) * self.right
        return weighted / (weighted + beta**2 * missed + wrong)


@dataclass(frozen=True)
class DetectionScores:
    """Scores of the picks of all classes."""

    classes: Mapping[str, ClassDetectionScores]
    f_beta: Interval
    """Mean over classes of the F-score with `BETA`, and its 95 % interval over tomograms."""
    f1: Interval

    @property
    def precision(self) -> float:
        """Mean precision over classes that have picks."""
        return float(np.nanmean([one.precision for one in self.classes.values()]))

    @property
    def recall(self) -> float:
        """Mean recall over classes."""
        return float(np.nanmean([one.recall for one in self.classes.values()]))


def score_detections(
    picks: Particles, truth: Particles, radius_angstrom: Mapping[str, float], seed: int = 0
) -> DetectionScores:
    """Score picks against the true particles of the same tomograms.

    Parameters
    ----------
    picks
        With class names and scores; the picks of highest score are matched first.
    truth
        True particles with class names.
    radius_angstrom
        Particle radius of each class to score; picks and particles of other classes are ignored.
    seed
        Of the bootstrap over tomograms.

    Raises
    ------
    ValueError
        There is no true particle of any of these classes.

    Examples
    --------
    >>> position = np.array([[100.0, 100, 100], [300, 300, 300]])
    >>> truth = Particles.create(["TS_01"] * 2, position, class_name=["ribosome"] * 2)
    >>> picks = Particles.create(["TS_01"], position[:1] + 20, class_name=["ribosome"])
    >>> scores = score_detections(picks, truth, {"ribosome": 130.0})
    >>> scores.precision, scores.recall
    (1.0, 0.5)
    """
    names = [name for name in radius_angstrom if (truth.class_name == name).any()]
    if not names:
        raise ValueError(f"there is no true particle of {', '.join(radius_angstrom)}; check the class names")
    tomograms = sorted({str(name) for name in truth.tomogram})
    counts = np.zeros((len(tomograms), len(names), 3), dtype=np.int64)
    errors: list[list[NDArray[np.float64]]] = [[] for _ in names]
    for t, tomogram in enumerate(tomograms):
        for k, name in enumerate(names):
            predicted, true = (
                part.select(np.flatnonzero((part.tomogram == tomogram) & (part.class_name == name)))
                for part in (picks, truth)
            )
            order = np.argsort(-np.nan_to_num(predicted.score), kind="stable")
            distance = match_picks(
                predicted.position_zyx_angstrom[order],
                true.position_zyx_angstrom,
                RADIUS_SHARE * radius_angstrom[name],
            )
            errors[k].append(distance[np.isfinite(distance)])
            counts[t, k] = np.isfinite(distance).sum(), len(predicted), len(true)
    return _summarize(names, counts, errors, np.random.default_rng(seed))


def _summarize(
    names: list[str],
    counts: NDArray[np.int64],
    errors: list[list[NDArray[np.float64]]],
    generator: np.random.Generator,
) -> DetectionScores:
    """Return scores from counts (t, k, 3) of right picks, picks and particles per tomogram and class."""
    whole = counts.sum(axis=0)
    classes = {
        name: ClassDetectionScores(
            int(whole[k, 0]), int(whole[k, 1]), int(whole[k, 2]), _median(np.concatenate(errors[k]))
        )
        for k, name in enumerate(names)
    }
    drawn = counts[generator.integers(0, len(counts), (_DRAWS, len(counts)))].sum(axis=1)
    return DetectionScores(classes, _interval(whole, drawn, BETA), _interval(whole, drawn, 1.0))


def match_picks(
    picks: Float[np.ndarray, "n 3"], truth: Float[np.ndarray, "m 3"], max_distance_angstrom: float
) -> Float[np.ndarray, " n"]:
    """Match picks to true particles, in the order of the picks, each to the nearest particle that is still free.

    Parameters
    ----------
    picks, truth
        Positions, zyx, in Angstrom.
    max_distance_angstrom
        Greatest distance of a match.

    Returns
    -------
    ndarray
        Distance of each pick to its particle in Angstrom, infinite without one.
    """
    result = np.full(len(picks), np.inf)
    if not len(truth):
        return result
    distance = cdist(picks, truth)
    for row in range(len(picks)):
        nearest = int(distance[row].argmin())
        if distance[row, nearest] <= max_distance_angstrom:
            result[row] = distance[row, nearest]
            distance[:, nearest] = np.inf
    return result


def _median(values: NDArray[np.float64]) -> float:
    return float(np.median(values)) if len(values) else float("nan")


def _interval(whole: NDArray[np.int64], drawn: NDArray[np.int64], beta: float) -> Interval:
    means = np.array([_mean_f(one, beta) for one in drawn])
    low, high = np.nanpercentile(means, [2.5, 97.5])
    return Interval(_mean_f(whole, beta), float(low), float(high))


def _mean_f(counts: NDArray[np.int64], beta: float) -> float:
    scores = [
        ClassDetectionScores(int(right), int(picks), int(true), 0.0).f_score(beta) for right, picks, true in counts
    ]
    known: Sequence[float] = [score for score in scores if np.isfinite(score)]
    return float(np.mean(known)) if known else float("nan")
