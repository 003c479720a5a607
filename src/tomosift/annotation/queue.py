"""Order of the queries, selected in advance by the query strategies of active learning."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

from tomosift.learning.query_strategies import QueryPool, margin, select_queries
from tomosift.models.label_discriminator import unlabeled_probability

_QUERIES = 48
"""Particles that a strategy selects at a time; before all of them are labeled, the model has learned again."""
_MAX_CANDIDATES = 4000
"""Particles among which it selects, drawn at random: the nearest neighbors of more would take minutes."""


@dataclass(frozen=True, eq=False)
class LabelingQueue:
    """Rows of a set in the order of the queries; selected in advance, so that no annotator waits.

    Examples
    --------
    >>> import numpy as np
    >>> LabelingQueue(np.array([5, 2, 0]), "random").select(2, np.arange(6) == 5).tolist()
    [2, 0]
    """

    rows: Int[np.ndarray, " m"]
    reason: str
    """Why this queue selects a particle, for the annotator."""

    def select(self, count: int, is_excluded: Bool[np.ndarray, " n"]) -> NDArray[np.int64]:
        """Return at most ``count`` rows, the first of those that are not excluded.

        Parameters
        ----------
        count
            Number of rows.
        is_excluded
            For each of the n particles of the set.
        """
        return np.asarray(self.rows[~is_excluded[self.rows]][:count], dtype=np.int64)


def build_random_queue(rows: Int[np.ndarray, " m"]) -> LabelingQueue:
    """Build a queue for a set of which no particle is embedded yet."""
    return LabelingQueue(np.random.default_rng(0).permutation(rows), "drawn at random from the set")


def build_strategy_queue(
    rows: Int[np.ndarray, " m"],
    embeddings: Float[np.ndarray, "m d"],
    probabilities: Float[np.ndarray, "m k"],
    labeled: Int[np.ndarray, " l"],
    seed: int,
) -> LabelingQueue:
    """Build a queue by a query strategy: typical particles before two classes have labels, then those selected by HAL.

    All other unlabeled particles follow, those with the smallest margin between two classes first.

    Parameters
    ----------
    rows
        Rows of the set that are embedded.
    embeddings
        Their standardized embeddings.
    probabilities
        Their class probabilities; k is 0 before two classes have labels.
    labeled
        Positions in ``rows`` of labeled particles.
    seed
        Determines the random candidates.
    """
    rng = np.random.default_rng([seed, len(labeled)])
    has_predictions = probabilities.shape[1] > 0
    probability = probabilities if has_predictions else np.ones((len(rows), 1))
    is_labeled = np.zeros(len(rows), dtype=bool)
    is_labeled[labeled] = True
    unlabeled = np.flatnonzero(~is_labeled)
    candidates = rng.choice(unlabeled, min(len(unlabeled), _MAX_CANDIDATES), replace=False)
    members = np.concatenate((labeled, candidates))
    pool = QueryPool(
        np.asarray(embeddings[members]),
        probability[members],
        is_labeled[members],
        discriminate=unlabeled_probability,
    )
    first = members[select_queries("hal" if has_predictions else "typical", pool, _QUERIES, rng)]
    rest = rng.permutation(np.setdiff1d(unlabeled, first))
    if has_predictions:
        rest = rest[np.argsort(margin(probability[rest]), kind="stable")]
    reason = "unlike the labeled ones and uncertain" if has_predictions else "typical of similar particles"
    return LabelingQueue(rows[np.concatenate((first, rest))], reason)
