"""Maps of embeddings: coordinates in the plane for display."""

import warnings

import numpy as np
from jaxtyping import Float

SMALLEST_TSNE = 30
"""With fewer particles t-SNE has no neighborhoods to preserve; the first two principal components are shown instead."""
MOST_LANDMARKS = 1500
"""Landmarks that t-SNE maps, in seconds; further particles are mapped between them."""
_NEAREST = 3
_CHUNK = 512


def map_embeddings(embeddings: Float[np.ndarray, "n e"], seed: int) -> tuple[Float[np.ndarray, "n 2"], str]:
    """Map embeddings to the plane: PCA to 50 components, then t-SNE; PCA alone for fewer than 30 particles.

    A t-SNE map preserves neighbors; distances between groups and sizes of groups mean nothing.

    Parameters
    ----------
    embeddings
        Of n particles.
    seed
        Of PCA and t-SNE.

    Returns
    -------
    plane
        Coordinates in [0, 1].
    method
        ``PCA`` or ``t-SNE``.

    Source: van der Maaten & Hinton 2008, J. Mach. Learn. Res. 9, 2579; initialized with PCA after Kobak & Berens 2019.

    Examples
    --------
    >>> plane, method = map_embeddings(np.random.default_rng(0).normal(size=(12, 5)), seed=0)
    >>> plane.shape, method
    ((12, 2), 'PCA')
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    n = len(embeddings)
    components = min(50, n, embeddings.shape[1])
    centered = np.asarray(embeddings, dtype=np.float64)
    with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
        # Equal embeddings have no variance to explain; they map to one point.
        warnings.simplefilter("ignore", RuntimeWarning)
        reduced = PCA(components, random_state=seed, svd_solver="full").fit_transform(centered)
    method = "PCA"
    if n >= SMALLEST_TSNE and components >= 2 and np.ptp(reduced) > 0:
        perplexity = min(30.0, (n - 1) / 3)
        reduced = TSNE(2, perplexity=perplexity, init="pca", random_state=seed, method="barnes_hut").fit_transform(
            reduced
        )
        method = "t-SNE"
    plane = np.zeros((n, 2))
    plane[:, : min(2, reduced.shape[1])] = reduced[:, :2]
    plane -= plane.min(axis=0)
    span = plane.max(axis=0)
    return np.where(span > 0, plane / np.where(span > 0, span, 1), 0.5), method


def map_many_embeddings(embeddings: Float[np.ndarray, "n e"], seed: int) -> tuple[Float[np.ndarray, "n 2"], str]:
    """Map any number of embeddings; see `map_embeddings`.

    Of more than `MOST_LANDMARKS` particles, so many landmarks are drawn at random and mapped. Each other particle is
    placed at the mean of its three nearest landmarks, weighted by inverse distance.
    """
    n = len(embeddings)
    if n <= MOST_LANDMARKS:
        return map_embeddings(embeddings, seed)
    landmarks = np.sort(np.random.default_rng(seed).choice(n, MOST_LANDMARKS, replace=False))
    landmark_plane, method = map_embeddings(embeddings[landmarks], seed)
    landmark_embedding = np.asarray(embeddings[landmarks], dtype=np.float32)
    plane = np.empty((n, 2))
    for start in range(0, n, _CHUNK):
        chunk = np.asarray(embeddings[start : start + _CHUNK], dtype=np.float32)
        squares = (
            (chunk**2).sum(axis=1)[:, None] + (landmark_embedding**2).sum(axis=1) - 2 * chunk @ landmark_embedding.T
        )
        nearest = np.argpartition(squares, _NEAREST, axis=1)[:, :_NEAREST]
        weight = 1 / (np.take_along_axis(squares, nearest, axis=1).clip(0) ** 0.5 + 1e-6)
        weight /= weight.sum(axis=1, keepdims=True)
        plane[start : start + _CHUNK] = (landmark_plane[nearest] * weight[..., None]).sum(axis=1)
    return plane, method
