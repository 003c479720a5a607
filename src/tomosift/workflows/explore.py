"""Explore a set without labels: clusters, their stability, and the known structures that they may be."""

import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray

from tomosift.conventions import check_same_spacing
from tomosift.data.class_names import check_class_name
from tomosift.data.predictions import with_predictions
from tomosift.data.subtomogram_set import Subtomograms, open_subtomograms
from tomosift.evaluation.cluster_matches import ClusterMatches, match_clusters
from tomosift.evaluation.known_structures import embed_known_structures
from tomosift.evaluation.report import ReportInput, write_report
from tomosift.files import read_arrays, write_arrays
from tomosift.inference.classifier import Classifier
from tomosift.inference.model_files import load_classifier, model_digest
from tomosift.inference.prediction import embed
from tomosift.io.particles import write_particles
from tomosift.learning.clustering import Clusters, check_count, find_clusters, standardize_for_clustering
from tomosift.particles import Particles
from tomosift.progress import Monitor
from tomosift.simulation.dataset_config import class_name_of
from tomosift.simulation.structures.atlas import atlas_names
from tomosift.train.run import Run, environment

_CLUSTERS = "clusters.npz"
_SUBTOMOGRAMS_TO_IDENTIFY = 8
_MIN_TO_MATCH = 3


@dataclass(frozen=True, eq=False)
class ExploreResult:
    """The outcome of `explore`."""

    clusters: Clusters
    embeddings: Float[np.ndarray, "n e"]
    matches: ClusterMatches | None
    """Known structures that the clusters may be; None if they were not compared."""
    labels: Particles | None = None
    """Particles of the clusters that were named."""


def explore(
    subtomograms: Path | str | Subtomograms,
    out: Path | str,
    *,
    model: Path | str = "general",
    clusters: int | None = None,
    structures: Sequence[str] = (),
    suggest: bool = True,
    names: Mapping[int, str] | None = None,
    min_confidence: float = 0.9,
    seed: int = 0,
    monitor: Monitor | None = None,
) -> ExploreResult:
    """Find clusters of similar particles, with pictures, and name them.

    Read the report, then call again with ``names``: confident particles of the named clusters become ``labels.star``.
    Clusters keep their numbers.

    Parameters
    ----------
    subtomograms
        The set, or its folder.
    out
        Folder for ``clusters.star``, ``report.html`` and, with names, ``labels.star``.
    model
        Shipped model, or a pretraining run.
    clusters
        Number of clusters; None lets the data decide.
    structures
        Structures to compare clusters with: names of the atlas, structure or map files. All of the atlas without any.
    suggest
        Compare clusters with known structures.
    names
        Names of clusters by their number, from 1; one name joins several clusters.
    min_confidence
        Smallest probability of its cluster with which a particle becomes a label.
    seed
        Seed of the clustering.
    monitor
        Shows stages and messages.

    Returns
    -------
    ExploreResult
        Clusters, embeddings, and labels of named clusters.

    Raises
    ------
    ValueError
        A number or a name is out of range, particles to be labeled have no positions, or spacings differ.
    """
    out, monitor, names = Path(out), monitor or Monitor(), dict(names or {})
    if not isinstance(subtomograms, Subtomograms):
        subtomograms = open_subtomograms(Path(subtomograms))
    loaded = load_classifier(Path(model))
    sources = _check(subtomograms, loaded, Path(model), clusters, structures, suggest, names, min_confidence)
    request = {
        "path": str(subtomograms.path.resolve()),
        "particles": _digest(subtomograms),
        "model": model_digest(Path(model)),
        "clusters": clusters,
        "seed": seed,
    }
    run = Run.open(out, request)
    classifier = loaded if loaded.card.class_names else loaded.adapt_to(subtomograms)
    embeddings, result = _load_or_find(classifier, subtomograms, run, clusters, seed, monitor)
    count = result.probability.shape[1]
    if unknown := [number for number in names if not 1 <= number <= count]:
        raise ValueError(f"there is no cluster {unknown[0]}; clusters are 1 to {count}")
    if names:
        labels = _write_labels(out / "labels.star", subtomograms, result, names, min_confidence)
        return ExploreResult(result, embeddings, None, labels)
    _write_clusters(out / "clusters.star", subtomograms, result)
    matches = None
    if sources and count > 1:
        folder = out / "known" / _digest_structures(sources)
        with monitor.stage("known structures", "subtomograms") as progress:
            known = embed_known_structures(classifier, sources, subtomograms, folder, progress)
        standardized = standardize_for_clustering(embeddings, classifier.plda)
        shown = tuple(map(class_name_of, structures or sources))
        matches = ClusterMatches.select(known, match_clusters(standardized, result.label, count, known), shown)
    if note := _note_on_matches(suggest, bool(sources), count, model):
        monitor.message(note)
    _write_report(out / "report.html", subtomograms, classifier, embeddings, result, matches)
    return ExploreResult(result, embeddings, matches)


def _check(
    subtomograms: Subtomograms,
    classifier: Classifier,
    model: Path,
    clusters: int | None,
    structures: Sequence[str],
    suggest: bool,
    names: Mapping[int, str],
    min_confidence: float,
) -> tuple[str, ...]:
    """Refuse what cannot be done; return the known structures to compare with."""
    if not 0 <= min_confidence <= 1:
        raise ValueError(f"min_confidence is {min_confidence:g}, expected 0 to 1")
    for name in names.values():
        check_class_name(name)
    check_count(len(subtomograms), clusters)
    sources = _list_structures(structures) if suggest and not names and classifier.plda is not None else ()
    if classifier.card.class_names:
        spacing = classifier.card.voxel_spacing_angstrom
        check_same_spacing(
            subtomograms.voxel_spacing_angstrom, spacing, str(subtomograms.path), f"{model} was trained at"
        )
    if names and np.isnan(subtomograms.particles.position_zyx_angstrom).any():
        raise ValueError(
            f"particles of {subtomograms.path} have no positions, by which labels find them again; extract them from "
            "tomograms, or give the subtomograms a STAR file"
        )
    return sources


