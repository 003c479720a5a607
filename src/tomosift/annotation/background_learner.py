"""Learns in the background from the labels given so far, and says what to ask next. Nobody ever waits for it."""

import logging
import os
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from tomosift.annotation.consensus import LABELS_PER_ROUND, ConsensusTracker
from tomosift.annotation.embedding_cache import EmbeddingCache
from tomosift.annotation.queue import LabelingQueue, random_queue, strategy_queue
from tomosift.data.subtomograms import Subtomograms
from tomosift.learning.calibration import match_temperature_to_accuracy, softmax
from tomosift.learning.linear_probe import fit_linear_probe, leave_one_out_logits

_BOXES_AT_ONCE = 64
_BOXES_TO_KEEP = 4096
"""Boxes embedded between two writings of the file."""
_SECONDS_TO_LOOK = 2.0
"""How often labels of other programs are looked for."""
_SECONDS_BETWEEN_ROUNDS = 1.0
"""Least pause between two lessons: whoever labels faster than anybody reads would only heat the processor."""
_EXAMPLES = 4
_NICENESS = 10
_log = logging.getLogger("tomosift.annotation")


@dataclass(frozen=True, eq=False)
class Guesses:
    """What is known at one moment: a complete picture that never changes."""

    queue: LabelingQueue
    rows: Int[np.ndarray, " m"] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """Rows of the set that are embedded, ascending."""
    places: Float[np.ndarray, "m d"] = field(default_factory=lambda: np.zeros((0, 1), dtype=np.float32))
    class_names: tuple[str, ...] = ()
    probabilities: Float[np.ndarray, "m k"] = field(default_factory=lambda: np.zeros((0, 0)))
    """Calibrated; k is 0 until two classes have labels."""
    learned: dict[int, str] = field(default_factory=dict)
    """Row -> class, of the labels learned from; all are among ``rows``."""
    plane: Float[np.ndarray, "m 2"] | None = None
    """Places of all rows on the map, once it is drawn."""
    round: int = 0

    def place_of(self, row: int) -> int | None:
        """Where this row of the set stands in ``rows``."""
        k = int(np.searchsorted(self.rows, row))
        return k if k < len(self.rows) and self.rows[k] == row else None

    def of(self, row: int) -> list[tuple[str, float]]:
        """Classes and their probabilities, the best first; empty where nothing is guessed."""
        k = self.place_of(row)
        if k is None or not self.class_names:
            return []
        order = np.argsort(-self.probabilities[k], kind="stable")
        return [(self.class_names[c], float(self.probabilities[k, c])) for c in order]

    def guess(self, row: int) -> str:
        """The best class, from labels of other particles; empty if there is none or the row was learned from."""
        ranked = self.of(row)
        return ranked[0][0] if ranked and row not in self.learned else ""

    def examples(self, row: int) -> list[tuple[int, str]]:
        """Labeled particles nearest to this one, the nearest of each class first."""
        k, known = self.place_of(row), [other for other in self.learned if other != row]
        if k is None or not known:
            return []
        at = self.places[np.searchsorted(self.rows, known)]
        order = np.argsort(((at - self.places[k]) ** 2).sum(axis=1), kind="stable")
        nearest = [(known[i], self.learned[known[i]]) for i in order]
        first = {name: (other, name) for other, name in reversed(nearest)}
        ranked = [pair for pair in nearest if first[pair[1]] == pair]
        return (ranked + [pair for pair in nearest if pair not in ranked])[:_EXAMPLES]


