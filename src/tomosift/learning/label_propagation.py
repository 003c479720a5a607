"""Label propagation: labels pass from a few particles to those nearby in the space of embeddings."""

import numpy as np
from jaxtyping import Float, Int

NEIGHBORS = 12
"""Number of nearest neighbors to which each particle is connected."""
NEIGHBOR_WEIGHT = 0.9
"""Share of a particle's label that comes from its neighbors in each iteration."""
DIMENSIONS = 32
"""Principal components of the embeddings in which neighbors are searched."""
_MAX_ITERATIONS = 200


def propagate_labels(
    known_embeddings: Float[np.ndarray, "n e"],
    known_labels: Int[np.ndarray, " n"],
    embeddings: Float[np.ndarray, "m e"],
    class_count: int,
) -> Int[np.ndarray, " m"]:
    """Assign a label to each of m particles from n labeled ones, along the graph of nearest neighbors.

    Embeddings are standardized over all particles, projected on their principal components and scaled to unit length.
    Each class ends with the same total mass, so that a class that is labeled in a dense region does not take over the
    rest. This assumes about equally frequent classes; experiments/LOG.md says what it costs where they are not.

    Parameters
    ----------
    known_embeddings, known_labels
        Labeled particles; rows with label -1 take part without a label.
    embeddings
        Particles that get a label.
    class_count
        Number of classes; classes without any label are never assigned.

    Returns
    -------
    array
        (m,) label of each particle.

    Raises
    ------
    ValueError
        No particle is labeled.

    Notes
    -----
    Source: Zhou, Bousquet, Lal, Weston & Schoelkopf 2004, "Learning with local and global consistency", NIPS 16; class
    mass normalization from Zhu, Ghahramani & Lafferty 2003, ICML. Deviation: equal class masses, as the labels of a
    balanced subset say nothing about frequencies. Constants are ours.

    Examples
    --------
    >>> import numpy as np
    >>> points = np.concatenate([np.random.default_rng(0).normal(at, 0.1, size=(20, 2)) for at in (0, 5)])
    >>> labels = propagate_labels(points[[0, 20]], np.array([0, 1]), points, class_count=2)
    >>> (labels == np.repeat([0, 1], 20)).all()
    np.True_
    """
    if not (known_labels >= 0).any():
        raise ValueError("no particle has a label; label propagation needs at least one")
    count = len(known_labels)
    projected = _project(np.concatenate([known_embeddings, embeddings]).astype(np.float64))
    initial = np.concatenate([known_labels, np.full(len(embeddings), -1)])
    mass = _propagate_mass(projected, initial, class_count)
    labels = mass[count:].argmax(axis=1)
    # A particle that no label reaches takes the class of the nearest labeled one.
    unreached = np.flatnonzero(mass[count:].sum(axis=1) <= 0)
    if len(unreached):
        labeled = projected[:count][known_labels >= 0]
        nearest = (projected[count + unreached] @ labeled.T).argmax(axis=1)
        labels[unreached] = known_labels[known_labels >= 0][nearest]
    return np.asarray(labels, dtype=np.int64)


def _propagate_mass(
    projected: Float[np.ndarray, "p c"], label: Int[np.ndarray, " p"], class_count: int
) -> Float[np.ndarray, "p k"]:
    """Propagate labels along the graph, and normalize the total mass of each class to one."""
    from sklearn.semi_supervised import LabelSpreading

    # One neighbor more: every particle is its own nearest.
    neighbors = min(NEIGHBORS + 1, len(projected))
    model = LabelSpreading(kernel="knn", n_neighbors=neighbors, alpha=NEIGHBOR_WEIGHT, max_iter=_MAX_ITERATIONS)
    model.fit(projected, label)
    mass = np.zeros((len(projected), class_count))
    mass[:, model.classes_] = model.label_distributions_
    mass /= np.maximum(mass.sum(axis=0), 1e-12)
    return mass


def _project(x: Float[np.ndarray, "p e"]) -> Float[np.ndarray, "p c"]:
    """Standardize embeddings and project them on their principal components, at unit length."""
    from sklearn.decomposition import PCA

    x = (x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 1e-6)
    projected = PCA(min(DIMENSIONS, *x.shape), random_state=0).fit_transform(x)
    projected /= np.maximum(np.linalg.norm(projected, axis=1, keepdims=True), 1e-12)
    return np.asarray(projected)
