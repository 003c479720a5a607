"""Unlabeled particles named by a few labeled ones where it is known in which directions classes differ."""

import numpy as np
from jaxtyping import Float, Int

from tomosift.learning.plda import PLDA

_DIRECTIONS = 32
_ROUNDS = 30
_STARTING_VARIANCE = 2.0  # along each direction, in units of that within classes: few labels show means badly
_FROM_MIDDLE = 3.0  # particles in the middle of the set that every class is given beside its own
_OF_EACH = 20.0  # particles that every class is given when classes are counted


def label_by_gaussian_mixture(
    known_embeddings: Float[np.ndarray, "n e"],
    known_labels: Int[np.ndarray, " n"],
    embeddings: Float[np.ndarray, "m e"],
    plda: PLDA,
) -> Int[np.ndarray, " m"]:
    """A label for each of m particles from the n labeled ones (all with a label) of the same set.

    In the discriminant's directions classes are normal distributions of one variance along each. Expectation
    maximization finds their means, sizes and that variance among all particles, from the means of the labeled ones,
    which stay what they are labeled. Classes may be of any size.

    Source: Nigam et al. 2000, "Text classification from labeled and unlabeled documents using EM", for mixtures some of
    whose members are labeled. That it is done in the directions of a discriminant, and all constants, are ours.
    """
    everything = plda.coordinates(np.concatenate([known_embeddings, embeddings]))[:, :_DIRECTIONS]
    shrinkage = plda.shrinkage[:_DIRECTIONS]
    classes, known = np.unique(known_labels, return_inverse=True)
    count, rows = len(known), np.arange(len(known))
    mean = np.stack([everything[:count][known == k].mean(axis=0) for k in range(len(classes))]) * shrinkage
    variance = np.full(everything.shape[1], _STARTING_VARIANCE)
    share = np.full(len(classes), 1 / len(classes))
    for _ in range(_ROUNDS):
        logits = _log_likelihood(everything, mean, variance) + np.log(share)
        member = np.exp(logits - logits.max(axis=1, keepdims=True))
        member /= member.sum(axis=1, keepdims=True)
        member[:count] = 0
        member[rows, known] = 1
        size = member.sum(axis=0)
        mean = member.T @ everything / (size + _FROM_MIDDLE)[:, None]
        share = (size + _OF_EACH) / (size + _OF_EACH).sum()
        # About these means: the sum of squares less what they explain.
        both = (mean * (member.T @ everything)).sum(axis=0)
        squares = np.square(everything).sum(axis=0) - 2 * both + (size[:, None] * np.square(mean)).sum(axis=0)
        variance = np.maximum(squares / len(everything), 1e-6)
    final = _log_likelihood(everything[count:], mean, variance) + np.log(share)
    return np.asarray(classes[final.argmax(axis=1)], dtype=np.int64)


def _log_likelihood(
    places: Float[np.ndarray, "m d"], mean: Float[np.ndarray, "k d"], variance: Float[np.ndarray, " d"]
) -> Float[np.ndarray, "m k"]:
    """Up to a constant that all classes share."""
    scaled, means = places / np.sqrt(variance), mean / np.sqrt(variance)
    return np.asarray(scaled @ means.T - 0.5 * np.square(means).sum(axis=1))
