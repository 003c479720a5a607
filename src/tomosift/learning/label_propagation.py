"""Labels that spread from a few particles to those that lie near them in the space of embeddings."""

import numpy as np
from jaxtyping import Float, Int

from tomosift.learning.gaussian_mixture import label_by_gaussian_mixture
from tomosift.learning.linear_probe import (
    FEW_LABELS_REGULARIZATION,
    accuracy_lower_bound,
    fit_linear_probe,
    leave_one_out_logits,
)
from tomosift.learning.plda import PLDA

NEIGHBORS = 12
"""Particles to which each one is tied."""
SPREADING = 0.9
"""Share of a particle's label that comes from its neighbors in each round."""
DIRECTIONS = 32
"""Principal directions of the embeddings in which neighbors are looked for."""
_RIGHT_ENOUGH = 0.85
"""Share of labeled particles that a probe of the others surely (95 %) names right, from which unlabeled ones can only
mislead. To take too few labels for enough costs ten times what unlabeled particles cost where they are enough."""
_FOLDS = 5
_ROUNDS = 2
"""Times that labels spread: from the labeled particles, then from those that agreed as well."""


def propagate_labels(
    known_embeddings: Float[np.ndarray, "n e"],
    known_labels: Int[np.ndarray, " n"],
    embeddings: Float[np.ndarray, "m e"],
    class_count: int,
) -> Int[np.ndarray, " m"]:
    """A label for each of the m particles from the n labeled ones.

    Embeddings are standardized over all particles, projected on their principal directions and to unit length; labels
    run along the graph of nearest neighbors. Each class ends with the same total mass, so that one that happened to
    be labeled in a crowd does not flood the rest: this assumes classes that are met about equally often; see
    experiments/LOG.md for what it costs where they are not.

    Source: Zhou, Bousquet, Lal, Weston & Schoelkopf 2004, "Learning with local and global consistency", NIPS 16; class
    mass normalization from Zhu, Ghahramani & Lafferty 2003, ICML. Deviation: equal class masses, as the labels of a
    balanced subset say nothing about frequencies. Constants are ours.

    Raises
    ------
    ValueError
        When no particle is labeled.
    """
    from sklearn.decomposition import PCA
    from sklearn.semi_supervised import LabelSpreading

    present = np.unique(known_labels[known_labels >= 0])
    if not len(present):
        raise ValueError("no particle has a label; spreading needs at least one")
    everything = np.concatenate([known_embeddings, embeddings]).astype(np.float64)
    everything = (everything - everything.mean(axis=0)) / np.maximum(everything.std(axis=0), 1e-6)
    directions = min(DIRECTIONS, *everything.shape)
    projected = PCA(directions, random_state=0).fit_transform(everything)
    projected /= np.maximum(np.linalg.norm(projected, axis=1, keepdims=True), 1e-12)
    given = np.concatenate([known_labels, np.full(len(embeddings), -1)])
    # One more neighbor than ties: every particle is its own nearest.
    neighbors = min(NEIGHBORS + 1, len(everything))
    model = LabelSpreading(kernel="knn", n_neighbors=neighbors, alpha=SPREADING, max_iter=200).fit(projected, given)
    mass = np.zeros((len(everything), class_count))
    mass[:, model.classes_] = model.label_distributions_
    mass /= np.maximum(mass.sum(axis=0), 1e-12)
    result = mass[len(known_labels) :].argmax(axis=1)
    # A particle that no label has reached says nothing; it takes the class of the nearest labeled one.
    lost = np.flatnonzero(mass[len(known_labels) :].sum(axis=1) <= 0)
    if len(lost):
        first = projected[: len(known_labels)][known_labels >= 0]
        nearest = (projected[len(known_labels) + lost] @ first.T).argmax(axis=1)
        result[lost] = known_labels[known_labels >= 0][nearest]
    return np.asarray(result, dtype=np.int64)


