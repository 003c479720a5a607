"""n-way k-shot episodes on embeddings: accuracy of classification by a few examples of each class, with intervals.

Source: the evaluation of Li et al. 2020, "Few-shot learning for classification of novel macromolecular structures in
cryo-electron tomograms", PLoS Comput. Biol. 16:e1008227: means over episodes of accuracy, macro and micro precision,
with 1.96 standard errors. Deviation: the head decides how a query is compared with the mean of each class.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray

from tomosift.inference.heads import PrototypeHead

QUERIES = 15
"""Query particles of each class in an episode, as in that paper's code."""


@dataclass(frozen=True)
class Mean:
    """A mean over episodes and half the width of its 95 % interval."""

    value: float
    half_width: float

    def __str__(self) -> str:
        return f"{self.value:.3f} +- {self.half_width:.3f}"


@dataclass(frozen=True)
class EpisodeScores:
    """Means of scores over episodes."""

    accuracy: Mean
    """As every class has the same number of queries, this is the micro precision and the macro recall as well."""
    macro_precision: Mean
    """Precision of each class, mean over classes; 0 for a class that is never predicted."""
    macro_f1: Mean
    """Harmonic mean of precision and recall of a class, mean over classes."""


@torch.inference_mode()
def score_episodes(
    embeddings: Float[np.ndarray, "n e"],
    label: Int[np.ndarray, " n"],
    head: PrototypeHead,
    *,
    ways: int = 5,
    shots: int = 5,
    queries: int = QUERIES,
    episodes: int = 600,
    seed: int = 0,
) -> EpisodeScores:
    """Draw episodes and score the classification of their queries.

    Parameters
    ----------
    embeddings
        Of n particles.
    label
        Index of the class of each particle; those of label -1 are not drawn.
    head
        Compares queries with the mean of the examples of each class.
    ways, shots, queries
        Classes of an episode, and examples and queries of each.
    episodes
        Number of episodes.
    seed
        Of the draws.

    Raises
    ------
    ValueError
        Fewer than ``ways`` classes have enough particles, or a number is below 1.

    Examples
    --------
    >>> from tomosift.inference.heads import CosineHead
    >>> embeddings = np.repeat(np.eye(4, dtype=np.float32), 20, axis=0)
    >>> head = CosineHead(4, 0)
    >>> head.standardize(torch.from_numpy(embeddings))
    >>> str(score_episodes(embeddings, np.repeat(np.arange(4), 20), head, ways=3, shots=1, episodes=10).accuracy)
    '1.000 +- 0.000'
    """
    if min(ways, shots, queries, episodes) < 1:
        raise ValueError(f"ways, shots, queries and episodes are {ways}, {shots}, {queries}, {episodes}, expected >= 1")
    members = _select_classes(label, shots + queries, ways)
    embedding = torch.from_numpy(embeddings)
    rng = np.random.default_rng([seed, 31])
    accuracy, precision, f1 = np.zeros(episodes), np.zeros(episodes), np.zeros(episodes)
    truth = np.repeat(np.arange(ways), queries)
    for episode in range(episodes):
        chosen = rng.permutation(list(members))[:ways]
        rows = np.stack([rng.permutation(members[int(k)])[: shots + queries] for k in chosen])
        prototypes = embedding[rows[:, :shots]].mean(dim=1)
        predicted = head.compare(embedding[rows[:, shots:].ravel()], prototypes).argmax(dim=1).numpy()
        accuracy[episode] = (predicted == truth).mean()
        predictions = np.bincount(predicted, minlength=ways)
        right = np.bincount(predicted[predicted == truth], minlength=ways)
        precision[episode] = (right / np.maximum(predictions, 1)).mean()
        f1[episode] = (2 * right / (predictions + queries)).mean()
    return EpisodeScores(_mean(accuracy), _mean(precision), _mean(f1))


def _select_classes(label: Int[np.ndarray, " n"], min_particles: int, ways: int) -> dict[int, NDArray[np.int64]]:
    """Return the rows of each class that has enough particles for an episode."""
    members = {int(k): np.flatnonzero(label == k) for k in np.unique(label[label >= 0])}
    members = {k: rows for k, rows in members.items() if len(rows) >= min_particles}
    if len(members) < ways:
        raise ValueError(f"{len(members)} classes have {min_particles} particles, expected at least {ways}")
    return members


def _mean(values: NDArray[np.float64]) -> Mean:
    return Mean(float(values.mean()), float(1.96 * values.std() / np.sqrt(len(values))))
