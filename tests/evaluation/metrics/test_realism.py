"""Similarity of generated to measured subtomograms."""

import numpy as np
import pytest
from scipy import ndimage

from tomosift.evaluation.metrics.realism import (
    autocorrelation,
    prdc,
    radial_power,
    spectrum_distance,
    two_sample_auroc,
)

RNG = np.random.default_rng(3)
NOISE = RNG.standard_normal((40, 16, 16, 16)).astype(np.float32)


def test_points_of_one_distribution_cover_each_other_and_distant_ones_do_not() -> None:
    first, second = RNG.standard_normal((2, 400, 3))
    alike = prdc(first, second)
    assert min(alike.precision, alike.recall, alike.coverage) > 0.9
    assert alike.density == pytest.approx(1, abs=0.15)
    apart = prdc(first, second + 50)
    assert (apart.precision, apart.recall, apart.density, apart.coverage) == (0, 0, 0, 0)


def test_few_modes_have_precision_but_neither_recall_nor_coverage() -> None:
    measured = np.concatenate([RNG.standard_normal((200, 2)), RNG.standard_normal((200, 2)) + 30])
    scores = prdc(measured, RNG.standard_normal((200, 2)))
    assert scores.precision > 0.9
    assert scores.recall == pytest.approx(0.5, abs=0.05)
    assert scores.coverage == pytest.approx(0.5, abs=0.05)


def test_prdc_of_points_on_a_line_is_that_of_a_count_by_hand() -> None:
    measured, generated = np.array([[0.0], [1], [2], [-40]]), np.array([[0.5], [5], [40]])
    # Reaches with k = 1: measured 1, 1, 1, 40; generated 4.5, 4.5, 35.
    scores = prdc(measured, generated, k=1)
    assert scores.precision == pytest.approx(1 / 3)  # 0.5, near 0 and 1
    assert scores.recall == pytest.approx(3 / 4)  # all but -40
    assert scores.density == pytest.approx(2 / 3)
    assert scores.coverage == pytest.approx(1 / 2)  # 0 and 1


def test_prdc_needs_more_points_than_neighbors() -> None:
    with pytest.raises(ValueError, match="3 generated subtomograms, expected more than k = 5"):
        prdc(RNG.standard_normal((9, 2)), RNG.standard_normal((3, 2)))


def test_white_noise_has_flat_power_of_its_variance() -> None:
    np.testing.assert_allclose(radial_power(NOISE), 1, atol=0.15)
    assert radial_power(NOISE).shape == (8,)


def test_doubled_amplitude_is_a_spectrum_distance_of_log_four() -> None:
    assert spectrum_distance(NOISE, NOISE) == 0
    assert spectrum_distance(NOISE, 2 * NOISE) == pytest.approx(np.log10(4), rel=1e-3)


def test_autocorrelation_is_of_the_axis_along_which_noise_is_smooth() -> None:
    smooth = ndimage.gaussian_filter1d(NOISE, 1.0, axis=2, mode="wrap")
    correlation = autocorrelation(smooth, reach=2)
    assert correlation.shape == (3, 2)
    np.testing.assert_allclose(correlation[[0, 2]], 0, atol=0.03)
    np.testing.assert_allclose(correlation[1], np.exp(-np.array([1.0, 4.0]) / 4), atol=0.03)


def test_shifted_features_are_separable_and_features_of_one_distribution_are_not() -> None:
    first, second = RNG.standard_normal((2, 200, 5))
    assert two_sample_auroc(first, second) == pytest.approx(0.5, abs=0.1)
    assert two_sample_auroc(first, second + 1.5) > 0.95
    with pytest.raises(ValueError, match="expected 5 or more"):
        two_sample_auroc(first, second[:4])
