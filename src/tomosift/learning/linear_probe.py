"""A linear classifier on frozen embeddings: the cheapest honest measure of what an encoder has learned."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

LABELS_TO_CROSS_VALIDATE = 50
"""Labels of the rarest class from which cross-validation is less noisy than a fixed value."""
INVERSE_REGULARIZATIONS = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 1.0, 10.0)
"""Values of C among which cross-validation on the training labels chooses."""
FEW_LABELS_REGULARIZATION = 0.01
"""C where some class has too few labels to cross-validate."""
_NEVER = -1e4
_MOST_TO_LEAVE_OUT_SINGLY = 100


@dataclass(frozen=True)
class LinearProbe:
    """``logits = embeddings @ weight.T + bias``, on embeddings as they are: standardization is folded in."""

    weight: Float[np.ndarray, "k e"]
    bias: Float[np.ndarray, " k"]
    inverse_regularization: float
    """C of the logistic regression on standardized embeddings."""

    def logits(self, embeddings: Float[np.ndarray, "n e"]) -> Float[np.ndarray, "n k"]:
        """One logit per particle and class."""
        return np.asarray(np.asarray(embeddings, dtype=np.float64) @ self.weight.T + self.bias)


def fit_linear_probe(
    embeddings: Float[np.ndarray, "n e"],
    labels: Int[np.ndarray, " n"],
    class_count: int | None = None,
    inverse_regularization: float | None = None,
) -> LinearProbe:
    """Logistic regression on embeddings standardized with their own mean and deviation.

    C, where not given, is chosen by stratified cross-validation on these labels (five folds, lowest log loss at its
    best temperature, the smaller C on a tie), and is 0.01 where a class has fewer than 50 labels. Rows with label -1
    are left out. A class without any label gets weight 0 and a bias of -10000: it is never predicted.

    Parameters
    ----------
    class_count
        Number of classes; by default one more than the largest label.

    Raises
    ------
    ValueError
        When there is no label, or a label is not below ``class_count``.
    """
    known = labels >= 0
    if not known.any():
        raise ValueError("no particle has a label; the probe needs at least one")
    x, y = np.asarray(embeddings[known], dtype=np.float64), labels[known]
    k = int(y.max()) + 1 if class_count is None else class_count
    if y.max() >= k:
        raise ValueError(f"label {y.max()} was met but there are {k} classes, counted from 0")
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    scale = np.where(deviation > 1e-12, deviation, 1.0)
    present = np.unique(y)
    weight, bias = np.zeros((k, x.shape[1])), np.full(k, _NEVER)
    if len(present) == 1:
        bias[present] = 0.0
        return LinearProbe(weight, bias, FEW_LABELS_REGULARIZATION)
    standardized = (x - mean) / scale
    chosen = inverse_regularization or _choose_regularization(standardized, y)
    fitted_weight, fitted_bias = _fit(standardized, y, chosen)
    weight[present] = fitted_weight / scale
    bias[present] = fitted_bias - weight[present] @ mean
    return LinearProbe(weight, bias, chosen)


def linear_probe(
    train_embeddings: Float[np.ndarray, "n e"],
    train_labels: Int[np.ndarray, " n"],
    test_embeddings: Float[np.ndarray, "m e"],
    test_labels: Int[np.ndarray, " m"],
) -> float:
    """Accuracy of `fit_probe` on test particles; test labels choose nothing and rows with label -1 do not count.

    Source: Alain & Bengio 2016, "Understanding intermediate layers using linear classifier probes"; standardization
    and the rule for C are ours.

    Raises
    ------
    ValueError
        When the training or the test particles have no label.
    """
    known = test_labels >= 0
    if not known.any():
        raise ValueError("no test particle has a label; accuracy needs at least one")
    predicted = fit_linear_probe(train_embeddings, train_labels).logits(test_embeddings[known]).argmax(axis=1)
    return float((predicted == test_labels[known]).mean())


def leave_one_out_logits(
    embeddings: Float[np.ndarray, "n e"], labels: Int[np.ndarray, " n"], class_count: int
) -> Float[np.ndarray, "m k"]:
    """Logits of each particle by a probe that was fitted without it: leaving one out, or ten folds of over 100 labels.

    With five labels per class a fold of ten particles would cost the probe a fifth of its labels, and so would make it
    look worse than it is. m is n, or 0 where some class has a single label and nothing can be left out. All rows must
    have a label. C is chosen once, with all labels: one number of five cannot remember a particle.
    """
    from sklearn.model_selection import LeaveOneOut, StratifiedKFold

    smallest = int(np.unique(labels, return_counts=True)[1].min())
    if smallest < 2:
        return np.zeros((0, class_count))
    logits = np.zeros((len(labels), class_count))
    chosen = fit_linear_probe(embeddings, labels, class_count).inverse_regularization
    many = len(labels) > _MOST_TO_LEAVE_OUT_SINGLY
    folds = StratifiedKFold(min(10, smallest), shuffle=True, random_state=0) if many else LeaveOneOut()
    for kept, left in folds.split(embeddings, labels):
        logits[left] = fit_linear_probe(embeddings[kept], labels[kept], class_count, chosen).logits(embeddings[left])
    return logits


def accuracy_lower_bound(logits: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"]) -> float:
    """Lower end of the 95 % interval of the share of particles that their logits name right (Wilson 1927)."""
    from scipy.stats import binomtest

    right = binomtest(int((logits.argmax(axis=1) == labels).sum()), len(labels))
    return float(right.proportion_ci(0.95, "wilson").low)


def _fit(
    x: Float[np.ndarray, "n e"], y: Int[np.ndarray, " n"], inverse_regularization: float
) -> tuple[Float[np.ndarray, "k e"], Float[np.ndarray, " k"]]:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=inverse_regularization, max_iter=5000).fit(x, y)
    if len(model.classes_) > 2:
        return model.coef_, model.intercept_
    # scikit-learn keeps one row for two classes, the difference of their logits.
    return np.concatenate([-model.coef_, model.coef_]) / 2, np.concatenate([-model.intercept_, model.intercept_]) / 2


def _choose_regularization(x: Float[np.ndarray, "n e"], y: Int[np.ndarray, " n"]) -> float:
    rarest = int(np.unique(y, return_counts=True)[1].min())
    if rarest < LABELS_TO_CROSS_VALIDATE:
        return FEW_LABELS_REGULARIZATION
    from sklearn.model_selection import StratifiedKFold

    from tomosift.learning.calibration import fit_temperature, negative_log_likelihood

    folds = list(StratifiedKFold(5, shuffle=True, random_state=0).split(x, y))
    place = np.searchsorted(np.unique(y), y)

    def loss(value: float) -> float:
        logits = np.zeros((len(y), int(place.max()) + 1))
        for train, test in folds:
            weight, bias = _fit(x[train], y[train], value)
            logits[test] = x[test] @ weight.T + bias
        # A small C makes small logits. That is put right by the temperature later and must not count against it.
        return negative_log_likelihood(logits, place, fit_temperature(logits, place))

    best, least = INVERSE_REGULARIZATIONS[0], loss(INVERSE_REGULARIZATIONS[0])
    for value in INVERSE_REGULARIZATIONS[1:]:
        # The loss has one minimum along C, and the weak end of the path is where fits take longest.
        if (found := loss(value)) >= least:
            break
        best, least = value, found
    return best
