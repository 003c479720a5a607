"""Particles that look alike, found without any label: clusters, how many, and how stable each of them is."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture

from tomosift.learning.plda import PLDA

COUNTS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 16, 20, 24, 30, 36, 44, 52, 60)
"""Numbers of clusters that are compared."""
MOST_TO_FIT = 8000
"""Particles that clusters are fitted to; the others join them."""
_SMALLEST = 10  # particles of a cluster on average, or there are no clusters to speak of
_DIRECTIONS = 32
_FLOOR = 0.1  # least variance along a direction, in units of that within classes
_SOFTNESS = 5.0
"""Log likelihoods are divided by it: embeddings stray farther than normal ones. At SNR 0.1, of particles with a
probability of 0.9 or more, 93 % were of the class that most of their cluster were."""
_HALVES = 8
_STARTS = 5


@dataclass(frozen=True, eq=False)
class Clusters:
    """k clusters of n particles, the largest first."""

    probability: Float[np.ndarray, "n k"]
    """Rows sum to one."""
    stability: Float[np.ndarray, " k"]
    """Mean Jaccard index of each cluster with the one most like it among clusters of random halves of the particles:
    above 0.75 it is there whatever particles one has, below 0.5 it is an accident of these. Two halves of one long
    cloud can be stable as well."""

    @property
    def label(self) -> Int[np.ndarray, " n"]:
        """The most probable cluster of each particle."""
        return np.asarray(self.probability.argmax(axis=1), dtype=np.int64)


def standardize_for_clustering(
    embeddings: Float[np.ndarray, "n e"], plda: PLDA | None = None
) -> Float[np.ndarray, "n d"]:
    """Embeddings where distances count, about their middle: with a discriminant, in its directions and in units of the
    deviation within classes, so that sets can be compared.

    Without one, along the principal directions of these very particles, standardized and of like length.
    """
    if plda is not None:
        return plda.coordinates(embeddings)
    x = embeddings.astype(np.float64)
    x = (x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 1e-6)
    x = PCA(min(_DIRECTIONS, *x.shape), random_state=0).fit_transform(x)
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) * np.sqrt(x.shape[1]))


def find_clusters(places: Float[np.ndarray, "n d"], count: int | None = None, seed: int = 0) -> Clusters:
    """Clusters of particles at these `comparable` places; the number of them is found unless it is given.

    A mixture of normal distributions of one common covariance, started from k-means of the places' directions. Of
    several numbers of clusters that with the best Bayesian information criterion is taken: rather too many, which are
    easily given one name, than too few.

    Source: Fraley & Raftery 2002, "Model-based clustering, discriminant analysis, and density estimation", JASA 97;
    for the stability Hennig 2007, "Cluster-wise assessment of cluster stability", CSDA 52, with halves instead of
    bootstrap samples. Constants are ours.

    Raises
    ------
    ValueError
        When there are too few particles, or fewer than the clusters asked for.
    """
    n = len(places)
    check_count(n, count)
    places = np.asarray(places, dtype=np.float64)
    rng = np.random.default_rng(seed)
    fitted = places[np.sort(rng.permutation(n)[:MOST_TO_FIT])]
    counts = [count] if count is not None else [k for k in COUNTS if k * _SMALLEST <= len(fitted)]
    model = min((_mixture(fitted, k, seed) for k in counts), key=lambda tried: tried.bic(fitted))
    softened = _softened(model, places)
    sizes = np.bincount(softened.argmax(axis=1), minlength=model.n_components)
    order = np.argsort(-sizes, kind="stable")[: (sizes > 0).sum()]  # one that is nobody's likeliest is none
    probability = softened[:, order] / softened[:, order].sum(axis=1, keepdims=True)
    label = probability.argmax(axis=1)
    overlap = np.zeros((_HALVES, len(order)))
    for half in overlap:
        rows = rng.permutation(len(fitted))[: len(fitted) // 2]
        other = _mixture(fitted[rows], len(order), int(rng.integers(2**31))).predict(places)
        both = np.zeros((len(order), len(order)))
        np.add.at(both, (label, other), 1)
        either = both.sum(axis=1, keepdims=True) + both.sum(axis=0) - both
        half[:] = (both / np.maximum(either, 1)).max(axis=1)
    return Clusters(probability, overlap.mean(axis=0))


def check_count(particles: int, count: int | None) -> None:
    """Refuse what `find_clusters` cannot do.

    Raises
    ------
    ValueError
        When there are too few particles, or fewer than the clusters asked for.
    """
    if particles < 2 * _SMALLEST:
        raise ValueError(f"{particles} particles are too few to look for clusters; extract at least {2 * _SMALLEST}")
    if count is not None and not 1 < count <= particles // 2:
        raise ValueError(f"the number of clusters is {count}, expected 2 to {particles // 2} for {particles} particles")


def _softened(model: GaussianMixture, places: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n k"]:
    turned, means = places @ model.precisions_cholesky_, model.means_ @ model.precisions_cholesky_
    squared = ((turned**2).sum(axis=1, keepdims=True) - 2 * turned @ means.T) + (means**2).sum(axis=1)
    logits = (np.log(np.maximum(model.weights_, 1e-12)) - squared / 2) / _SOFTNESS
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


def _mixture(places: Float[np.ndarray, "n d"], count: int, seed: int) -> GaussianMixture:
    direction = places / np.maximum(np.linalg.norm(places, axis=1, keepdims=True), 1e-12)
    label = KMeans(count, n_init=_STARTS, random_state=seed).fit_predict(direction)
    means = np.stack([places[label == k].mean(axis=0) for k in range(count)])
    model = GaussianMixture(count, covariance_type="tied", reg_covar=_FLOOR, means_init=means, random_state=seed)
    return model.fit(places)
