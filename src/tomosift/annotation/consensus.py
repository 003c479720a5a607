"""What holds now, from all events of a store: answers, majorities, and how far people agree."""

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from tomosift.annotation.store import JUNK, Event, Store
from tomosift.evaluation.metrics.classification import wilson

LABELS_PER_ROUND = 5
"""New labels after which the model learns again, and after which the curve gets a point."""
LABELS_TO_JUDGE = 50
"""The accuracy of guesses is that of the last so many."""


@dataclass(frozen=True)
class Agreement:
    """How far two people agree beyond chance."""

    first: str
    second: str
    kappa: float
    """Cohen's kappa; NaN where both only ever named one and the same class."""
    count: int
    """Particles that both have named."""


@dataclass(frozen=True)
class GuessAccuracy:
    """Share of labels that the model had guessed, with its 95 % interval."""

    labels: int
    """Labels there were by then."""
    share: float
    low: float
    high: float
    count: int
    """Labels that the share is taken of."""


@dataclass(frozen=True, eq=False)
class Consensus:
    """The newest answer of each person on each particle that is not taken back, in the order of answering."""

    events: tuple[Event, ...]

    @cached_property
    def names(self) -> dict[int, dict[str, str]]:
        """Row -> person -> class, of labels and junk only."""
        found: dict[int, dict[str, str]] = {}
        for event in self.events:
            if name := named(event):
                found.setdefault(event.row, {})[event.annotator] = name
        return found

    @cached_property
    def majority(self) -> dict[int, str]:
        """Row -> the class that more than half of those who named one gave, where there is one."""
        return {row: name for row, votes in self.names.items() if (name := _most(list(votes.values())))}

    @cached_property
    def disagreements(self) -> tuple[int, ...]:
        """Rows that people named differently."""
        return tuple(row for row, votes in self.names.items() if len(set(votes.values())) > 1)

    @cached_property
    def agreements(self) -> tuple[Agreement, ...]:
        """Every two people who have named the same particles."""
        people = sorted({event.annotator for event in self.events})
        found = []
        for first, second in combinations(people, 2):
            both = [(votes[first], votes[second]) for votes in self.names.values() if {first, second} <= votes.keys()]
            if both:
                found.append(Agreement(first, second, cohen_kappa(*zip(*both, strict=True)), len(both)))
        return tuple(found)

    @cached_property
    def curve(self) -> tuple[GuessAccuracy, ...]:
        """How often guesses were right, after every round of labels.

        Only particles that were labeled one at a time and unknown to the model count. The queue asks for those of which
        the model is least sure, so over all particles it is likely to be better.
        """
        right = np.array([named(event) == event.guess for event in self._guessed], dtype=float)
        labels = np.array([k + 1 for k, event in enumerate(self._labels) if event.guess])
        ends = sorted({*range(LABELS_PER_ROUND, len(right) + 1, LABELS_PER_ROUND), len(right)} - {0})
        counts = np.array([min(end, LABELS_TO_JUDGE) for end in ends], dtype=np.int64)
        shares = np.array([right[max(0, end - LABELS_TO_JUDGE) : end].mean() for end in ends])
        low, high = wilson(shares, counts)
        return tuple(
            GuessAccuracy(int(labels[end - 1]), float(shares[k]), float(low[k]), float(high[k]), int(counts[k]))
            for k, end in enumerate(ends)
        )

    @cached_property
    def _labels(self) -> list[Event]:
        return [event for event in self.events if named(event)]

    @cached_property
    def _guessed(self) -> list[Event]:
        return [event for event in self._labels if event.guess]


class ConsensusTracker:
    """Follows a store, also what other programs write into it."""

    def __init__(self, store: Store) -> None:
        self._store, self._lock = store, threading.Lock()
        self._seen, self._undone = 0, set[int]()
        self._said: dict[tuple[int, str], list[Event]] = {}
        self._answers = Consensus(())

    def answers(self) -> Consensus:
        """What holds now; the same object until something is added."""
        with self._lock:
            fresh = self._store.events(self._seen)
            if not fresh:
                return self._answers
            for event in fresh:
                if event.kind == "undo":
                    self._undone.add(event.undone or 0)
                else:
                    self._said.setdefault((event.row, event.annotator), []).append(event)
            self._seen = fresh[-1].id
            newest = (
                next((event for event in reversed(said) if event.id not in self._undone), None)
                for said in self._said.values()
            )
            self._answers = Consensus(tuple(sorted((e for e in newest if e is not None), key=lambda event: event.id)))
            return self._answers


def named(event: Event) -> str:
    """Class that an answer gives the particle; empty for unsure and skipped ones."""
    return JUNK if event.kind == "junk" else event.class_name


def cohen_kappa(first: Sequence[str], second: Sequence[str]) -> float:
    """Agreement of two people on the same particles beyond what their class shares alone would give, at most 1.

    Source: Cohen 1960, Educ. Psychol. Meas. 20, 37.
    """
    one, other = Counter(first), Counter(second)
    observed = sum(a == b for a, b in zip(first, second, strict=True)) / len(first)
    expected = sum(one[name] * other[name] for name in one) / len(first) ** 2
    return (observed - expected) / (1 - expected) if expected < 1 else float("nan")


def majority_rows(answers: Consensus) -> tuple[NDArray[np.int64], NDArray[np.object_]]:
    """Rows that have a majority, ascending, and their classes."""
    rows = np.array(sorted(answers.majority), dtype=np.int64)
    return rows, np.array([answers.majority[int(row)] for row in rows], dtype=object)


def _most(names: list[str]) -> str:
    name, votes = Counter(names).most_common(1)[0]
    return name if 2 * votes > len(names) else ""
