"""Labeling session: everything the page shows, as plain values. Nothing here knows HTTP or writes."""

import shlex
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomosift.annotation.background_learner import BackgroundLearner, LearnerState
from tomosift.annotation.consensus import Consensus, ConsensusTracker
from tomosift.annotation.store import JUNK, Store
from tomosift.annotation.tomogram_context import TomogramContext
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.particles import Grid

TABLE_NAME = "labels.star"
_QUERIES_PER_SECOND_OPINION = 4
"""One in so many queries is a particle that another annotator has labeled; agreement is measured on these."""
_MAX_SEARCH_RESULTS = 20
_MAX_PREDICTIONS = 5
_MAP_STEPS = 4095
_BLACK_PERCENTILE, _WHITE_PERCENTILE = 0.1, 99.9


class LabelingSession:
    """Answers the requests of labeling pages for one set.

    Parameters
    ----------
    subtomograms
        Set that is labeled.
    store
        Store of the labels.
    tracker
        Follows this store.
    learner
        Learns from the labels and selects queries.
    grids
        Voxel grid of each tomogram, for the exported table.
    annotator
        Default annotator of a page.
    """

    def __init__(
        self,
        subtomograms: Subtomograms,
        store: Store,
        tracker: ConsensusTracker,
        learner: BackgroundLearner,
        grids: Mapping[str, Grid],
        annotator: str = "me",
    ) -> None:
        self.subtomograms, self.store, self.tracker = subtomograms, store, tracker
        self.learner, self.grids, self.annotator = learner, grids, annotator
        self.context = TomogramContext(subtomograms)
        self._pending: dict[str, list[int]] = {}
        self._lock = threading.Lock()

    def describe_state(self, annotator: str) -> dict[str, Any]:
        """Return classes, counts, agreement, accuracy and progress, for one annotator."""
        consensus, learner = self.tracker.update(), self.learner
        counts = Counter(consensus.majority.values())
        labels = Counter(event.annotator for event in consensus.events if event.class_or_junk)
        return {
            "set": self.subtomograms.path.name,
            "particles": len(self.subtomograms),
            "box_size": self.subtomograms.box_size,
            "voxel_spacing_angstrom": self.subtomograms.voxel_spacing_angstrom,
            "has_context": self.context.has_tomograms,
            "annotator": self.annotator,
            "classes": [{**asdict(entry), "count": counts[entry.name]} for entry in self.store.read_classes()],
            "junk": counts[JUNK],
            "unsure": len({event.row for event in consensus.events if event.kind == "unsure"}),
            "labeled": len(consensus.annotations),
            "own_labels": labels[annotator],
            "annotators": [{"name": name, "labels": count} for name, count in sorted(labels.items())],
            "agreements": [
                {**asdict(pair), "kappa": pair.kappa if isfinite(pair.kappa) else None} for pair in consensus.agreements
            ],
            "disagreements": len(consensus.disagreements),
            "accuracy_curve": [asdict(point) for point in consensus.accuracy_curve],
            "learning": {
                "done": learner.done,
                "total": learner.total,
                "round": learner.state.round,
                "has_map": learner.state.map_positions is not None,
                "failure": learner.failure,
            },
        }

    def select_queries(self, annotator: str, count: int, held_rows: Sequence[int]) -> list[dict[str, Any]]:
        """Select the next particles that an annotator should label, and describe them.

        Parameters
        ----------
        annotator
            Name of the annotator.
        count
            Number of particles.
        held_rows
            Rows that the page has already; none of them is selected.
        """
        consensus, state = self.tracker.update(), self.learner.state
        is_excluded = np.zeros(len(self.subtomograms), dtype=bool)
        is_excluded[[e.row for e in consensus.events if e.kind != "skip" or e.annotator == annotator]] = True
        is_excluded[list(held_rows)] = True
        with self._lock:
            others = [row for name, rows in self._pending.items() if name != annotator for row in rows]
            is_excluded[others] = True
            second = [row for row in _find_second_opinions(consensus, annotator) if row not in held_rows]
            second = second[: count // _QUERIES_PER_SECOND_OPINION]
            rows = state.queue.select(count - len(second), is_excluded).tolist()
            self._pending[annotator] = [*held_rows, *rows]
        queries = [self.describe_particle(row, annotator, state.queue.reason) for row in rows]
        return queries + [self.describe_particle(row, annotator, "second opinion") for row in second]

    def describe_particle(self, row: int, annotator: str, reason: str = "") -> dict[str, Any]:
        """Return one particle with its predictions and the labeled particles most similar to it."""
        particles, state = self.subtomograms.particles, self.learner.state
        position = particles.position_zyx_angstrom[row]
        return {
            "row": row,
            "particle_id": str(particles.particle_id[row]),
            "tomogram": str(particles.tomogram[row]),
            "position_zyx_angstrom": position.round(1).tolist() if np.isfinite(position).all() else None,
            "reason": reason,
            "own_label": self.tracker.update().annotations.get(row, {}).get(annotator, ""),
            "predictions": [{"name": name, "probability": p} for name, p in state.rank_classes(row)[:_MAX_PREDICTIONS]],
            "examples": [{"row": other, "name": name} for other, name in state.find_examples(row)],
        }

    def read_gray_levels(self, row: int) -> tuple[NDArray[np.uint8], tuple[float, float]]:
        """Return a subtomogram (z, y, x) in 256 gray levels, and the values of black and white.

        Black and white are the 0.1 and 99.9 percentiles, in standard deviations.
        """
        volume = self.subtomograms.volumes([row])[0]
        low, high = (float(value) for value in np.percentile(volume, [_BLACK_PERCENTILE, _WHITE_PERCENTILE]))
        scaled = np.clip((volume - low) / max(high - low, 1e-6), 0, 1) * 255
        return np.rint(scaled).astype(np.uint8), (low, high)

    def describe_map(self) -> dict[str, Any]:
        """Return the particles on the map; labels and predictions are indices into ``names``, -1 for none."""
        state, consensus = self.learner.state, self.tracker.update()
        names = [*(entry.name for entry in self.store.read_classes()), JUNK]
        index_of = {name: k for k, name in enumerate(names)}
        if state.map_positions is None:
            return {"names": names, "rows": [], "x": [], "y": [], "label": [], "prediction": []}
        label = np.full(len(state.rows), -1)
        for row, name in consensus.majority.items():
            if (k := state.find_row(row)) is not None:
                label[k] = index_of.get(name, -1)
        positions = np.rint(state.map_positions * _MAP_STEPS).astype(int)
        return {
            "names": names,
            "rows": state.rows.tolist(),
            "x": positions[:, 0].tolist(),
            "y": positions[:, 1].tolist(),
            "label": label.tolist(),
            "prediction": _index_predictions(state, index_of).tolist(),
        }

    def search(self, text: str) -> list[dict[str, Any]]:
        """Search particles by number, counted from 1, and by a part of their identifier."""
        particles, needle = self.subtomograms.particles, text.strip().lower()
        is_number = needle.isdecimal() and 0 < int(needle) <= len(self.subtomograms)
        rows = [int(needle) - 1] if is_number else []
        for row, name in enumerate(particles.particle_id):
            if len(rows) >= _MAX_SEARCH_RESULTS:
                break
            if needle in name.lower() and row not in rows:
                rows.append(row)
        return [{"row": row, "particle_id": str(particles.particle_id[row])} for row in rows]

    def suggest_commands(self) -> list[dict[str, str]]:
        """Return the commands that use the exported labels."""
        table = shlex.quote(str(self.table_path))
        subtomograms = shlex.quote(str(self.subtomograms.path))
        return [
            {
                "purpose": "Train on these labels, then classify every particle of the set",
                "command": f"tomosift train supervised {subtomograms} --labels {table} --model general "
                "--out classifier",
                "next": f"tomosift classify {subtomograms} --model classifier --out classified.star",
            },
            {
                "purpose": "Or run the whole workflow, from picks and tomograms to a report",
                "command": f"tomosift sort picks.star --tomograms tomograms.star --labels {table} --out sorted",
                "next": "",
            },
        ]

    @property
    def table_path(self) -> Path:
        """File of the exported labels, always beside the store."""
        return self.store.path.resolve().parent / TABLE_NAME


def _find_second_opinions(consensus: Consensus, annotator: str) -> list[int]:
    """Return disagreements that the annotator has not answered since, then the newest labels of other annotators."""
    own = {event.row: event.id for event in consensus.events if event.annotator == annotator}
    newest = {event.row: event.id for event in consensus.events if event.annotator != annotator and event.class_or_junk}
    open_rows = [row for row in consensus.disagreements if own.get(row, 0) < newest.get(row, 0)]
    unanswered = [row for row in sorted(newest, key=lambda row: -newest[row]) if row not in own]
    return list(dict.fromkeys([*open_rows, *unanswered]))


def _index_predictions(state: LearnerState, index_of: dict[str, int]) -> NDArray[np.int64]:
    """Return the index of the predicted class of each embedded row, -1 without prediction."""
    if not state.class_names:
        return np.full(len(state.rows), -1)
    indices = np.array([index_of.get(name, -1) for name in state.class_names], dtype=np.int64)
    return np.asarray(indices[state.probabilities.argmax(axis=1)])
