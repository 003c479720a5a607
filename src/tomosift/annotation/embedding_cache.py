"""Embeddings of the particles that may be asked about: made bit by bit, kept in one file, gone on with after a stop."""

from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray

from tomosift.data.subtomograms import Subtomograms
from tomosift.evaluation.embedding_map import map_many_embeddings
from tomosift.files import written_then_renamed
from tomosift.inference.classifier import load_classifier, model_digest
from tomosift.inference.prediction import embed
from tomosift.learning.clustering import standardize_for_clustering
from tomosift.models.encoder import BOXES_TO_PREPARE

MOST_TO_ASK = 50_000
"""Of larger sets so many particles, evenly spread, make up the pool that is learned from, asked of and drawn as a map.
A few hundred labels do not need more, and the memory of the page stays the same whatever the size of the set."""
_BATCH = 16
"""Boxes embedded at a time: as fast as more of them on a processor, in a quarter of the memory."""


class EmbeddingCache:
    """Embeddings of a growing part of a set, in an order whose every beginning is a fair sample of the pool.

    Raises
    ------
    FormatError
        There is no such model; see `tomosift.inference.classifier.load_classifier`.
    ValueError
        The encoder takes no boxes of this size.
    """

    def __init__(self, boxes: Subtomograms, digest: str, model: Path, kept: Path) -> None:
        self._boxes, self._kept = boxes, kept
        self._model = load_classifier(model)
        self._model.encoder.prepare(torch.from_numpy(boxes.volumes(boxes.spaced_rows(BOXES_TO_PREPARE))))
        self._key = f"{digest} {boxes.box_size} {boxes.voxel_spacing_angstrom:.4f} {model_digest(model)}"
        self._pool = np.random.default_rng(0).permutation(boxes.spaced_rows(MOST_TO_ASK))
        self._rows = np.zeros(0, dtype=np.int64)
        self._embeddings = np.zeros((0, self._model.encoder.embedding_size), dtype=np.float32)
        self._plane: NDArray[np.float64] | None = None
        self._load()

    @property
    def rows(self) -> Int[np.ndarray, " m"]:
        """Rows of the set that are embedded, ascending."""
        return self._rows

    @property
    def total(self) -> int:
        """How many there will be."""
        return len(self._pool)

    @property
    def is_complete(self) -> bool:
        """Whether all of the pool is embedded."""
        return len(self._rows) >= len(self._pool)

    def places(self) -> Float[np.ndarray, "m d"]:
        """The embeddings in directions in which distances count, about their middle."""
        return standardize_for_clustering(self._embeddings, self._model.plda).astype(np.float32)

    def plane(self) -> Float[np.ndarray, "m 2"]:
        """Places in the plane, 0 to 1, for a map."""
        if self._plane is None or len(self._plane) != len(self._rows):
            self._plane = map_many_embeddings(self.places(), seed=0)[0]
            self.keep()
        return self._plane

    def go_on(self, count: int) -> None:
        """Embed so many more of the pool."""
        self.add(self._pool[~np.isin(self._pool, self._rows)][:count])

    def add(self, rows: Int[np.ndarray, " b"]) -> None:
        """Embed these rows, whether of the pool or not, where they are not yet."""
        fresh = np.setdiff1d(rows, self._rows)
        if not len(fresh):
            return
        made = embed(self._model.encoder, lambda part: self._boxes.volumes(fresh[part]), len(fresh), _BATCH)
        joined = np.concatenate([self._rows, fresh])
        order = np.argsort(joined)
        self._embeddings = np.concatenate([self._embeddings, made])[order]
        self._rows = joined[order]

    def keep(self) -> None:
        """Write everything to the file, which then is complete or as it was."""
        plane = np.zeros((0, 2)) if self._plane is None else self._plane
        with written_then_renamed(self._kept) as temporary, temporary.open("wb") as target:
            np.savez(target, key=np.array(self._key), rows=self._rows, embeddings=self._embeddings, plane=plane)

    def _load(self) -> None:
        """Take over the file, if it is of these boxes and this model; another one is made again."""
        try:
            with self._kept.open("rb") as stream, np.load(stream, allow_pickle=False) as kept:
                if str(kept["key"]) == self._key:
                    self._rows, self._embeddings = kept["rows"], kept["embeddings"]
                    self._plane = kept["plane"] if len(kept["plane"]) else None
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):
            return
