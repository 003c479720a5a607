"""The linear probe."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tomosift.learning.linear_probe import (
    FEW_LABELS_REGULARIZATION,
    INVERSE_REGULARIZATIONS,
    accuracy_lower_bound,
    fit_linear_probe,
    measure_probe_accuracy,
)


def blobs(n: int, k: int = 4, width: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """n embeddings of width 8 around k centers on axes of very different scale."""
    generator = np.random.default_rng(seed)
    labels = np.arange(n) % k
    centers = np.random.default_rng(99).normal(size=(k, 8)) * 3
    return (centers[labels] + generator.normal(size=(n, 8)) * width) * np.geomspace(1e-3, 1e3, 8) + 5, labels


@pytest.mark.parametrize("k", [2, 4])
def test_logits_equal_a_scikit_learn_pipeline(k: int) -> None:
    x, y = blobs(80, k)
    probe = fit_linear_probe(x, y)
    reference = make_pipeline(StandardScaler(), LogisticRegression(C=probe.inverse_regularization, max_iter=5000)).fit(
        x, y
    )
    mine, theirs = probe.logits(x), reference.decision_function(x)
    difference = mine[:, 1] - mine[:, 0]
    np.testing.assert_allclose(difference, theirs if k == 2 else theirs[:, 1] - theirs[:, 0], rtol=1e-4, atol=1e-4)


def test_clear_blobs_are_separated_and_noise_is_not() -> None:
    assert measure_probe_accuracy(*blobs(40), *blobs(400, seed=1)) > 0.95
    x, y = np.random.default_rng(0).normal(size=(300, 8)), np.arange(300) % 4
    assert measure_probe_accuracy(x[:100], y[:100], x[100:], y[100:]) < 0.4


def test_test_labels_choose_nothing() -> None:
    train, (x, y) = blobs(60, width=3.0), blobs(500, width=3.0, seed=1)
    predicted = fit_linear_probe(*train).logits(x).argmax(axis=1)
    for labels in (y, (y + 1) % 4):
        assert measure_probe_accuracy(*train, x, labels) == pytest.approx((predicted == labels).mean())


def test_regularization_is_fixed_for_few_labels_and_cross_validated_for_many() -> None:
    assert fit_linear_probe(*blobs(160)).inverse_regularization == FEW_LABELS_REGULARIZATION
    assert fit_linear_probe(*blobs(400, width=0.1)).inverse_regularization == max(INVERSE_REGULARIZATIONS)
    noise = np.random.default_rng(0).normal(size=(180, 100)), np.arange(180) % 3
    assert fit_linear_probe(*noise).inverse_regularization <= 0.01


def test_a_class_without_labels_is_never_predicted() -> None:
    x, y = blobs(40)
    probe = fit_linear_probe(x, np.where(y == 2, -1, y), class_count=6)
    assert probe.weight.shape == (6, 8)
    assert set(probe.logits(x).argmax(axis=1)) <= {0, 1, 3}


def test_one_class_and_constant_embeddings_are_accepted() -> None:
    assert fit_linear_probe(np.ones((4, 3)), np.full(4, 1)).logits(np.zeros((2, 3))).argmax(axis=1).tolist() == [1, 1]
    assert np.isfinite(fit_linear_probe(np.ones((6, 3)), np.arange(6) % 2).logits(np.ones((2, 3)))).all()


def test_missing_labels_are_refused() -> None:
    x, y = blobs(8)
    with pytest.raises(ValueError, match="no particle has a label"):
        fit_linear_probe(x, np.full(8, -1))
    with pytest.raises(ValueError, match="no test particle has a label"):
        measure_probe_accuracy(x, y, x, np.full(8, -1))
    with pytest.raises(ValueError, match="there are 2 classes"):
        fit_linear_probe(x, y, class_count=2)


def test_the_lower_bound_rises_with_the_number_of_right_predictions() -> None:
    labels = np.arange(5)
    assert accuracy_lower_bound(np.eye(5), labels) == pytest.approx(
        5 / (5 + 1.96**2), abs=1e-3
    )  # all right, Wilson's formula
    many = np.tile(labels, 20)
    assert accuracy_lower_bound(np.eye(5)[many], many) > 0.95
    assert accuracy_lower_bound(np.eye(5)[(many + 1) % 5], many) == pytest.approx(0.0, abs=1e-9)
