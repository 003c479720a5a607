"""PLDA: how the class means of embeddings vary, and how particles of one class do; learned from other classes.

An embedding of unit length is modeled as its class mean plus an offset. The mean is drawn from one normal distribution.
The offset stands for pose, missing wedge and noise, and is drawn from another that is the same for all classes.

Source: Ioffe 2006, "Probabilistic linear discriminant analysis", ECCV; embeddings of unit length after Garcia-Romero &
Espy-Wilson 2011, "Analysis of i-vector length normalization in speaker recognition systems", Interspeech. Deviation:
the covariance within classes is shrunk half of the way towards a sphere, which was about best for synthetic complexes.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

PLDA_DIMENSIONS = 64
"""Axes that are kept; more changed nothing."""
_SHRINKAGE = 0.5
"""Share of the covariance within classes that is replaced by a sphere of the same trace."""
_MIN_VARIANCE = 1e-3
"""Smallest variance of class means, in units of the variance within classes."""


@dataclass(frozen=True, eq=False)
class PLDA:
    """A fitted model, by which embeddings of unit length are compared.

    Coordinates ``embedding @ transform`` have a standard deviation of 1 about the class mean expected from one example.
    """

    center: Float[np.ndarray, " e"]
    transform: Float[np.ndarray, "e d"]
    shrinkage: Float[np.ndarray, " d"]
    """Factor by which one example moves the expected class mean from the center towards itself, 0 to 1."""

    def coordinates(self, embeddings: Float[np.ndarray, "n e"]) -> Float[np.ndarray, "n d"]:
        """Project embeddings of one set onto the discriminant directions, centered on the mean of the set.

        The unit is the standard deviation within classes.
        """
        unit = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
        return np.asarray((unit - unit.mean(axis=0)) @ self.transform)


def fit_plda(
    embeddings: Float[np.ndarray, "n e"], label: Int[np.ndarray, " n"], group: Int[np.ndarray, " n"] | None = None
) -> PLDA:
    """Fit a PLDA to labeled particles of many classes.

    Parameters
    ----------
    embeddings
        Of n particles, of any length.
    label
        Class of each; rows with -1 are left out.
    group
        Imaging conditions of each particle; None for one group. Classes are compared within groups only, so that
        differences between conditions are not taken for differences between classes. A class in two groups counts
        twice.

    Returns
    -------
    PLDA

    Raises
    ------
    ValueError
        No group has two classes, or no class has two particles.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> label = np.repeat(np.arange(50), 10)
    >>> means = rng.normal(size=(50, 8))
    >>> fit_plda(means[label] + 0.3 * rng.normal(size=(500, 8)), label).transform.shape
    (8, 8)
    """
    group = np.zeros(len(label), dtype=np.int64) if group is None else group
    known = label >= 0
    unit = embeddings[known].astype(np.float64)
    unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-12)
    label, group = label[known], group[known]
    within, between = _estimate_covariances(unit, label, group)
    variance, axes = np.linalg.eigh(_shrink_to_sphere(within))
    whitening = axes / np.sqrt(variance)
    variance, rotation = np.linalg.eigh(whitening.T @ between @ whitening)
    largest = np.argsort(-variance)[:PLDA_DIMENSIONS]
    variance, transform = np.maximum(variance[largest], _MIN_VARIANCE), (whitening @ rotation)[:, largest]
    shrinkage = variance / (variance + 1)
    return PLDA(unit.mean(axis=0), transform / np.sqrt(1 + shrinkage), shrinkage)


def _shrink_to_sphere(within: Float[np.ndarray, "e e"]) -> Float[np.ndarray, "e e"]:
    """Shrink a covariance towards a sphere of the same trace."""
    size = len(within)
    sphere = np.trace(within) / size * np.eye(size)
    return np.asarray((1 - _SHRINKAGE) * within + _SHRINKAGE * sphere + 1e-12 * np.eye(size))


def _estimate_covariances(
    unit: Float[np.ndarray, "n e"], label: Int[np.ndarray, " n"], group: Int[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, "e e"], Float[np.ndarray, "e e"]]:
    """Estimate the covariances of particles within classes and of class means within groups."""
    size = unit.shape[1]
    within, between = np.zeros((size, size)), np.zeros((size, size))
    degrees_within, degrees_between = 0, 0.0
    chance = 0.0  # variance of means of few particles where classes do not differ, in units of `within`
    for one in np.unique(group):
        members, names = unit[group == one], label[group == one]
        present, index, counts = np.unique(names, return_inverse=True, return_counts=True)
        weight = 1 - 1 / counts  # a single particle does not determine the mean of its class
        if (weight > 0).sum() < 2:
            continue
        means = np.stack([members[index == k].mean(axis=0) for k in range(len(present))])
        rest, apart = members - means[index], means - np.average(means, axis=0, weights=weight)
        within += rest.T @ rest
        between += (apart.T * weight) @ apart
        degrees_within += len(members) - len(present)
        degrees = weight * (1 - weight / weight.sum())
        degrees_between += degrees.sum()
        chance += (degrees / counts).sum()
    if not degrees_within:
        raise ValueError(
            f"{len(label)} labeled particles of {len(np.unique(label))} classes do not show how classes and particles "
            "vary; label several particles of each of many classes"
        )
    within = within / degrees_within
    return within, (between - chance * within) / degrees_between
