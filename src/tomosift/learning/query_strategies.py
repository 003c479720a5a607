"""Which particles to have labeled next: query strategies of active learning, HAL and what it is compared with.

A strategy sees embeddings, the current classifier's probabilities and which particles are labeled; it names rows, the
most wanted first. Nothing here trains a classifier or knows a label.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int64
from numpy.typing import NDArray

from tomosift.learning.calibration import softmax
from tomosift.learning.linear_probe import fit_linear_probe

_TINY = 1e-10
_NEIGHBORS = 20
_MOST_CLUSTERS = 500
_CHUNK = 4096
_MOST_OF_ALL = 100


@dataclass(frozen=True)
class QueryConfig:
    """How particles are asked for."""

    subsets: int = 10
    """Parts of a query, of which each is chosen knowing those before; the released code of HAL leaves it open."""
    uncertainty: Literal["margin", "entropy"] = "margin"
    """What HAL calls uncertain: a small distance of the two likeliest classes, or a large entropy in nats as in the
    released code. Where noise is what makes particles uncertain, entropy asks for the noisiest."""
    uncertainty_weight: float = 1.0
    """Of the uncertainty beside the probability of being unlabeled; 1 in the released code."""
    candidates: int = 4
    """Each part of a query is chosen among so many times as many unlabeled particles, drawn at random; 0 takes all, up
    to 100 for each labeled one, as in the released code."""
    stop_accuracy: float = 0.98
    """A discriminator that tells labeled from unlabeled particles this well stops learning, or all are told alike."""
    balanced: bool = True
    """Labeled and unlabeled particles count alike for the discriminator; by a slip not so in the released code."""
    epochs: int = 30
    """Most passes of the discriminator over what it learns from; 300 in the released code."""


Discriminator = Callable[
    [NDArray[np.float32], NDArray[np.int64], NDArray[np.int64], QueryConfig, int], NDArray[np.float64]
]
"""Trains on standardized embeddings, labeled rows, unlabeled rows, settings and a seed; returns the probability of each
unlabeled row to be unlabeled. `tomosift.models.label_discriminator` has the one of HAL."""


@dataclass(frozen=True, eq=False)
class QueryPool:
    """n particles as a strategy sees them."""

    embedding: Float[np.ndarray, "n e"]
    probability: Float[np.ndarray, "n k"]
    """What the current classifier says; uniform where there is none yet."""
    is_labeled: Bool[np.ndarray, " n"]
    settings: QueryConfig = field(default_factory=QueryConfig)
    discriminate: Discriminator | None = None
    """Trained by the strategies `discriminative` and `hal`."""

    @property
    def unlabeled(self) -> Int64[np.ndarray, " u"]:
        """Rows that may be asked for."""
        return np.flatnonzero(~self.is_labeled)


QueryStrategy = Callable[[QueryPool, int, np.random.Generator], NDArray[np.int64]]


def select_queries(name: str, pool: QueryPool, count: int, rng: np.random.Generator) -> Int64[np.ndarray, " q"]:
    """Rows to label next, no more than there are unlabeled ones, by the strategy of this name.

    Raises
    ------
    ValueError
        When there is no such strategy or fewer than one particle is asked for.
    """
    if name not in QUERY_STRATEGIES:
        raise ValueError(f"query is {name!r}, expected one of {', '.join(QUERY_STRATEGIES)}")
    if count < 1:
        raise ValueError(f"count is {count}, expected at least 1 particle to ask for")
    count = min(count, len(pool.unlabeled))
    return _STRATEGIES[name](pool, count, rng) if count else np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class QueryRounds:
    """How many particles are asked for when."""

    query: str = "hal"
    """Name of the strategy."""
    first: str = "typical"
    """Strategy of the first round, when there is no classifier yet."""
    first_labels: int = 20
    """Particles of the first round."""
    labels_per_round: int = 20
    """Particles of every other one."""
    settings: QueryConfig = field(default_factory=QueryConfig)

    def __post_init__(self) -> None:
        for name in ("query", "first"):
            if getattr(self, name) not in QUERY_STRATEGIES:
                raise ValueError(f"{name} is {getattr(self, name)!r}, expected one of {', '.join(QUERY_STRATEGIES)}")
        for name in ("first_labels", "labels_per_round"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 1")


def query_in_rounds(
    embedding: Float[np.ndarray, "n e"],
    answer: Callable[[NDArray[np.int64]], NDArray[np.int64]],
    classes: int,
    rounds: QueryRounds,
    labels: int,
    seed: int,
    discriminate: Discriminator | None = None,
) -> Int64[np.ndarray, " q"]:
    """Rows in the order in which they were asked for, ``labels`` in all.

    ``answer`` gives the class of rows, -1 where it has none. Between rounds a probe learns from the answers so far. A
    longer series begins with the rows of a shorter one, unless that ends within a round.
    """
    rng = np.random.default_rng(seed)
    label = np.full(len(embedding), -1)
    is_asked = np.zeros(len(embedding), dtype=bool)
    order = np.zeros(0, dtype=np.int64)
    probability = np.full((len(embedding), classes), 1 / classes)
    while len(order) < min(labels, len(embedding)):
        name = rounds.query if len(order) else rounds.first
        wanted = rounds.labels_per_round if len(order) else rounds.first_labels
        pool = QueryPool(embedding, probability, is_asked, rounds.settings, discriminate)
        rows = select_queries(name, pool, min(wanted, labels - len(order)), rng)
        order, label[rows] = np.concatenate((order, rows)), answer(rows)
        is_asked[rows] = True
        if (label >= 0).any():
            logits = fit_linear_probe(embedding, label, classes).logits(embedding)
            probability = softmax(logits)
    return order


def entropy(probability: Float[np.ndarray, "n k"]) -> Float[np.ndarray, " n"]:
    """In nats, not divided by its largest value."""
    return np.asarray(-(probability * np.log(probability + _TINY)).sum(axis=1))


def margin(probability: Float[np.ndarray, "n k"]) -> Float[np.ndarray, " n"]:
    """Of the likeliest class over the next one."""
    best = np.sort(probability, axis=1)[:, -2:]
    return np.asarray(best[:, 1] - best[:, 0])


def _random(pool: QueryPool, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    return rng.choice(pool.unlabeled, count, replace=False)


def _entropy(pool: QueryPool, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    rows = rng.permutation(pool.unlabeled)  # equals are drawn, not taken in the order of the set
    return rows[np.argsort(-entropy(pool.probability[rows]), kind="stable")[:count]]


def _margin(pool: QueryPool, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    rows = rng.permutation(pool.unlabeled)
    return rows[np.argsort(margin(pool.probability[rows]), kind="stable")[:count]]


def _core_set(pool: QueryPool, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Greedy k-center: the particle farthest from all labeled ones, again and again (Sener & Savarese 2018)."""
    x = _scaled(pool.embedding)
    rows = pool.unlabeled
    nearest = _to_nearest(x[rows], x[pool.is_labeled])
    if not pool.is_labeled.any():
        nearest = np.linalg.norm(x[rows] - x[rng.choice(rows)], axis=1)
    chosen = np.empty(count, dtype=np.int64)
    for place in range(count):
        best = int(nearest.argmax())
        chosen[place] = rows[best]
        nearest = np.minimum(nearest, np.linalg.norm(x[rows] - x[rows[best]], axis=1))
        nearest[best] = -1.0
    return chosen


