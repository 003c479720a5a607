"""Embeddings laid out in the plane, to be looked at."""

import warnings

import numpy as np
from jaxtyping import Float

SMALLEST_TSNE = 30
"""Below this many particles t-SNE has no neighborhoods to keep and the two main components are shown."""
MOST_LANDMARKS = 1500
"""Of more particles so many are laid out, in seconds, and the others find their places among them."""
_NEAREST = 3
_CHUNK = 512


def map_embeddings(embeddings: Float[np.ndarray, "n e"], seed: int) -> tuple[Float[np.ndarray, "n 2"], str]:
    """Coordinates in [0, 1] and the name of the method: PCA to 50 components, then t-SNE; PCA alone when n < 30.

    In a t-SNE map neighbors are neighbors, but distances between groups and sizes of groups mean nothing.

    Source: van der Maaten & Hinton 2008, J. Mach. Learn. Res. 9, 2579; initialized with PCA after Kobak & Berens 2019.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    n = len(embeddings)
    components = min(50, n, embeddings.shape[1])
    centered = np.asarray(embeddings, dtype=np.float64)
    with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
        # Equal embeddings have no variance to explain; they land on one point, which is what should be seen.
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
    """The same for any number of particles: beyond `MOST_LANDMARKS`, each lies among its three nearest landmarks.

    Their places count by the inverse of the distance. Landmarks are drawn at random.
    """
    n = len(embeddings)
    if n <= MOST_LANDMARKS:
        return map_embeddings(embeddings, seed)
    landmarks = np.sort(np.random.default_rng(seed).choice(n, MOST_LANDMARKS, replace=False))
    known, method = map_embeddings(embeddings[landmarks], seed)
    corners = np.asarray(embeddings[landmarks], dtype=np.float32)
    plane = np.empty((n, 2))
    for start in range(0, n, _CHUNK):
        asked = np.asarray(embeddings[start : start + _CHUNK], dtype=np.float32)
        squares = (asked**2).sum(axis=1)[:, None] + (corners**2).sum(axis=1) - 2 * asked @ corners.T
        nearest = np.argpartition(squares, _NEAREST, axis=1)[:, :_NEAREST]
        weight = 1 / (np.take_along_axis(squares, nearest, axis=1).clip(0) ** 0.5 + 1e-6)
        weight /= weight.sum(axis=1, keepdims=True)
        plane[start : start + _CHUNK] = (known[nearest] * weight[..., None]).sum(axis=1)
    return plane, method
