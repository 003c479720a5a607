"""What the labelling page shows, as plain values: no HTTP here, and nothing is written."""

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

from tomosift.annotation.background_learner import BackgroundLearner, Guesses
from tomosift.annotation.consensus import Consensus, ConsensusTracker, named
from tomosift.annotation.store import JUNK, Store
from tomosift.annotation.tomogram_context import TomogramContext
from tomosift.data.subtomograms import Subtomograms
from tomosift.particles import Grid

EXPORTED = "labels.star"
_SECOND_OPINIONS = 4
"""One in so many questions is about a particle that somebody else has named, or agreement could not be known."""
_MOST_FOUND = 20
_GUESSES_SHOWN = 5
_MAP_STEPS = 4095
_LOWEST, _HIGHEST = 0.1, 99.9
"""Percentiles of a box that become black and white of its 256 gray levels."""


class LabelingSession:
    """Everything that a page asks for, about one set."""

    def __init__(
        self,
        boxes: Subtomograms,
        store: Store,
        votes: ConsensusTracker,
        teacher: BackgroundLearner,
        grids: Mapping[str, Grid],
        annotator: str = "me",
    ) -> None:
        self.boxes, self.store, self.votes, self.teacher, self.grids = boxes, store, votes, teacher, grids
        self.annotator = annotator
        """Whose labels these are where a page says nothing else."""
        self.surroundings = TomogramContext(boxes)
        self._handed: dict[str, list[int]] = {}
        self._lock = threading.Lock()

    def state(self, annotator: str) -> dict[str, Any]:
        """Classes, counts and how far things are, for one person."""
        answers, teacher = self.votes.answers(), self.teacher
        counts = Counter(answers.majority.values())
        said = Counter(event.annotator for event in answers.events if named(event))
        return {
            "set": self.boxes.path.name,
            "particles": len(self.boxes),
            "box_size": self.boxes.box_size,
            "voxel_spacing_angstrom": self.boxes.voxel_spacing_angstrom,
            "has_context": self.surroundings.are_known,
            "annotator": self.annotator,
            "classes": [{**asdict(one), "count": counts[one.name]} for one in self.store.classes()],
            "junk": counts[JUNK],
            "unsure": len({event.row for event in answers.events if event.kind == "unsure"}),
            "labeled": len(answers.names),
            "mine": said[annotator],
            "annotators": [{"name": name, "labels": count} for name, count in sorted(said.items())],
            "agreements": [
                {**asdict(one), "kappa": one.kappa if isfinite(one.kappa) else None} for one in answers.agreements
            ],
            "disagreements": len(answers.disagreements),
            "curve": [asdict(point) for point in answers.curve],
            "learning": {
                "done": teacher.done,
                "total": teacher.total,
                "round": teacher.guesses.round,
                "has_map": teacher.guesses.plane is not None,
                "trouble": teacher.trouble,
            },
        }

    def ask(self, annotator: str, count: int, have: Sequence[int]) -> list[dict[str, Any]]:
        """Particles to ask this person about, none of those that the page has already."""
        answers, guesses = self.votes.answers(), self.teacher.guesses
        exclude = np.zeros(len(self.boxes), dtype=bool)
        exclude[[e.row for e in answers.events if e.kind != "skip" or e.annotator == annotator]] = True
        exclude[list(have)] = True
        with self._lock:
            others = [row for name, rows in self._handed.items() if name != annotator for row in rows]
            exclude[others] = True
            second = [row for row in _second_opinions(answers, annotator) if row not in have]
            second = second[: count // _SECOND_OPINIONS]
            rows = guesses.queue.next(count - len(second), exclude).tolist()
            self._handed[annotator] = [*have, *rows]
        asked = [self.about(row, annotator, guesses.queue.reason) for row in rows]
        return asked + [self.about(row, annotator, "second opinion") for row in second]

    def about(self, row: int, annotator: str, reason: str = "") -> dict[str, Any]:
        """One particle and what is guessed of it."""
        particles, guesses = self.boxes.particles, self.teacher.guesses
        position = particles.position_zyx_angstrom[row]
        return {
            "row": row,
            "particle_id": str(particles.particle_id[row]),
            "tomogram": str(particles.tomogram[row]),
            "position_zyx_angstrom": position.round(1).tolist() if np.isfinite(position).all() else None,
            "reason": reason,
            "mine": self.votes.answers().names.get(row, {}).get(annotator, ""),
            "guesses": [{"name": name, "probability": p} for name, p in guesses.of(row)[:_GUESSES_SHOWN]],
            "examples": [{"row": other, "name": name} for other, name in guesses.examples(row)],
        }

    def box(self, row: int) -> tuple[NDArray[np.uint8], tuple[float, float]]:
        """The box in 256 gray levels, z slowest, and the values of black and white in standard deviations."""
        volume = self.boxes.volumes([row])[0]
        low, high = (float(value) for value in np.percentile(volume, [_LOWEST, _HIGHEST]))
        scaled = np.clip((volume - low) / max(high - low, 1e-6), 0, 1) * 255
        return np.rint(scaled).astype(np.uint8), (low, high)

    def map(self) -> dict[str, Any]:
        """Particles in the plane; what people and the model say of them counts into ``names``, -1 is nothing."""
        guesses, answers = self.teacher.guesses, self.votes.answers()
        names = [*(one.name for one in self.store.classes()), JUNK]
        number = {name: k for k, name in enumerate(names)}
        if guesses.plane is None:
            return {"names": names, "rows": [], "x": [], "y": [], "label": [], "guess": []}
        label = np.full(len(guesses.rows), -1)
        for row, name in answers.majority.items():
            if (k := guesses.place_of(row)) is not None:
                label[k] = number.get(name, -1)
        plane = np.rint(guesses.plane * _MAP_STEPS).astype(int)
        return {
            "names": names,
            "rows": guesses.rows.tolist(),
            "x": plane[:, 0].tolist(),
            "y": plane[:, 1].tolist(),
            "label": label.tolist(),
            "guess": _guessed(guesses, number).tolist(),
        }

    def search(self, text: str) -> list[dict[str, Any]]:
        """Particles by number, counted from 1, and those whose name or tomogram holds the text."""
        particles, wanted = self.boxes.particles, text.strip().lower()
        found = [int(wanted) - 1] if wanted.isdecimal() and 0 < int(wanted) <= len(self.boxes) else []
        for row, name in enumerate(particles.particle_id):
            if len(found) >= _MOST_FOUND:
                break
            if wanted in name.lower() and row not in found:
                found.append(row)
        return [{"row": row, "particle_id": str(particles.particle_id[row])} for row in found]

    def next_commands(self) -> list[dict[str, str]]:
        """What to type once enough is labeled."""
        table = shlex.quote(str(self.table))
        boxes = shlex.quote(str(self.boxes.path))
        return [
            {
                "what": "Train on these boxes, then name every particle of the set",
                "command": f"tomosift train supervised {boxes} --labels {table} --init general --out classifier",
                "then": f"tomosift classify classifier {boxes} --out classified.star",
            },
            {
                "what": "Or the whole job, from picks and tomograms to a report",
                "command": f"tomosift sort picks.star --tomograms tomograms.star --labels {table} --out sorted",
                "then": "",
            },
        ]

    @property
    def table(self) -> Path:
        """Where labels are exported to: always beside the store."""
        return self.store.path.resolve().parent / EXPORTED


def _second_opinions(answers: Consensus, annotator: str) -> list[int]:
    """What people disagree on and this one has not seen since, then what others have named last."""
    mine = {event.row: event.id for event in answers.events if event.annotator == annotator}
    newest = {event.row: event.id for event in answers.events if event.annotator != annotator and named(event)}
    open_ones = [row for row in answers.disagreements if mine.get(row, 0) < newest.get(row, 0)]
    unseen = [row for row in sorted(newest, key=lambda row: -newest[row]) if row not in mine]
    return list(dict.fromkeys([*open_ones, *unseen]))


def _guessed(guesses: Guesses, number: dict[str, int]) -> NDArray[np.int64]:
    if not guesses.class_names:
        return np.full(len(guesses.rows), -1)
    numbers = np.array([number.get(name, -1) for name in guesses.class_names], dtype=np.int64)
    return np.asarray(numbers[guesses.probabilities.argmax(axis=1)])
