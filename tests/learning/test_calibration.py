"""Calibration by temperature scaling."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from tomosift.learning.calibration import fit_temperature, negative_log_likelihood, softmax


def draw_logits(temperature: float, n: int = 4000, k: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose labels were drawn from softmax(logits / temperature)."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(n, k)) * 3
    labels = (softmax(logits, temperature).cumsum(axis=1) < generator.random((n, 1))).sum(axis=1)
    return logits, labels


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_by_which_labels_were_drawn_is_recovered(temperature: float) -> None:
    assert fit_temperature(*draw_logits(temperature)) == pytest.approx(temperature, rel=0.1)


def test_many_labels_give_the_maximum_likelihood_temperature() -> None:
    logits, labels = draw_logits(2.0)
    rows = np.arange(len(labels))
    reference = minimize_scalar(
        lambda t: -log_softmax(logits / t, axis=1)[rows, labels].mean(), bounds=(0.1, 10), method="bounded"
    ).x
    assert fit_temperature(logits, labels) == pytest.approx(reference, rel=2e-3)


def test_a_few_labels_that_are_all_right_do_not_make_every_confidence_one() -> None:
    logits = np.eye(3) * 4
    temperature = fit_temperature(logits, np.arange(3))
    assert 0.2 < temperature < 1
    assert softmax(logits, temperature).max() < 0.9999


@given(st.integers(0, 2**32 - 1), st.floats(0.05, 20))
def test_temperature_never_changes_the_most_probable_class(seed: int, temperature: float) -> None:
    logits = np.random.default_rng(seed).normal(size=(10, 4))
    probabilities = softmax(logits, temperature)
    np.testing.assert_array_equal(probabilities.argmax(axis=1), logits.argmax(axis=1))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)


def test_unlabeled_rows_do_not_count() -> None:
    logits, labels = draw_logits(2.0, n=200)
    padded = np.concatenate([logits, np.full((50, 5), 7.0)]), np.concatenate([labels, np.full(50, -1)])
    assert fit_temperature(*padded) == pytest.approx(fit_temperature(logits, labels))
    assert negative_log_likelihood(*padded) == pytest.approx(negative_log_likelihood(logits, labels))


def test_arguments_are_left_untouched() -> None:
    logits, labels = draw_logits(2.0, n=50)
    before = logits.copy(), labels.copy()
    fit_temperature(logits, labels)
    np.testing.assert_array_equal(logits, before[0])
    np.testing.assert_array_equal(labels, before[1])


def test_missing_labels_and_temperatures_that_are_not_positive_are_refused() -> None:
    with pytest.raises(ValueError, match="no particle has a label"):
        fit_temperature(np.zeros((2, 3)), np.full(2, -1))
    with pytest.raises(ValueError, match="label 3 has no logit"):
        fit_temperature(np.zeros((2, 3)), np.array([0, 3]))
    with pytest.raises(ValueError, match="expected a positive number"):
        softmax(np.zeros((2, 3)), 0.0)
