"""Linear probe: logistic regression on frozen embeddings, which measures what an encoder has learned."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

LABELS_TO_CROSS_VALIDATE = 50
"""Labels of the rarest class from which C is cross-validated; with fewer a fixed value is less noisy."""
INVERSE_REGULARIZATIONS = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 1.0, 10.0)
"""Values of C that are cross-validated on the training labels."""
FEW_LABELS_REGULARIZATION = 0.01
"""C where some class has too few labels to cross-validate."""
_ABSENT_BIAS = -1e4
"""Bias of a class without labels, which is never predicted."""
_MAX_LEAVE_ONE_OUT = 100
"""Labels up to which each is left out singly."""
_FOLDS = 10
_MAX_ITERATIONS = 5000


@dataclass(frozen=True)
class LinearProbe:
    """A fitted probe: ``logits = embeddings @ weight.T + bias``.

    The embeddings are those of the encoder; the weights absorb their standardization.
    """

    weight: Float[np.ndarray, "k e"]
    bias: Float[np.ndarray, " k"]
    inverse_regularization: float
    """C of the logistic regression on standardized embeddings."""

    def logits(self, embeddings: Float[np.ndarray, "n e"]) -> Float[np.ndarray, "n k"]:
        """Compute one logit per particle and class."""
        return np.asarray(np.asarray(embeddings, dtype=np.float64) @ self.weight.T + self.bias)


def fit_linear_probe(
    embeddings: Float[np.ndarray, "n e"],
    labels: Int[np.ndarray, " n"],
    class_count: int | None = None,
    inverse_regularization: float | None = None,
) -> LinearProbe:
    """Fit a logistic regression to embeddings, standardized by their own mean and standard deviation.

    Parameters
    ----------
    embeddings
        Of n particles.
    labels
        Their classes; rows with label -1 are left out. A class without any label gets weight 0 and a bias of -10000,
        so that it is never predicted.
    class_count
        Number of classes; None takes one more than the largest label.
    inverse_regularization
        C of the regression. None chooses it by stratified cross-validation on these labels: five folds, lowest log
        loss at its best temperature, the smaller C on a tie. Where a class has fewer than 50 labels it is 0.01.

    Returns
    -------
    LinearProbe

    Raises
    ------
    ValueError
        There is no label, or a label is not below ``class_count``.

    Examples
    --------
    >>> import numpy as np
    >>> embeddings = np.array([[0.0, 1.0], [0.2, 0.9], [1.0, 0.0], [0.9, 0.1]])
    >>> probe = fit_linear_probe(embeddings, np.array([0, 0, 1, 1]))
    >>> probe.logits(embeddings).argmax(axis=1).tolist()
    [0, 0, 1, 1]
    """
    known = labels >= 0
    if not known.any():
        raise ValueError("no particle has a label; the probe needs at least one")
    x, y = np.asarray(embeddings[known], dtype=np.float64), labels[known]
    k = int(y.max()) + 1 if class_count is None else class_count
    if y.max() >= k:
        raise ValueError(f"label {y.max()} has no class: there are {k} classes, counted from 0")
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    scale = np.where(deviation > 1e-12, deviation, 1.0)
    present = np.unique(y)
    weight, bias = np.zeros((k, x.shape[1])), np.full(k, _ABSENT_BIAS)
    if len(present) == 1:
        bias[present] = 0.0
        return LinearProbe(weight, bias, FEW_LABELS_REGULARIZATION)
    standardized = (x - mean) / scale
    c = inverse_regularization or _choose_regularization(standardized, y)
    standardized_weight, standardized_bias = _fit(standardized, y, c)
    weight[present] = standardized_weight / scale
    bias[present] = standardized_bias - weight[present] @ mean
    return LinearProbe(weight, bias, c)


def measure_probe_accuracy(
    train_embeddings: Float[np.ndarray, "n e"],
    train_labels: Int[np.ndarray, " n"],
    test_embeddings: Float[np.ndarray, "m e"],
    test_labels: Int[np.ndarray, " m"],
) -> float:
    """Return the accuracy on test particles of a probe fitted to training particles.

    Rows with label -1 do not count. The labels of test particles choose nothing.

    Raises
    ------
    ValueError
        The training or the test particles have no label.

    Notes
    -----
    Source: Alain & Bengio 2016, "Understanding intermediate layers using linear classifier probes"; standardization
    and the rule for C are ours.
    """
    known = test_labels >= 0
    if not known.any():
        raise ValueError("no test particle has a label; accuracy needs at least one")
    predicted = fit_linear_probe(train_embeddings, train_labels).logits(test_embeddings[known]).argmax(axis=1)
    return float((predicted == test_labels[known]).mean())


def leave_one_out_logits(
    embeddings: Float[np.ndarray, "n e"], labels: Int[np.ndarray, " n"], class_count: int
) -> Float[np.ndarray, "m k"]:
    """Compute logits of each particle by a probe that was fitted without it.

    Up to 100 labels each is left out singly; more are split into ten folds. With five labels per class a fold of ten
    particles would take a fifth of the labels from the probe, and its accuracy would be underestimated. C is chosen
    once with all labels: one number among a few values cannot memorize a particle.

    Parameters
    ----------
    embeddings, labels
        Of n particles; every row has a label.
    class_count
        Number k of classes.

    Returns
    -------
    array
        (m, k) logits; m is n, or 0 where some class has a single label and nothing can be left out.
    """
    from sklearn.model_selection import LeaveOneOut, StratifiedKFold

    smallest = int(np.unique(labels, return_counts=True)[1].min())
    if smallest < 2:
        return np.zeros((0, class_count))
    logits = np.zeros((len(labels), class_count))
    c = fit_linear_probe(embeddings, labels, class_count).inverse_regularization
    is_many = len(labels) > _MAX_LEAVE_ONE_OUT
    folds = StratifiedKFold(min(_FOLDS, smallest), shuffle=True, random_state=0) if is_many else LeaveOneOut()
    for train, test in folds.split(embeddings, labels):
        logits[test] = fit_linear_probe(embeddings[train], labels[train], class_count, c).logits(embeddings[test])
    return logits


def accuracy_lower_bound(logits: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"]) -> float:
    """Return the lower end of the 95 % interval of the accuracy of these logits (Wilson 1927)."""
    from scipy.stats import binomtest

    right = binomtest(int((logits.argmax(axis=1) == labels).sum()), len(labels))
    return float(right.proportion_ci(0.95, "wilson").low)


def _fit(
    x: Float[np.ndarray, "n e"], y: Int[np.ndarray, " n"], inverse_regularization: float
) -> tuple[Float[np.ndarray, "k e"], Float[np.ndarray, " k"]]:
    """Fit weights and biases of the classes that are present."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=inverse_regularization, max_iter=_MAX_ITERATIONS).fit(x, y)
    if len(model.classes_) > 2:
        return model.coef_, model.intercept_
    # scikit-learn keeps one row for two classes, the difference of their logits.
    return np.concatenate([-model.coef_, model.coef_]) / 2, np.concatenate([-model.intercept_, model.intercept_]) / 2


