"""Embeddings of a large set, part by part, on any machine."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from tomosift.data.set_reader import SET_FILE
from tomosift.data.subtomograms import open_subtomograms
from tomosift.files import written_then_renamed
from tomosift.inference.classifier import load_classifier, model_digest
from tomosift.inference.prediction import embed

_BOXES = 4096


@dataclass(frozen=True)
class EmbeddingTask:
    """Some boxes of a set, and the model that looks at them."""

    model: Path
    digest: str
    """Checksum of its weights and of the set's description: what was made of others is not taken."""
    subtomograms: Path
    first: int
    last: int
    """One beyond the last row."""
    folder: Path
    """Where parts are kept until all are there."""

    @property
    def result(self) -> Path:
        """File of the embeddings."""
        return self.folder / f"{self.digest[:16]}-{self.first:09d}-{self.last:09d}.npy"


def split_into_tasks(model: Path, subtomograms: Path, count: int, folder: Path) -> list[EmbeddingTask]:
    """All rows of a set of so many boxes."""
    digest = hashlib.sha256(model_digest(model).encode() + (subtomograms / SET_FILE).read_bytes()).hexdigest()
    return [
        EmbeddingTask(model, digest, subtomograms, first, min(first + _BOXES, count), folder)
        for first in range(0, count, _BOXES)
    ]


def embed_task(task: EmbeddingTask) -> Path:
    """Embed some boxes unless that has been done; returns the file."""
    if not task.result.exists():
        boxes = open_subtomograms(task.subtomograms).select(np.arange(task.first, task.last))
        found = embed(load_classifier(task.model).encoder, boxes.volumes, len(boxes))
        with written_then_renamed(task.result) as temporary, temporary.open("wb") as stream:
            np.save(stream, found)
    return task.result


def concatenate_results(tasks: list[EmbeddingTask]) -> Float[np.ndarray, "n e"]:
    """The embeddings of all parts, which are deleted."""
    parts = [np.load(task.result, allow_pickle=False) for task in tasks]
    for task in tasks:
        task.result.unlink()
    tasks[0].folder.rmdir()
    return np.concatenate(parts)
