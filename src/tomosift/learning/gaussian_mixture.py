"""Semi-supervised Gaussian mixture: labels of a few particles and the distribution of all give the classes."""

import numpy as np
from jaxtyping import Float, Int

from tomosift.learning.plda import PLDA

_DIMENSIONS = 32
_ITERATIONS = 30
_INITIAL_VARIANCE = 2.0  # in units of the variance within classes: few labels determine means badly
_CENTER_PRIOR = 3.0  # particles at the mean of the set that are added to the members of every class
_SIZE_PRIOR = 20.0  # particles that are added to every class when its size is estimated


def label_by_gaussian_mixture(
    known_embeddings: Float[np.ndarray, "n e"],
    known_labels: Int[np.ndarray, " n"],
    embeddings: Float[np.ndarray, "m e"],
    plda: PLDA,
) -> Int[np.ndarray, " m"]:
    """Assign a label to each of m particles from n labeled ones of the same set.

    In the coordinates of the PLDA each class is a normal distribution; all have the same variance along each axis.
    Expectation maximization over all particles estimates means, sizes and that variance. It starts from the means of
    the labeled particles, which keep their labels. Classes may be of any size.

    Parameters
    ----------
    known_embeddings, known_labels
        Labeled particles; every row has a label.
    embeddings
        Particles that get a label.
    plda
        Fitted to other classes by the same encoder.

    Returns
    -------
    array
        (m,) label of each particle, one of ``known_labels``.

    Notes
    -----
    Source: Nigam et al. 2000, "Text classification from labeled and unlabeled documents using EM", for mixtures some of
    whose members are labeled. The coordinates of a PLDA and all constants are ours.
    """
    x = plda.coordinates(np.concatenate([known_embeddings, embeddings]))[:, :_DIMENSIONS]
    classes, known = np.unique(known_labels, return_inverse=True)
    count, rows = len(known), np.arange(len(known))
    labeled_means = np.stack([x[:count][known == k].mean(axis=0) for k in range(len(classes))])
    mean = labeled_means * plda.shrinkage[:_DIMENSIONS]
    variance = np.full(x.shape[1], _INITIAL_VARIANCE)
    share = np.full(len(classes), 1 / len(classes))
    for _ in range(_ITERATIONS):
        logits = _log_likelihood(x, mean, variance) + np.log(share)
        posterior = np.exp(logits - logits.max(axis=1, keepdims=True))
        posterior /= posterior.sum(axis=1, keepdims=True)
        posterior[:count] = 0
        posterior[rows, known] = 1
        size = posterior.sum(axis=0)
        mean = posterior.T @ x / (size + _CENTER_PRIOR)[:, None]
        share = (size + _SIZE_PRIOR) / (size + _SIZE_PRIOR).sum()
        # About these means: the sum of squares minus the part that they explain.
        both = (mean * (posterior.T @ x)).sum(axis=0)
        squares = np.square(x).sum(axis=0) - 2 * both + (size[:, None] * np.square(mean)).sum(axis=0)
        variance = np.maximum(squares / len(x), 1e-6)
    final = _log_likelihood(x[count:], mean, variance) + np.log(share)
    return np.asarray(classes[final.argmax(axis=1)], dtype=np.int64)


def _log_likelihood(
    x: Float[np.ndarray, "m d"], mean: Float[np.ndarray, "k d"], variance: Float[np.ndarray, " d"]
) -> Float[np.ndarray, "m k"]:
    """Log likelihood of each class, up to a constant that all classes share."""
    scaled, means = x / np.sqrt(variance), mean / np.sqrt(variance)
    return np.asarray(scaled @ means.T - 0.5 * np.square(means).sum(axis=1))
