"""n-way k-shot episodes on embeddings: how well a few examples of each class name others, with intervals.

Source: the evaluation of Li et al. 2020, "Few-shot learning for classification of novel macromolecular structures in
cryo-electron tomograms", PLoS Comput. Biol. 16:e1008227: means over episodes of accuracy, macro and micro precision,
with 1.96 standard errors. Deviation: how a particle is compared with the mean of each class is up to the head.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray

from tomosift.inference.heads import PrototypeHead

QUERIES = 15
"""Particles of each class that an episode asks for, as in that paper's code."""


@dataclass(frozen=True)
class Mean:
    """A mean over episodes and half the width of its 95 % interval."""

    value: float
    half_width: float

    def __str__(self) -> str:
        return f"{self.value:.3f} +- {self.half_width:.3f}"


@dataclass(frozen=True)
class EpisodeScores:
    """What came of the episodes."""

    accuracy: Mean
    """With as many queries of each class it is the micro precision and the macro recall as well."""
    macro_precision: Mean
    """Share of right ones among the particles given to a class, mean over classes; 0 for a class given none."""
    macro_f1: Mean
    """Harmonic mean of precision and recall of a class, mean over classes."""


@torch.inference_mode()
def episode_scores(
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
    """Draw episodes of ``ways`` classes with ``shots`` examples and ``queries`` questions each; label -1 takes no part.

    Raises
    ------
    ValueError
        When fewer than ``ways`` classes have enough particles, or a number is below 1.
    """
    if min(ways, shots, queries, episodes) < 1:
        raise ValueError(f"ways, shots, queries and episodes are {ways}, {shots}, {queries}, {episodes}, expected >= 1")
    members = {int(k): np.flatnonzero(label == k) for k in np.unique(label[label >= 0])}
    members = {k: rows for k, rows in members.items() if len(rows) >= shots + queries}
    if len(members) < ways:
        raise ValueError(f"{len(members)} classes have {shots + queries} particles, expected at least {ways}")
    given = torch.from_numpy(embeddings)
    rng = np.random.default_rng([seed, 31])
    accuracy, precision, f1 = np.zeros(episodes), np.zeros(episodes), np.zeros(episodes)
    truth = np.repeat(np.arange(ways), queries)
    for episode in range(episodes):
        chosen = rng.permutation(list(members))[:ways]
        rows = np.stack([rng.permutation(members[int(k)])[: shots + queries] for k in chosen])
        prototypes = given[rows[:, :shots]].mean(dim=1)
        said = head.compare(given[rows[:, shots:].ravel()], prototypes).argmax(dim=1).numpy()
        accuracy[episode] = (said == truth).mean()
        answered = np.bincount(said, minlength=ways)
        right = np.bincount(said[said == truth], minlength=ways)
        precision[episode] = (right / np.maximum(answered, 1)).mean()
        f1[episode] = (2 * right / (answered + queries)).mean()
    return EpisodeScores(_mean(accuracy), _mean(precision), _mean(f1))


def _mean(values: NDArray[np.float64]) -> Mean:
    return Mean(float(values.mean()), float(1.96 * values.std() / np.sqrt(len(values))))
