"""Embeddings of the particles that can become queries, computed in small parts and stored in a file to resume from."""

from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from tomosift.data.subtomogram_set import Subtomograms
from tomosift.evaluation.embedding_map import map_many_embeddings
from tomosift.files import write_arrays
from tomosift.inference.classifier import fit_embedder
from tomosift.inference.model_files import load_classifier, model_digest
from tomosift.inference.prediction import embed_volumes
from tomosift.learning.clustering import standardize_for_clustering

MAX_POOL_SIZE = 50_000
"""Particles of the pool from which the model learns and queries, and which the map shows; evenly spaced rows of larger
sets. A few hundred labels need no more, and the memory of the page then does not grow with the set."""
_BATCH_SIZE = 16
"""On a CPU as fast as larger batches, in a quarter of the memory."""


class EmbeddingCache:
    """Embeddings of a growing part of a set, in an order of which every beginning is a random sample of the pool.

    Parameters
    ----------
    subtomograms
        Set whose particles are labeled.
    digest
        Checksum of the set; see `tomosift.methods.set_digest`.
    model
        Run, model folder or name of a shipped model, whose encoder is used.
    path
        File of the embeddings; one of another set or model is ignored.

    Raises
    ------
    FormatError
        There is no such model; see `tomosift.inference.model_files.load_classifier`.
    ValueError
        The encoder does not support the box size.
    """

    def __init__(self, subtomograms: Subtomograms, digest: str, model: Path, path: Path) -> None:
        self._subtomograms, self._path = subtomograms, path
        classifier = load_classifier(model)
        self._plda, self._embedder = classifier.plda, fit_embedder(classifier.encoder, subtomograms)
        size, spacing = subtomograms.box_size, subtomograms.voxel_spacing_angstrom
        self._key = f"{digest} {size} {spacing:.4f} {model_digest(model)}"
        self._pool = np.random.default_rng(0).permutation(subtomograms.spaced_rows(MAX_POOL_SIZE))
        self._rows = np.zeros(0, dtype=np.int64)
        self._embeddings = np.zeros((0, classifier.encoder.embedding_size), dtype=np.float32)
        self._map: NDArray[np.float64] | None = None
        self._load()

    @property
    def rows(self) -> Int[np.ndarray, " m"]:
        """Rows of the set that are embedded, ascending."""
        return self._rows

    @property
    def total(self) -> int:
        """Number of particles in the pool."""
        return len(self._pool)

    @property
    def is_complete(self) -> bool:
        """Whether the whole pool is embedded."""
        return len(self._rows) >= len(self._pool)

    def standardize(self) -> Float[np.ndarray, "m d"]:
        """Return the embeddings standardized for clustering, whose distances are meaningful."""
        return standardize_for_clustering(self._embeddings, self._plda).astype(np.float32)

    def map_rows(self) -> Float[np.ndarray, "m 2"]:
        """Return positions of all embedded rows on a two-dimensional map, from 0 to 1."""
        if self._map is None or len(self._map) != len(self._rows):
            self._map = map_many_embeddings(self.standardize(), seed=0)[0]
            self.save()
        return self._map

    def embed_next(self, count: int) -> None:
        """Embed the next ``count`` particles of the pool."""
        self.embed_rows(self._pool[~np.isin(self._pool, self._rows)][:count])

    def embed_rows(self, rows: Int[np.ndarray, " b"]) -> None:
        """Embed those of these rows that are not embedded yet, whether or not they are in the pool."""
        new = np.setdiff1d(rows, self._rows)
        if not len(new):
            return
        embeddings = embed_volumes(
            self._embedder, lambda part: self._subtomograms.volumes(new[part]), len(new), _BATCH_SIZE
        )
        all_rows = np.concatenate([self._rows, new])
        order = np.argsort(all_rows)
        self._embeddings = np.concatenate([self._embeddings, embeddings])[order]
        self._rows = all_rows[order]

    def save(self) -> None:
        """Write everything to the file, which is complete or as it was."""
        plane = np.zeros((0, 2)) if self._map is None else self._map
        write_arrays(self._path, key=np.array(self._key), rows=self._rows, embeddings=self._embeddings, plane=plane)

    def _load(self) -> None:
        """Read the file, if it is of this set and this model; any other is replaced by the next `save`."""
        try:
            with self._path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
                if str(arrays["key"]) == self._key:
                    self._rows, self._embeddings = arrays["rows"], arrays["embeddings"]
                    self._map = arrays["plane"] if len(arrays["plane"]) else None
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):
            return
