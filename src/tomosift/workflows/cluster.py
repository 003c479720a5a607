"""Embed and cluster a set without labels, in memory."""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from tomosift.data.subtomogram_set import Subtomograms
from tomosift.inference.model_files import load_classifier
from tomosift.inference.prediction import embed as embed_by
from tomosift.learning.clustering import Clusters, check_count, find_clusters, standardize_for_clustering


def embed(subtomograms: Subtomograms, *, model: Path | str = "general") -> Float[np.ndarray, "n e"]:
    """Embed a set of subtomograms.

    Parameters
    ----------
    subtomograms
        Set of n subtomograms.
    model
        Shipped model, run, or folder of a model. One without classes is adapted to the picking error of the set.

    Returns
    -------
    numpy.ndarray
        One embedding (row) for each particle, in the order of the set.

    Raises
    ------
    FormatError
        There is no such model.

    Notes
    -----
    Source: the shipped model is trained by supervised contrast on synthetic complexes, see `tomosift.methods.metric`.

    Examples
    --------
    ::

        embeddings = tomosift.embed(tomosift.open_subtomograms("subtomograms"))
    """
    classifier = load_classifier(Path(model))
    if not classifier.card.class_names:
        classifier = classifier.adapt_to(subtomograms)
    return embed_by(classifier.embedder, subtomograms)


def cluster(
    subtomograms: Subtomograms, count: int | None = None, *, model: Path | str = "general", seed: int = 0
) -> Clusters:
    """Cluster a set of subtomograms without labels.

    Parameters
    ----------
    subtomograms
        Set of n subtomograms.
    count
        Number of clusters; None lets the Bayesian information criterion decide.
    model
        Shipped model or pretraining run that embeds them.
    seed
        Seed of the clustering.

    Returns
    -------
    Clusters
        Probability of each cluster for each particle, and the stability of the clusters, largest cluster first.

    Raises
    ------
    ValueError
        There are too few particles, or fewer than clusters.

    Notes
    -----
    Source: Fraley & Raftery 2002, JASA 97, for the mixture; Hennig 2007, CSDA 52, for the stability; see
    `tomosift.learning.clustering.find_clusters`.

    Examples
    --------
    ::

        clusters = tomosift.cluster(tomosift.open_subtomograms("subtomograms"))
        clusters.label, clusters.stability
    """
    check_count(len(subtomograms), count)
    classifier = load_classifier(Path(model))
    if not classifier.card.class_names:
        classifier = classifier.adapt_to(subtomograms)
    embeddings = embed_by(classifier.embedder, subtomograms)
    return find_clusters(standardize_for_clustering(embeddings, classifier.plda), count, seed)