def assign_pseudo_labels(
    known_embeddings: Float[np.ndarray, "n e"],
    known_labels: Int[np.ndarray, " n"],
    embeddings: Float[np.ndarray, "m e"],
    class_count: int,
    plda: PLDA | None = None,
) -> Int[np.ndarray, " m"]:
    """A label for each of the m particles on which different ways to name it agree, -1 for the others.

    The ways fail differently: labels that spread follow crowds, whatever lies in them, and a probe of the labeled
    particles alone draws straight borders wherever there is little to go by. What they agree on teaches more than
    either, and particles of none of the classes are mostly left out. Both are asked again with what was agreed on. A
    class on which they never agree keeps what its labels spread to.

    With a discriminant there is a third way, better than either: `mixture_labels`. A probe of what it and the spread
    labels agree on is asked, and where it agrees with the mixture as well, that is the label. With one and with five
    labels per class this was worth five and two points of accuracy.

    Source: ours, after the disagreement of views in Blum & Mitchell 1998, "Combining labeled and unlabeled data with
    co-training", COLT.

    Raises
    ------
    ValueError
        When no particle is labeled.
    """
    source, given = known_embeddings, known_labels
    if plda is not None:
        mixed = label_by_gaussian_mixture(known_embeddings, known_labels, embeddings, plda)
        agreed = _where_same(propagate_labels(source, given, embeddings, class_count), mixed)
        source, given = _joined(known_embeddings, known_labels, embeddings, agreed)
        return _where_same(fit_linear_probe(source, given, class_count).logits(embeddings).argmax(axis=1), mixed)
    agreed = np.full(len(embeddings), -1, dtype=np.int64)
    for _ in range(_ROUNDS):
        spread = propagate_labels(source, given, embeddings, class_count)
        probe = fit_linear_probe(source, given, class_count, FEW_LABELS_REGULARIZATION)
        agreed = _where_same(probe.logits(embeddings).argmax(axis=1), spread)
        source, given = _joined(known_embeddings, known_labels, embeddings, agreed)
    return agreed


def out_of_fold_logits(
    known_embeddings: Float[np.ndarray, "n e"],
    known_labels: Int[np.ndarray, " n"],
    embeddings: Float[np.ndarray, "m e"],
    class_count: int,
    plda: PLDA | None = None,
) -> Float[np.ndarray, "p k"]:
    """Logits of each labeled particle by a probe of the other labels and of what is agreed on by them among the m.

    At most five folds. p is n, or 0 where some class has a single label. Leaving labels out singly, without spreading,
    made probes look 10 to 40 points worse than they were with three to five labels per class; folds with it came
    within 10.
    """
    from sklearn.model_selection import StratifiedKFold

    smallest = int(np.unique(known_labels, return_counts=True)[1].min())
    if smallest < 2:
        return np.zeros((0, class_count))
    logits = np.zeros((len(known_labels), class_count))
    folds = StratifiedKFold(min(_FOLDS, smallest), shuffle=True, random_state=0)
    for kept, left in folds.split(known_embeddings, known_labels):
        source, given = known_embeddings[kept], known_labels[kept]
        source, given = _joined(
            source, given, embeddings, assign_pseudo_labels(source, given, embeddings, class_count, plda)
        )
        logits[left] = fit_linear_probe(source, given, class_count, FEW_LABELS_REGULARIZATION).logits(
            known_embeddings[left]
        )
    return logits


def labels_suffice(
    known_embeddings: Float[np.ndarray, "n e"], known_labels: Int[np.ndarray, " n"], class_count: int
) -> bool:
    """Whether a probe of the other labels surely names most labeled particles right, so that no others are needed."""
    crossed = leave_one_out_logits(known_embeddings, known_labels, class_count)
    # A single label of a class cannot be asked how well the others name it.
    return len(crossed) > 0 and accuracy_lower_bound(crossed, known_labels) >= _RIGHT_ENOUGH


def _where_same(other: Int[np.ndarray, " m"], label: Int[np.ndarray, " m"]) -> Int[np.ndarray, " m"]:
    """Labels with which another way agrees, and all of a class on which it never does; -1 elsewhere."""
    same = other == label
    return np.where(same | ~np.isin(label, label[same]), label, -1)


def _joined(
    known_embeddings: Float[np.ndarray, "n e"],
    known_labels: Int[np.ndarray, " n"],
    embeddings: Float[np.ndarray, "m e"],
    agreed: Int[np.ndarray, " m"],
) -> tuple[Float[np.ndarray, "p e"], Int[np.ndarray, " p"]]:
    """The labeled particles, and after them those that were agreed on."""
    sure = agreed >= 0
    return np.concatenate([known_embeddings, embeddings[sure]]), np.concatenate([known_labels, agreed[sure]])
