"""Query strategies of active learning: which particles to label next (HAL and published alternatives).

A strategy gets embeddings, the probabilities of the current classifier and which particles are labeled. It returns
rows, the most informative first. Nothing here trains a classifier or knows a label.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int64
from numpy.typing import NDArray

_TINY = 1e-10
_NEIGHBORS = 20
_MAX_CLUSTERS = 500
_CHUNK = 4096
_MAX_CANDIDATES_PER_LABEL = 100


@dataclass(frozen=True)
class QueryConfig:
    """Settings of the query strategies."""

    subsets: int = 10
    """Parts of a query, each selected given those before it; the released code of HAL does not fix a number."""
    uncertainty: Literal["margin", "entropy"] = "margin"
    """Uncertainty in HAL: a small difference between the two most probable classes, or a large entropy in nats as in
    the released code. Where noise makes particles uncertain, entropy selects the noisiest."""
    uncertainty_weight: float = 1.0
    """Weight of the uncertainty relative to the probability of being unlabeled; 1 in the released code."""
    candidates: int = 4
    """Each part of a query is selected among this many times as many unlabeled particles, drawn at random. 0 takes all
    up to 100 per labeled particle, as in the released code."""
    stop_accuracy: float = 0.98
    """Accuracy at which the discriminator of labeled and unlabeled particles stops training; beyond it all unlabeled
    particles would get the same probability."""
    balanced: bool = True
    """Whether labeled and unlabeled particles have equal total weight in the loss of the discriminator; by mistake not
    so in the released code."""
    epochs: int = 30
    """Largest number of epochs of the discriminator; 300 in the released code."""


Discriminator = Callable[
    [NDArray[np.float32], NDArray[np.int64], NDArray[np.int64], QueryConfig, int], NDArray[np.float64]
]
"""Function of standardized embeddings, labeled rows, unlabeled rows, settings and a seed. It trains a discriminator and
returns the probability of each unlabeled row to be unlabeled; see `tomosift.models.label_discriminator`."""


@dataclass(frozen=True, eq=False)
class QueryPool:
    """n particles from which a strategy selects."""

    embedding: Float[np.ndarray, "n e"]
    probability: Float[np.ndarray, "n k"]
    """Class probabilities by the current classifier; uniform where there is none yet."""
    is_labeled: Bool[np.ndarray, " n"]
    settings: QueryConfig = field(default_factory=QueryConfig)
    discriminate: Discriminator | None = None
    """Required by the strategies ``discriminative`` and ``hal``."""

    @property
    def unlabeled(self) -> Int64[np.ndarray, " u"]:
        """Rows that can be selected."""
        return np.flatnonzero(~self.is_labeled)


QueryStrategy = Callable[[QueryPool, int, np.random.Generator], NDArray[np.int64]]


def select_queries(name: str, pool: QueryPool, count: int, rng: np.random.Generator) -> Int64[np.ndarray, " q"]:
    """Select the rows to label next.

    Parameters
    ----------
    name
        One of `QUERY_STRATEGIES`.
    pool
        Particles from which to select.
    count
        Number of rows; all unlabeled ones where there are fewer.
    rng
        Source of random numbers.

    Returns
    -------
    array
        (q,) rows, the most informative first.

    Raises
    ------
    ValueError
        There is no such strategy, or ``count`` is below one.

    Examples
    --------
    >>> import numpy as np
    >>> probability = np.array([[0.5, 0.5], [0.9, 0.1], [0.6, 0.4]])
    >>> pool = QueryPool(np.eye(3), probability, is_labeled=np.zeros(3, dtype=bool))
    >>> select_queries("margin", pool, 2, np.random.default_rng(0)).tolist()
    [0, 2]
    """
    if name not in QUERY_STRATEGIES:
        raise ValueError(f"query is {name!r}, expected one of {', '.join(QUERY_STRATEGIES)}")
    if count < 1:
        raise ValueError(f"count is {count}, expected at least 1 particle")
    count = min(count, len(pool.unlabeled))
    return _STRATEGIES[name](pool, count, rng) if count else np.zeros(0, dtype=np.int64)


def entropy(probability: Float[np.ndarray, "n k"]) -> Float[np.ndarray, " n"]:
    """Return the entropy of each row in nats, not divided by its largest value."""
    return np.asarray(-(probability * np.log(probability + _TINY)).sum(axis=1))


def margin(probability: Float[np.ndarray, "n k"]) -> Float[np.ndarray, " n"]:
    """Return the difference between the two highest probabilities of each row."""
    highest = np.sort(probability, axis=1)[:, -2:]
    return np.asarray(highest[:, 1] - highest[:, 0])


def _random(pool: QueryPool, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw rows at random."""
    return rng.choice(pool.unlabeled, count, replace=False)


