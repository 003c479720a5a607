"""Calibration error, and accuracy above a threshold."""

import numpy as np
import pytest

from tomosift.evaluation.metrics.calibration import measure_calibration, measure_selective_accuracy


def probabilities(n: int = 5000, sharpen: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from probabilities that are then sharpened, so 1 is calibrated and 3 overconfident."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(n, 4)) * 1.5
    true = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    label = (true.cumsum(axis=1) < generator.random((n, 1))).sum(axis=1).clip(0, 3)
    odds = np.exp(logits * sharpen)
    return odds / odds.sum(axis=1, keepdims=True), label


def test_calibrated_probabilities_have_a_small_error_and_sharpened_ones_a_large_one() -> None:
    calibrated, overconfident = (measure_calibration(*probabilities(sharpen=s)) for s in (1.0, 3.0))
    assert calibrated.expected_error < 0.03
    assert overconfident.expected_error > 0.15
    assert calibrated.count.sum() == 5000
    assert ((calibrated.low <= calibrated.confidence) & (calibrated.confidence <= calibrated.high)).mean() > 0.7


def test_calibration_error_equals_its_definition() -> None:
    probability, label = probabilities(200)
    confidence, right = probability.max(axis=1), probability.argmax(axis=1) == label
    expected = 0.0
    for low in np.linspace(0, 0.9, 10):
        inside = (confidence > low + 1e-12) & (confidence <= low + 0.1 + 1e-12)
        if inside.any():
            expected += inside.mean() * abs(confidence[inside].mean() - right[inside].mean())
    assert measure_calibration(probability, label).expected_error == pytest.approx(expected)


def test_selective_accuracy_counts_what_is_kept() -> None:
    probability, label = probabilities(300)
    curve = measure_selective_accuracy(probability, label)
    assert curve.coverage[-1] == 1
    assert curve.accuracy[-1] == pytest.approx((probability.argmax(axis=1) == label).mean())
    for threshold, coverage, accuracy in zip(curve.threshold, curve.coverage, curve.accuracy, strict=True):
        kept = probability.max(axis=1) >= threshold
        assert coverage == pytest.approx(kept.mean())
        assert accuracy == pytest.approx((probability.argmax(axis=1) == label)[kept].mean())


def test_particles_of_equal_confidence_are_kept_together() -> None:
    probability = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4]])
    curve = measure_selective_accuracy(probability, np.array([0, 1, 0]))
    np.testing.assert_allclose(curve.threshold, [0.9, 0.6])
    np.testing.assert_allclose(curve.accuracy, [0.5, 2 / 3])


def test_threshold_for_an_accuracy_keeps_as_many_as_possible() -> None:
    probability = np.array([[0.99, 0.01], [0.9, 0.1], [0.8, 0.2], [0.7, 0.3]])
    curve = measure_selective_accuracy(probability, np.array([0, 0, 1, 0]))
    assert curve.threshold_for(0.9) == pytest.approx((0.9, 0.5))
    assert curve.threshold_for(0.75) == pytest.approx((0.7, 1.0))
    assert measure_selective_accuracy(probability, np.ones(4, int)).threshold_for(0.5) is None
