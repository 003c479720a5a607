"""Embedding of a large set in parts, on any machine: tasks for `tomosift.compute.engine.for_each`."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from tomosift.data.set_files import SET_FILE
from tomosift.data.subtomogram_set import open_subtomograms
from tomosift.files import written_then_renamed
from tomosift.inference.model_files import load_classifier, model_digest
from tomosift.inference.prediction import embed

_CHUNK = 4096
"""Subtomograms of one task."""


@dataclass(frozen=True)
class EmbeddingTask:
    """A range of rows of a set, and the model that embeds them."""

    model: Path
    """Run or model folder, or the name of a shipped model."""
    digest: str
    """Checksum of the weights of the model and of the description of the set; results of others are not reused."""
    subtomograms: Path
    """Folder of the set."""
    first: int
    last: int
    """One beyond the last row."""
    folder: Path
    """Where the parts are stored until all are finished."""

    @property
    def result_path(self) -> Path:
        """File of the embeddings."""
        return self.folder / f"{self.digest[:16]}-{self.first:09d}-{self.last:09d}.npy"


def split_into_tasks(model: Path, subtomograms: Path, count: int, folder: Path) -> list[EmbeddingTask]:
    """Split the ``count`` rows of a set into tasks of 4,096 subtomograms."""
    digest = hashlib.sha256(model_digest(model).encode() + (subtomograms / SET_FILE).read_bytes()).hexdigest()
    return [
        EmbeddingTask(model, digest, subtomograms, first, min(first + _CHUNK, count), folder)
        for first in range(0, count, _CHUNK)
    ]


def embed_task(task: EmbeddingTask) -> Path:
    """Embed the subtomograms of a task and write the result, unless it is there already; return its file."""
    if not task.result_path.exists():
        subtomograms = open_subtomograms(task.subtomograms).select(np.arange(task.first, task.last))
        embeddings = embed(load_classifier(task.model).embedder, subtomograms)
        with written_then_renamed(task.result_path) as temporary, temporary.open("wb") as stream:
            np.save(stream, embeddings)
    return task.result_path


def concatenate_results(tasks: list[EmbeddingTask]) -> Float[np.ndarray, "n e"]:
    """Return the embeddings of all tasks in order, and delete their files."""
    parts = [np.load(task.result_path, allow_pickle=False) for task in tasks]
    for task in tasks:
        task.result_path.unlink()
    tasks[0].folder.rmdir()
    return np.concatenate(parts)