def _entropy(pool: QueryPool, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Select the rows of highest entropy."""
    rows = rng.permutation(pool.unlabeled)  # breaks ties at random, not by the order of the set
    return rows[np.argsort(-entropy(pool.probability[rows]), kind="stable")[:count]]


def _margin(pool: QueryPool, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Select the rows of smallest margin."""
    rows = rng.permutation(pool.unlabeled)
    return rows[np.argsort(margin(pool.probability[rows]), kind="stable")[:count]]


def _core_set(pool: QueryPool, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Greedy k-center: repeatedly the particle farthest from all labeled ones (Sener & Savarese 2018)."""
    x = _standardize(pool.embedding)
    rows = pool.unlabeled
    distance = _distance_to_nearest(x[rows], x[pool.is_labeled])
    if not pool.is_labeled.any():
        distance = np.linalg.norm(x[rows] - x[rng.choice(rows)], axis=1)
    selection = np.empty(count, dtype=np.int64)
    for k in range(count):
        farthest = int(distance.argmax())
        selection[k] = rows[farthest]
        distance = np.minimum(distance, np.linalg.norm(x[rows] - x[rows[farthest]], axis=1))
        distance[farthest] = -1.0
    return selection


def _typical(pool: QueryPool, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """The most typical particle of each of the largest clusters that have no label yet (Hacohen et al. 2022)."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neighbors import NearestNeighbors

    x = _standardize(pool.embedding)
    clusters = min(int(pool.is_labeled.sum()) + count, _MAX_CLUSTERS, len(x))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # equal embeddings make fewer clusters, which is fine
        member = KMeans(clusters, n_init=1, random_state=int(rng.integers(2**31))).fit_predict(x)
    neighbors = min(_NEIGHBORS, len(x) - 1)
    distance = NearestNeighbors(n_neighbors=neighbors + 1).fit(x).kneighbors(x)[0][:, 1:].mean(axis=1)
    is_taken = pool.is_labeled.copy()
    selection: list[int] = []
    while len(selection) < count:
        free = np.bincount(member[~is_taken], minlength=clusters)
        labels = np.bincount(member[is_taken], minlength=clusters)
        # Fewest labels first, then the largest of these clusters.
        cluster = np.lexsort((-free, np.where(free > 0, labels, len(x))))[0]
        rows = np.flatnonzero((member == cluster) & ~is_taken)
        selection.append(int(rows[distance[rows].argmin()]))
        is_taken[selection[-1]] = True
    return np.array(selection, dtype=np.int64)


def _hybrid(pool: QueryPool, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Select by discriminator and uncertainty."""
    return _select_discriminatively(pool, count, rng, pool.settings.uncertainty_weight)


def _discriminative(pool: QueryPool, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Select by discriminator alone."""
    return _select_discriminatively(pool, count, rng, 0.0)


def _select_discriminatively(pool: QueryPool, count: int, rng: np.random.Generator, weight: float) -> NDArray[np.int64]:
    """Select the rows that a discriminator classifies as unlabeled, part by part, plus the weighted uncertainty.

    Source: the released code of HAL (hybrid active learning), which goes back to Gissin & Shalev-Shwartz 2019,
    "Discriminative active learning". Selected rows count as labeled for the discriminator of the next part, which is
    trained anew; the classifier is not. Deviations: a perceptron of two layers on embeddings instead of a convolutional
    feature map, which the default encoder does not have; those stated in `QueryConfig`.
    """
    settings = pool.settings
    if pool.discriminate is None:
        raise ValueError("the strategy trains a discriminator, but the pool has none; set QueryPool.discriminate")
    uncertainty = entropy(pool.probability) if settings.uncertainty == "entropy" else 1 - margin(pool.probability)
    is_taken = pool.is_labeled.copy()
    if not is_taken.any():  # nothing to discriminate from
        return _random(pool, count, rng)
    x = _standardize(pool.embedding).astype(np.float32)
    selection: list[NDArray[np.int64]] = []
    sizes = [len(part) for part in np.array_split(np.arange(count), min(settings.subsets, count))]
    for size in sizes:
        rest = np.flatnonzero(~is_taken)
        limit = settings.candidates * size or max(size, _MAX_CANDIDATES_PER_LABEL * int(is_taken.sum()))
        candidates = rng.choice(rest, min(len(rest), limit), replace=False)
        seed = int(rng.integers(2**31))
        novelty = pool.discriminate(x, np.flatnonzero(is_taken), candidates, settings, seed)
        order = np.argsort(-(novelty + weight * uncertainty[candidates]), kind="stable")
        selection.append(candidates[order[:size]])
        is_taken[selection[-1]] = True
    return np.concatenate(selection)


def _standardize(embedding: NDArray[np.floating]) -> NDArray[np.float64]:
    """Zero mean and unit variance in each dimension."""
    x = np.asarray(embedding, dtype=np.float64)
    return (x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 1e-6)  # type: ignore[no-any-return]


def _distance_to_nearest(points: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance of each point to the nearest of the others; infinite where there are none."""
    from scipy.spatial.distance import cdist

    if not len(others):
        return np.full(len(points), np.inf)
    parts = [cdist(points[k : k + _CHUNK], others).min(axis=1) for k in range(0, len(points), _CHUNK)]
    return np.concatenate(parts)


QUERY_STRATEGIES: dict[str, str] = {
    "random": "Particles drawn at random.",
    "entropy": "Particles of the highest entropy of the class probabilities.",
    "margin": "Particles of the smallest difference between the two most probable classes.",
    "core-set": "Particles farthest from every labeled one (k-center).",
    "typical": "The most typical particle of each large cluster without a label (TypiClust); for the first labels.",
    "discriminative": "Particles that a discriminator separates best from the labeled ones (DAL).",
    "hal": "Particles that a discriminator separates from the labeled ones and that are uncertain (HAL).",
}
"""Name of each strategy, and what it selects."""

_STRATEGIES: dict[str, QueryStrategy] = {
    "random": _random,
    "entropy": _entropy,
    "margin": _margin,
    "core-set": _core_set,
    "typical": _typical,
    "discriminative": _discriminative,
    "hal": _hybrid,
}