def _typical(pool: QueryPool, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """The most typical particle of each of the largest clusters that hold no label yet (Hacohen et al. 2022)."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neighbors import NearestNeighbors

    x = _scaled(pool.embedding)
    wanted = min(int(pool.is_labeled.sum()) + count, _MOST_CLUSTERS, len(x))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # equal embeddings make fewer clusters, which is well
        member = KMeans(wanted, n_init=1, random_state=int(rng.integers(2**31))).fit_predict(x)
    near = min(_NEIGHBORS, len(x) - 1)
    distance = NearestNeighbors(n_neighbors=near + 1).fit(x).kneighbors(x)[0][:, 1:].mean(axis=1)
    taken = pool.is_labeled.copy()
    chosen: list[int] = []
    while len(chosen) < count:
        free = np.bincount(member[~taken], minlength=wanted)
        held = np.bincount(member[taken], minlength=wanted)
        # Fewest labels first, the largest of these clusters.
        cluster = np.lexsort((-free, np.where(free > 0, held, len(x))))[0]
        rows = np.flatnonzero((member == cluster) & ~taken)
        chosen.append(int(rows[distance[rows].argmin()]))
        taken[chosen[-1]] = True
    return np.array(chosen, dtype=np.int64)


def _hybrid(pool: QueryPool, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    return _discriminated(pool, count, rng, pool.settings.uncertainty_weight)


def _discriminative(pool: QueryPool, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    return _discriminated(pool, count, rng, 0.0)


def _discriminated(pool: QueryPool, count: int, rng: np.random.Generator, weight: float) -> NDArray[np.int64]:
    """Part by part, those that a discriminator takes for unlabeled, with or without the classifier's uncertainty.

    Source: the released code of HAL (hybrid active learning), which goes back to Gissin & Shalev-Shwartz 2019,
    "Discriminative active learning". What was chosen counts as labeled for the next part's discriminator, which is
    trained anew; the classifier is not. Deviations: embeddings instead of a convolutional map, which the default
    encoder does not have, under a perceptron of two layers; what `QuerySettings` says.
    """
    settings = pool.settings
    if pool.discriminate is None:
        raise ValueError("the strategy trains a discriminator, but the pool has none; set QueryPool.discriminate")
    uncertain = entropy(pool.probability) if settings.uncertainty == "entropy" else 1 - margin(pool.probability)
    taken = pool.is_labeled.copy()
    if not taken.any():  # nothing to be unlike of
        return _random(pool, count, rng)
    x = _scaled(pool.embedding).astype(np.float32)
    chosen: list[NDArray[np.int64]] = []
    sizes = [len(part) for part in np.array_split(np.arange(count), min(settings.subsets, count))]
    for size in sizes:
        rest = np.flatnonzero(~taken)
        looked_at = settings.candidates * size or max(size, _MOST_OF_ALL * int(taken.sum()))
        seen = rng.choice(rest, min(len(rest), looked_at), replace=False)
        told = pool.discriminate(x, np.flatnonzero(taken), seen, settings, int(rng.integers(2**31)))
        best = seen[np.argsort(-(told + weight * uncertain[seen]), kind="stable")[:size]]
        chosen.append(best)
        taken[best] = True
    return np.concatenate(chosen)


def _scaled(embedding: NDArray[np.floating]) -> NDArray[np.float64]:
    x = np.asarray(embedding, dtype=np.float64)
    return (x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 1e-6)  # type: ignore[no-any-return]


def _to_nearest(points: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.spatial.distance import cdist

    if not len(others):
        return np.full(len(points), np.inf)
    parts = [cdist(points[k : k + _CHUNK], others).min(axis=1) for k in range(0, len(points), _CHUNK)]
    return np.concatenate(parts)


QUERY_STRATEGIES: dict[str, str] = {
    "random": "Any of them.",
    "entropy": "Those of which the classifier is least sure, by the entropy of its probabilities.",
    "margin": "Those whose two likeliest classes are nearest to each other.",
    "core-set": "Those farthest from every labeled one (k-center).",
    "typical": "The most typical of each large group without a label (TypiClust): for the first labels.",
    "discriminative": "Those that a discriminator tells best from the labeled ones (DAL).",
    "hal": "Both: told from the labeled ones, and uncertain (HAL).",
}
"""Name of each strategy, and what it asks for."""

_STRATEGIES: dict[str, QueryStrategy] = {
    "random": _random,
    "entropy": _entropy,
    "margin": _margin,
    "core-set": _core_set,
    "typical": _typical,
    "discriminative": _discriminative,
    "hal": _hybrid,
}