def _choose_regularization(x: Float[np.ndarray, "n e"], y: Int[np.ndarray, " n"]) -> float:
    """Choose C by cross-validation, or the fixed value where labels are few."""
    rarest = int(np.unique(y, return_counts=True)[1].min())
    if rarest < LABELS_TO_CROSS_VALIDATE:
        return FEW_LABELS_REGULARIZATION
    from sklearn.model_selection import StratifiedKFold

    from tomosift.learning.calibration import fit_temperature, negative_log_likelihood

    folds = list(StratifiedKFold(5, shuffle=True, random_state=0).split(x, y))
    index = np.searchsorted(np.unique(y), y)

    def loss(value: float) -> float:
        logits = np.zeros((len(y), int(index.max()) + 1))
        for train, test in folds:
            weight, bias = _fit(x[train], y[train], value)
            logits[test] = x[test] @ weight.T + bias
        # A small C makes small logits. The temperature corrects that later, so it must not count against C.
        return negative_log_likelihood(logits, index, fit_temperature(logits, index))

    best, lowest = INVERSE_REGULARIZATIONS[0], loss(INVERSE_REGULARIZATIONS[0])
    for value in INVERSE_REGULARIZATIONS[1:]:
        # The loss has one minimum along C, and fits take longest where regularization is weak.
        if (current := loss(value)) >= lowest:
            break
        best, lowest = value, current
    return best