def _list_structures(structures: Sequence[str]) -> tuple[str, ...]:
    """The requested structures, then the atlas: the mean of a few structures is too close to each of them."""
    for source in structures:
        if source not in atlas_names() and not Path(source).is_file():
            raise ValueError(f"{source} is no structure of the atlas and no file; `tomosift atlas list` names them")
    requested = set(map(class_name_of, structures))
    return (*dict.fromkeys(structures), *(name for name in atlas_names() if name not in requested))


def _digest(subtomograms: Subtomograms) -> str:
    """Checksum of the particles and their extraction; some subtomograms stand for all."""
    about = [subtomograms.box_size, subtomograms.voxel_spacing_angstrom, *subtomograms.particles.particle_id]
    digest = hashlib.sha256("\n".join(map(str, about)).encode())
    digest.update(subtomograms.volumes(subtomograms.spaced_rows(_SUBTOMOGRAMS_TO_IDENTIFY)).tobytes())
    return digest.hexdigest()[:16]


def _digest_structures(sources: tuple[str, ...]) -> str:
    digest = hashlib.sha256("\n".join(sources).encode())
    for path in map(Path, sources):
        digest.update(path.read_bytes() if path.is_file() else b"")
    return digest.hexdigest()[:12]


def _load_or_find(
    classifier: Classifier, subtomograms: Subtomograms, run: Run, count: int | None, seed: int, monitor: Monitor
) -> tuple[NDArray[np.float32], Clusters]:
    """Embeddings and clusters, kept in the folder so that a second call is fast and numbers stay."""
    path = run.folder / _CLUSTERS
    if path.exists():
        stored = read_arrays(path, "delete the file and run the same command again")
        return stored["embeddings"], Clusters(stored["probability"], stored["stability"])
    with monitor.stage("embed", "subtomograms") as progress:
        embeddings = embed(classifier.embedder, subtomograms, progress=progress)
    clusters = find_clusters(standardize_for_clustering(embeddings, classifier.plda), count, seed)
    write_arrays(path, embeddings=embeddings, probability=clusters.probability, stability=clusters.stability)
    return embeddings, clusters


def _cluster_names(count: int) -> tuple[str, ...]:
    return tuple(f"cluster-{number + 1}" for number in range(count))


def _write_clusters(path: Path, subtomograms: Subtomograms, clusters: Clusters) -> None:
    particles = with_predictions(
        subtomograms.particles,
        clusters.probability,
        np.full(len(subtomograms), np.nan),
        _cluster_names(clusters.probability.shape[1]),
    )
    spacing = subtomograms.table_spacing_angstrom
    write_particles(path, particles, voxel_spacing_angstrom=spacing, grids=subtomograms.grids)


def _write_labels(
    path: Path, subtomograms: Subtomograms, clusters: Clusters, names: Mapping[int, str], min_confidence: float
) -> Particles:
    number, confidence = clusters.label + 1, clusters.probability.max(axis=1)
    rows = np.flatnonzero(np.isin(number, list(names)) & (confidence >= min_confidence))
    if not len(rows):
        raise ValueError(
            f"no particle belongs to a named cluster with a probability of {min_confidence:g}; lower --min-confidence"
        )
    class_name = np.array([names[int(one)] for one in number[rows]], dtype=object)
    labels = replace(subtomograms.particles.select(rows), class_name=class_name, score=confidence[rows])
    spacing = subtomograms.table_spacing_angstrom
    write_particles(path, labels, voxel_spacing_angstrom=spacing, grids=subtomograms.grids)
    return labels


def _note_on_matches(suggest: bool, is_matched: bool, count: int, model: Path | str) -> str:
    if is_matched and count < _MIN_TO_MATCH:
        if count == 1:
            return "note: these particles form one cluster; --clusters requests more"
        return "note: with 2 clusters the mean of the set lies between them; do not trust the suggested names"
    if suggest and not is_matched:
        return f"note: {model} has no PLDA, so clusters are not compared with known structures"
    return ""


def _write_report(
    path: Path,
    subtomograms: Subtomograms,
    classifier: Classifier,
    embeddings: NDArray[np.float32],
    clusters: Clusters,
    matches: ClusterMatches | None,
) -> None:
    def volumes(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return classifier.embedder.recenter(torch.from_numpy(subtomograms.volumes(rows))).numpy()

    note = "Particles are shown about the center that the model estimated, not where they were picked."
    report = ReportInput(
        title=f"{subtomograms.path.name}, explored",
        particles=subtomograms.particles,
        probabilities=clusters.probability,
        class_names=_cluster_names(clusters.probability.shape[1]),
        embeddings=embeddings,
        volumes=volumes,
        groups=("cluster", "clusters"),
        voxel_spacing_angstrom=subtomograms.voxel_spacing_angstrom,
        notes=(note,) if classifier.encoder.recenters else (),
        provenance={"command": " ".join(["tomosift", *sys.argv[1:]]), "environment": environment()},
        clusters=clusters,
        matches=matches,
    )
    write_report(path, report)