class BackgroundLearner:
    """A thread that embeds the boxes once and fits a linear probe again after every few labels.

    The probe reads the directions in which the model's classes differ. On simulated boxes at SNR 0.1 of four complexes
    it then names 0.79 right by one label of each and 0.93 by five; by plain embeddings 0.61 and 0.88.
    """

    def __init__(self, boxes: Subtomograms, digest: str, votes: ConsensusTracker, model: Path, kept: Path) -> None:
        self._boxes, self._digest, self._votes, self._model, self._kept = boxes, digest, votes, model, kept
        self.guesses = Guesses(random_queue(boxes.spaced_rows(_BOXES_TO_KEEP)))
        """What is known now; replaced as a whole."""
        self.done, self.total = 0, 0
        """Boxes embedded, and to be embedded."""
        self.trouble = ""
        """Why nothing is learned, as a sentence for the person; labels can be given all the same."""
        self._learned_at = 0.0
        self._wake, self._stopped = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="teacher", daemon=True)

    def start(self) -> None:
        """Begin to embed and learn."""
        self._thread.start()

    def nudge(self) -> None:
        """There is a new label."""
        self._wake.set()

    def stop(self) -> None:
        """End after the boxes in hand."""
        self._stopped.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        _stand_back()
        try:
            embedded = EmbeddingCache(self._boxes, self._digest, self._model, self._kept)
            self.total = embedded.total
            while not self._stopped.is_set():
                self._step(embedded)
                self.done = min(len(embedded.rows), self.total)
                if embedded.is_complete:
                    self._wake.wait(_SECONDS_TO_LOOK)
                    self._wake.clear()
        except (ValueError, RuntimeError, OSError) as error:
            self.trouble = str(error).splitlines()[0] if str(error) else type(error).__name__
            _log.exception("learning stopped; labels are still taken")

    def _step(self, embedded: EmbeddingCache) -> None:
        """Some more boxes, if there are any; then learn, if that is due."""
        before = len(embedded.rows)
        if not embedded.is_complete:
            embedded.go_on(_BOXES_AT_ONCE)
            if embedded.is_complete or before // _BOXES_TO_KEEP != len(embedded.rows) // _BOXES_TO_KEEP:
                embedded.keep()
        now, known = self._votes.answers().majority, self.guesses
        changed = sum(known.learned.get(row) != name for row, name in now.items())
        changed += sum(row not in now for row in known.learned)
        # Half as many boxes again are worth another look; so are the last.
        grown = len(embedded.rows) >= 1.5 * len(known.rows) or (embedded.is_complete and before < len(embedded.rows))
        rested = time.monotonic() - self._learned_at >= _SECONDS_BETWEEN_ROUNDS
        if grown or (changed >= LABELS_PER_ROUND and rested):
            embedded.add(np.array(sorted(now), dtype=np.int64))
            self.guesses = self._learned(embedded, dict(now) if changed else known.learned)
            self._learned_at = time.monotonic()
        if embedded.is_complete and self.guesses.plane is None:
            # After the guesses: the map takes seconds, and the next question need not wait for it.
            self.guesses = replace(self.guesses, plane=embedded.plane(), round=self.guesses.round + 1)

    def _learned(self, embedded: EmbeddingCache, labels: dict[int, str]) -> Guesses:
        rows, places, earlier = embedded.rows, embedded.places(), self.guesses
        names = tuple(dict.fromkeys(sorted(labels.values())))
        plane = earlier.plane if earlier.plane is not None and np.array_equal(earlier.rows, rows) else None
        at = np.searchsorted(rows, sorted(labels))
        probabilities = np.zeros((len(rows), 0))
        if len(names) < 2:
            names = ()
        else:
            label = np.array([names.index(labels[row]) for row in sorted(labels)], dtype=np.int64)
            probabilities = _probabilities(places, places[at], label, len(names))
        queue = strategy_queue(rows, places, probabilities, at, earlier.round)
        return Guesses(queue, rows, places, names, probabilities, labels, plane, earlier.round + 1)


def _probabilities(
    places: Float[np.ndarray, "m d"], known: Float[np.ndarray, "l d"], label: Int[np.ndarray, " l"], count: int
) -> NDArray[np.float64]:
    """Of a probe on the labeled ones, as sure as labels that it had not seen say it may be."""
    logits = fit_linear_probe(known, label, count).logits(places)
    crossed = leave_one_out_logits(known, label, count)
    if not len(crossed):
        return softmax(logits)
    # Laplace's rule: a few labels all guessed right do not make a particle certain.
    accuracy = ((crossed.argmax(axis=1) == label).sum() + 1) / (len(label) + 2)
    return softmax(logits, match_temperature_to_accuracy(logits, float(accuracy)))


def _stand_back() -> None:
    """Leave the processor to a browser on the same machine; only Linux can do that for a single thread."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
