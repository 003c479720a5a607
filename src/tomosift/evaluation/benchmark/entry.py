"""A benchmark entry: one way to use the labels, measured on the same particles and seeds as the others."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from tomosift.evaluation.benchmark.protocols import Kind
from tomosift.evaluation.benchmark.task import BenchmarkTask
from tomosift.inference.classifier import Classifier


@dataclass(frozen=True, eq=False)
class EntryResult:
    """The prediction of an entry for the n test particles."""

    probabilities: Float[np.ndarray, "n k"]
    similarity: Float[np.ndarray, " n"] | None = None
    """Similarity to the most similar labeled class; None where the entry has nothing better than confidence."""


@dataclass(frozen=True)
class Entry:
    """One entry; each module of `tomosift.evaluation.benchmark.entries` defines a table ``ENTRIES`` of them by name.

    Parameters
    ----------
    description
        What the entry does, in one sentence.
    run
        Predicts the classes of the test particles; an entry of kind ``few-shot`` returns the model whose embeddings
        are compared in episodes instead.
    kind
        The protocols that it applies to.
    """

    description: str
    run: Callable[[BenchmarkTask], EntryResult | Classifier]
    kind: Kind = "labels"
