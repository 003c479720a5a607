"""Consensus of annotators: the current answers, majorities and agreement that follow from all events of a store."""

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from tomosift.annotation.store import Event, Store
from tomosift.evaluation.metrics.intervals import wilson_interval

LABELS_PER_ROUND = 5
"""New labels after which the model learns again, and after which the accuracy curve gets a point."""
ACCURACY_WINDOW = 50
"""The accuracy of predictions is that for the last so many labels."""


@dataclass(frozen=True)
class Agreement:
    """Agreement of two annotators beyond chance."""

    first: str
    second: str
    kappa: float
    """Cohen's kappa; NaN where both used one and the same class for all particles."""
    count: int
    """Particles that both have labeled."""


@dataclass(frozen=True)
class PredictionAccuracy:
    """Share of labels that the model had predicted, with its 95 % interval."""

    labels: int
    """Number of labels at that time."""
    share: float
    low: float
    high: float
    count: int
    """Labels over which the share is taken."""


@dataclass(frozen=True, eq=False)
class Consensus:
    """The newest answer of each annotator on each particle that was not undone, in the order of the answers.

    Examples
    --------
    >>> from tomosift.annotation.store import Event
    >>> answers = [Event(k, 0.0, who, f"r{k}", 7, "label", "groel", "", None) for k, who in enumerate(["ada", "bob"])]
    >>> Consensus(tuple(answers)).majority
    {7: 'groel'}
    """

    events: tuple[Event, ...]

    @cached_property
    def annotations(self) -> dict[int, dict[str, str]]:
        """Row -> annotator -> class, of labels and junk only."""
        result: dict[int, dict[str, str]] = {}
        for event in self.events:
            if name := event.class_or_junk:
                result.setdefault(event.row, {})[event.annotator] = name
        return result

    @cached_property
    def majority(self) -> dict[int, str]:
        """Row -> the class given by more than half of the annotators who gave one, where there is such a class."""
        majorities = {row: _find_majority(list(classes.values())) for row, classes in self.annotations.items()}
        return {row: name for row, name in majorities.items() if name}

    @cached_property
    def disagreements(self) -> tuple[int, ...]:
        """Rows to which annotators gave different classes."""
        return tuple(row for row, classes in self.annotations.items() if len(set(classes.values())) > 1)

    @cached_property
    def agreements(self) -> tuple[Agreement, ...]:
        """Agreement of every two annotators who have labeled the same particles."""
        annotators = sorted({event.annotator for event in self.events})
        result = []
        for first, second in combinations(annotators, 2):
            pair = {first, second}
            both = [(of[first], of[second]) for of in self.annotations.values() if pair <= of.keys()]
            if both:
                result.append(Agreement(first, second, cohen_kappa(*zip(*both, strict=True)), len(both)))
        return tuple(result)

    @cached_property
    def accuracy_curve(self) -> tuple[PredictionAccuracy, ...]:
        """Accuracy of the predictions after every round of labels.

        Only particles count that were labeled one at a time and were unlabeled before. The query strategy selects those
        with the least certain predictions, so the accuracy over all particles is probably higher.
        """
        labels = [event for event in self.events if event.class_or_junk]
        is_right = np.array([event.class_or_junk == event.guess for event in labels if event.guess], dtype=float)
        number = np.array([k + 1 for k, event in enumerate(labels) if event.guess])
        ends = sorted({*range(LABELS_PER_ROUND, len(is_right) + 1, LABELS_PER_ROUND), len(is_right)} - {0})
        counts = np.array([min(end, ACCURACY_WINDOW) for end in ends], dtype=np.int64)
        shares = np.array([is_right[max(0, end - ACCURACY_WINDOW) : end].mean() for end in ends])
        low, high = wilson_interval(shares, counts)
        return tuple(
            PredictionAccuracy(int(number[end - 1]), float(shares[k]), float(low[k]), float(high[k]), int(counts[k]))
            for k, end in enumerate(ends)
        )


class ConsensusTracker:
    """Follows a store, including what other programs write into it.

    Parameters
    ----------
    store
        Store whose events are read.
    """

    def __init__(self, store: Store) -> None:
        self._store, self._lock = store, threading.Lock()
        self._last_id, self._undone = 0, set[int]()
        self._answers: dict[tuple[int, str], list[Event]] = {}
        self._consensus = Consensus(())

    def update(self) -> Consensus:
        """Read new events and return the consensus; the same object until an event is added."""
        with self._lock:
            new = self._store.read_events(self._last_id)
            if not new:
                return self._consensus
            for event in new:
                if event.kind == "undo":
                    self._undone.add(event.undone or 0)
                else:
                    self._answers.setdefault((event.row, event.annotator), []).append(event)
            self._last_id = new[-1].id
            newest = (
                next((event for event in reversed(answers) if event.id not in self._undone), None)
                for answers in self._answers.values()
            )
            events = sorted((event for event in newest if event is not None), key=lambda event: event.id)
            self._consensus = Consensus(tuple(events))
            return self._consensus


def cohen_kappa(first: Sequence[str], second: Sequence[str]) -> float:
    """Compute the agreement of two annotators on the same particles beyond that by chance; 1 at most.

    Chance agreement is that of independent answers with the class shares of both. NaN where it is 1.

    Source: Cohen 1960, Educ. Psychol. Meas. 20, 37.

    Examples
    --------
    >>> cohen_kappa(["a", "a", "b", "b"], ["a", "a", "b", "a"])
    0.5
    """
    first_counts, second_counts = Counter(first), Counter(second)
    observed = sum(a == b for a, b in zip(first, second, strict=True)) / len(first)
    expected = sum(first_counts[name] * second_counts[name] for name in first_counts) / len(first) ** 2
    return (observed - expected) / (1 - expected) if expected < 1 else float("nan")


def list_majorities(consensus: Consensus) -> tuple[NDArray[np.int64], NDArray[np.object_]]:
    """Return the rows that have a majority, ascending, and their classes."""
    rows = np.array(sorted(consensus.majority), dtype=np.int64)
    return rows, np.array([consensus.majority[int(row)] for row in rows], dtype=object)


def _find_majority(names: list[str]) -> str:
    """Return the name that more than half of the entries have, or an empty string."""
    name, count = Counter(names).most_common(1)[0]
    return name if 2 * count > len(names) else ""
