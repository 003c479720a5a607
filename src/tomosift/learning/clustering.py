"""Clustering: groups of particles found without labels, their number, and how stable each is."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture

from tomosift.learning.plda import PLDA

CLUSTER_COUNTS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 16, 20, 24, 30, 36, 44, 52, 60)
"""Numbers of clusters that are compared."""
MAX_TO_FIT = 8000
"""Particles to which clusters are fitted; further ones are assigned to them."""
_MIN_MEAN_SIZE = 10  # particles per cluster; with fewer there are no clusters
_DIMENSIONS = 32
_MIN_VARIANCE = 0.1  # along an axis, in units of the variance within classes
_TEMPERATURE = 5.0
"""Log likelihoods are divided by it, because embeddings have heavier tails than a normal distribution. At SNR 0.1,
93 % of the particles with a probability of 0.9 or more were of the most frequent class of their cluster."""
_HALVES = 8
_KMEANS_STARTS = 5


@dataclass(frozen=True, eq=False)
class Clusters:
    """k clusters of n particles, the largest first."""

    probability: Float[np.ndarray, "n k"]
    """Of each cluster; rows sum to one."""
    stability: Float[np.ndarray, " k"]
    """Mean Jaccard index of each cluster with the most similar cluster of random halves of the particles. Above 0.75 a
    cluster does not depend on the sample; below 0.5 it is an accident of these particles. Two halves of one elongated
    cluster can be stable as well."""

    @property
    def label(self) -> Int[np.ndarray, " n"]:
        """The most probable cluster of each particle."""
        return np.asarray(self.probability.argmax(axis=1), dtype=np.int64)


def standardize_for_clustering(
    embeddings: Float[np.ndarray, "n e"], plda: PLDA | None = None
) -> Float[np.ndarray, "n d"]:
    """Transform embeddings to coordinates, centered on their mean, in which distances are meaningful.

    Parameters
    ----------
    embeddings
        Of n particles of one set.
    plda
        Gives coordinates in units of the standard deviation within classes, so that sets can be compared. None takes
        the principal components of these embeddings, standardized and scaled to the same length.
    """
    if plda is not None:
        return plda.coordinates(embeddings)
    x = embeddings.astype(np.float64)
    x = (x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 1e-6)
    x = PCA(min(_DIMENSIONS, *x.shape), random_state=0).fit_transform(x)
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) * np.sqrt(x.shape[1]))


def find_clusters(coordinates: Float[np.ndarray, "n d"], count: int | None = None, seed: int = 0) -> Clusters:
    """Find clusters of particles and estimate how stable each is.

    The model is a mixture of normal distributions with one common covariance, started from k-means of the directions
    of the coordinates. Of several numbers of clusters the one with the best Bayesian information criterion is taken. It
    is rather too large than too small, as clusters are easily merged by giving them one name.

    Parameters
    ----------
    coordinates
        From `standardize_for_clustering`.
    count
        Number k of clusters; None estimates it.
    seed
        Of the random numbers.

    Raises
    ------
    ValueError
        There are too few particles, or fewer than the requested clusters.

    Notes
    -----
    Source: Fraley & Raftery 2002, "Model-based clustering, discriminant analysis, and density estimation", JASA 97;
    for the stability Hennig 2007, "Cluster-wise assessment of cluster stability", CSDA 52, with halves instead of
    bootstrap samples. Constants are ours.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> coordinates = np.concatenate([rng.normal(at, 1.0, size=(50, 4)) for at in (-6, 6)])
    >>> clusters = find_clusters(coordinates)
    >>> clusters.probability.shape, bool(clusters.stability.min() > 0.9)
    ((100, 2), True)
    """
    n = len(coordinates)
    check_count(n, count)
    x = np.asarray(coordinates, dtype=np.float64)
    rng = np.random.default_rng(seed)
    sample = x[np.sort(rng.permutation(n)[:MAX_TO_FIT])]
    counts = [count] if count is not None else [k for k in CLUSTER_COUNTS if k * _MIN_MEAN_SIZE <= len(sample)]
    model = min((_fit_mixture(sample, k, seed) for k in counts), key=lambda candidate: candidate.bic(sample))
    soft = _predict_soft(model, x)
    sizes = np.bincount(soft.argmax(axis=1), minlength=model.n_components)
    order = np.argsort(-sizes, kind="stable")[: (sizes > 0).sum()]  # drops clusters that are nobody's most probable
    probability = soft[:, order] / soft[:, order].sum(axis=1, keepdims=True)
    return Clusters(probability, _estimate_stability(x, sample, probability.argmax(axis=1), len(order), rng))


def check_count(particles: int, count: int | None) -> None:
    """Refuse particles among which `find_clusters` cannot find ``count`` clusters.

    Raises
    ------
    ValueError
        There are too few particles, or fewer than the requested clusters.
    """
    if particles < 2 * _MIN_MEAN_SIZE:
        raise ValueError(f"{particles} particles are too few for clusters; extract at least {2 * _MIN_MEAN_SIZE}")
    if count is not None and not 1 < count <= particles // 2:
        raise ValueError(f"the number of clusters is {count}, expected 2 to {particles // 2} for {particles} particles")


def _estimate_stability(
    x: Float[np.ndarray, "n d"],
    sample: Float[np.ndarray, "m d"],
    label: Int[np.ndarray, " n"],
    count: int,
    rng: np.random.Generator,
) -> Float[np.ndarray, " k"]:
    """Estimate the mean Jaccard index of each cluster with the most similar one from a random half of the sample."""
    overlap = np.zeros((_HALVES, count))
    for best in overlap:
        rows = rng.permutation(len(sample))[: len(sample) // 2]
        other = _fit_mixture(sample[rows], count, int(rng.integers(2**31))).predict(x)
        both = np.zeros((count, count))
        np.add.at(both, (label, other), 1)
        either = both.sum(axis=1, keepdims=True) + both.sum(axis=0) - both
        best[:] = (both / np.maximum(either, 1)).max(axis=1)
    return np.asarray(overlap.mean(axis=0))


def _predict_soft(model: GaussianMixture, x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n k"]:
    """Predict the probabilities of the components at the temperature `_TEMPERATURE`."""
    whitened, means = x @ model.precisions_cholesky_, model.means_ @ model.precisions_cholesky_
    squared = ((whitened**2).sum(axis=1, keepdims=True) - 2 * whitened @ means.T) + (means**2).sum(axis=1)
    logits = (np.log(np.maximum(model.weights_, 1e-12)) - squared / 2) / _TEMPERATURE
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


def _fit_mixture(x: Float[np.ndarray, "n d"], count: int, seed: int) -> GaussianMixture:
    """Fit a mixture with one common covariance, started from k-means of the directions."""
    direction = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    label = KMeans(count, n_init=_KMEANS_STARTS, random_state=seed).fit_predict(direction)
    means = np.stack([x[label == k].mean(axis=0) for k in range(count)])
    model = GaussianMixture(count, covariance_type="tied", reg_covar=_MIN_VARIANCE, means_init=means, random_state=seed)
    return model.fit(x)
