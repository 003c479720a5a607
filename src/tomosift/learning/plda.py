"""In which directions do classes differ, and in which do particles of one? Learned from classes other than asked.

The model behind it: an embedding of unit length is the place of its class, drawn from one normal distribution, plus
what pose, wedge and noise do to it, drawn from another that is the same for all classes.

Source: Ioffe 2006, "Probabilistic linear discriminant analysis", ECCV; embeddings of unit length after Garcia-Romero &
Espy-Wilson 2011, "Analysis of i-vector length normalization in speaker recognition systems", Interspeech. Deviation:
the covariance within classes is drawn half of the way towards a sphere, which was about best for complexes that do not
exist.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

PLDA_DIMENSIONS = 64
"""Directions kept; more changed nothing."""
_SPHERE = 0.5
"""Share of the covariance within classes that is replaced by a sphere of like size."""
_LEAST_SPREAD = 1e-3
"""Of class means, in units of the deviation within classes."""


@dataclass(frozen=True, eq=False)
class PLDA:
    """How to compare embeddings of unit length; ``q @ transform`` has deviation 1 about what one example foretells."""

    center: Float[np.ndarray, " e"]
    transform: Float[np.ndarray, "e d"]
    shrinkage: Float[np.ndarray, " d"]
    """How far one example moves the expected place of its class from the center towards itself, 0 to 1."""

    def coordinates(self, embeddings: Float[np.ndarray, "n e"]) -> Float[np.ndarray, "n d"]:
        """Project embeddings of one set onto the discriminant directions, centered on the mean of the set.

        The unit is the standard deviation within classes.
        """
        unit = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
        return np.asarray((unit - unit.mean(axis=0)) @ self.transform)


def fit_plda(
    embeddings: Float[np.ndarray, "n e"], label: Int[np.ndarray, " n"], group: Int[np.ndarray, " n"] | None = None
) -> PLDA:
    """From labeled particles of many classes; -1 takes no part.

    Particles of one ``group`` were imaged alike. Classes are compared within groups only, so that what tells groups
    apart is not taken for what tells classes apart; a class in two groups counts twice.

    Raises
    ------
    ValueError
        When no group has two classes, or no class has two particles.
    """
    group = np.zeros(len(label), dtype=np.int64) if group is None else group
    known = label >= 0
    unit = embeddings[known].astype(np.float64)
    unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-12)
    label, group = label[known], group[known]
    size = unit.shape[1]
    within, between = np.zeros((size, size)), np.zeros((size, size))
    spare, classes = 0, 0.0
    chance = 0.0  # how far means of few particles lie apart also where classes do not differ, in units of `within`
    for one in np.unique(group):
        mine, names = unit[group == one], label[group == one]
        present, place, counts = np.unique(names, return_inverse=True, return_counts=True)
        weight = 1 - 1 / counts  # a single particle does not show where its class is
        if (weight > 0).sum() < 2:
            continue
        means = np.stack([mine[place == k].mean(axis=0) for k in range(len(present))])
        rest, apart = mine - means[place], means - np.average(means, axis=0, weights=weight)
        within += rest.T @ rest
        between += (apart.T * weight) @ apart
        spare += len(mine) - len(present)
        degrees = weight * (1 - weight / weight.sum())
        classes += degrees.sum()
        chance += (degrees / counts).sum()
    if not spare:
        raise ValueError(
            f"{len(label)} labeled particles of {len(np.unique(label))} classes do not show how classes and particles "
            "vary; label several particles of each of many classes"
        )
    within = within / spare
    between = (between - chance * within) / classes
    round_one = np.trace(within) / size * np.eye(size)
    within = (1 - _SPHERE) * within + _SPHERE * round_one + 1e-12 * np.eye(size)
    variance, axes = np.linalg.eigh(within)
    whitening = axes / np.sqrt(variance)
    spread, turns = np.linalg.eigh(whitening.T @ between @ whitening)
    first = np.argsort(-spread)[:PLDA_DIMENSIONS]
    spread, transform = np.maximum(spread[first], _LEAST_SPREAD), (whitening @ turns)[:, first]
    shrinkage = spread / (spread + 1)
    return PLDA(unit.mean(axis=0), transform / np.sqrt(1 + shrinkage), shrinkage)
