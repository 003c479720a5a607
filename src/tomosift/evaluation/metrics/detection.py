"""How well particles were found: against true positions, class by class, as the field scores pickers.

A pick is right when a true particle of its class lies within half the particle's radius, each true particle counting
for one pick. Everything is counted over all tomograms; intervals come from drawing tomograms anew.

Source: the F-beta score with beta 4 at half the radius is that of the CryoET Object Identification challenge of 2024
(CZ Imaging Institute); there classes are weighted, here all count alike.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from tomosift.evaluation.metrics.classification import Interval
from tomosift.particles import Particles

BETA = 4.0
"""A particle that was missed counts sixteen times as much as a wrong pick: averaging sorts wrong picks out later."""
OF_RADIUS = 0.5
_DRAWS = 1000


@dataclass(frozen=True)
class ClassDetectionScores:
    """Picks of one class."""

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
        """The F-beta score; NaN without particles."""
        if not self.particles:
            return float("nan")
        wrong, missed = self.picks - self.right, self.particles - self.right
        weighted = (1 + beta**2) * self.right
        return weighted / (weighted + beta**2 * missed + wrong)


@dataclass(frozen=True)
class DetectionScores:
    """Picks of all classes."""

    classes: Mapping[str, ClassDetectionScores]
    f_beta: Interval
    """Mean over classes of the F-score with `BETA`, and its 95 % interval over tomograms."""
    f1: Interval

    @property
    def precision(self) -> float:
        """Mean over classes that have picks."""
        return float(np.nanmean([one.precision for one in self.classes.values()]))

    @property
    def recall(self) -> float:
        """Mean over classes."""
        return float(np.nanmean([one.recall for one in self.classes.values()]))


def detection_score(
    picks: Particles, truth: Particles, radius_angstrom: Mapping[str, float], seed: int = 0
) -> DetectionScores:
    """Score picks against the true particles of the same tomograms.

    Parameters
    ----------
    radius_angstrom
        Of the particles of each class that is asked for; picks and particles of other classes do not count.

    Raises
    ------
    ValueError
        When there is no true particle of any of these classes.
    """
    names = [name for name in radius_angstrom if (truth.class_name == name).any()]
    if not names:
        raise ValueError(f"there is no true particle of {', '.join(radius_angstrom)}; check the class names")
    tomograms = sorted({str(name) for name in truth.tomogram})
    counts = np.zeros((len(tomograms), len(names), 3), dtype=np.int64)
    errors: list[list[NDArray[np.float64]]] = [[] for _ in names]
    for t, tomogram in enumerate(tomograms):
        for k, name in enumerate(names):
            told, true = (
                part.select(np.flatnonzero((part.tomogram == tomogram) & (part.class_name == name)))
                for part in (picks, truth)
            )
            # The surest picks choose first.
            order = np.argsort(-np.nan_to_num(told.score), kind="stable")
            distance = match_picks(
                told.position_zyx_angstrom[order], true.position_zyx_angstrom, OF_RADIUS * radius_angstrom[name]
            )
            errors[k].append(distance[np.isfinite(distance)])
            counts[t, k] = np.isfinite(distance).sum(), len(told), len(true)
    whole = counts.sum(axis=0)
    classes = {
        name: ClassDetectionScores(
            int(whole[k, 0]), int(whole[k, 1]), int(whole[k, 2]), _median(np.concatenate(errors[k]))
        )
        for k, name in enumerate(names)
    }
    rng = np.random.default_rng(seed)
    drawn = counts[rng.integers(0, len(tomograms), (_DRAWS, len(tomograms)))].sum(axis=1)
    return DetectionScores(classes, _interval(whole, drawn, BETA), _interval(whole, drawn, 1.0))


def match_picks(
    picks: Float[np.ndarray, "n 3"], truth: Float[np.ndarray, "m 3"], farthest_angstrom: float
) -> Float[np.ndarray, " n"]:
    """Distance of each pick to the true particle that it gets, infinite without one.

    In their order picks take the nearest particle that is left within reach.
    """
    result = np.full(len(picks), np.inf)
    if not len(truth):
        return result
    distance = cdist(picks, truth)
    for row in range(len(picks)):
        nearest = int(distance[row].argmin())
        if distance[row, nearest] <= farthest_angstrom:
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
        ClassDetectionScores(int(right), int(picks), int(there), 0.0).f_score(beta) for right, picks, there in counts
    ]
    known: Sequence[float] = [score for score in scores if np.isfinite(score)]
    return float(np.mean(known)) if known else float("nan")
