import numpy as np
import pytest
from scipy import ndimage

from tomosift.evaluation.metrics.realism import (
    autocorrelation,
    prdc,
    psnr,
    radial_power,
    spectrum_distance,
    ssim,
    two_sample_accuracy,
)

RNG = np.random.default_rng(3)
NOISE = RNG.standard_normal((40, 16, 16, 16)).astype(np.float32)


def test_points_of_one_cloud_cover_each_other_and_those_of_another_do_not() -> None:
    first, second = RNG.standard_normal((2, 400, 3))
    alike = prdc(first, second)
    assert min(alike.precision, alike.recall, alike.coverage) > 0.9
    assert alike.density == pytest.approx(1, abs=0.15)
    apart = prdc(first, second + 50)
    assert (apart.precision, apart.recall, apart.density, apart.coverage) == (0, 0, 0, 0)


def test_few_modes_have_precision_but_neither_recall_nor_coverage() -> None:
    measured = np.concatenate([RNG.standard_normal((200, 2)), RNG.standard_normal((200, 2)) + 30])
    found = prdc(measured, RNG.standard_normal((200, 2)))
    assert found.precision > 0.9
    assert found.recall == pytest.approx(0.5, abs=0.05)
    assert found.coverage == pytest.approx(0.5, abs=0.05)


def test_prdc_of_points_on_a_line_is_that_of_a_count_by_hand() -> None:
    measured, made = np.array([[0.0], [1], [2], [-40]]), np.array([[0.5], [5], [40]])
    # Reaches with k = 1: measured 1, 1, 1, 40; made 4.5, 4.5, 35.
    found = prdc(measured, made, k=1)
    assert found.precision == pytest.approx(1 / 3)  # 0.5, near 0 and 1
    assert found.recall == pytest.approx(3 / 4)  # all but -40
    assert found.density == pytest.approx(2 / 3)
    assert found.coverage == pytest.approx(1 / 2)  # 0 and 1


def test_prdc_needs_more_points_than_neighbors() -> None:
    with pytest.raises(ValueError, match="3 made boxes, expected more than k = 5"):
        prdc(RNG.standard_normal((9, 2)), RNG.standard_normal((3, 2)))


def test_white_noise_has_flat_power_of_its_variance() -> None:
    np.testing.assert_allclose(radial_power(NOISE), 1, atol=0.15)
    assert radial_power(NOISE).shape == (8,)


def test_doubled_amplitude_is_a_spectrum_distance_of_log_four() -> None:
    assert spectrum_distance(NOISE, NOISE) == 0
    assert spectrum_distance(NOISE, 2 * NOISE) == pytest.approx(np.log10(4), rel=1e-3)


def test_autocorrelation_is_of_the_axis_along_which_noise_is_smooth() -> None:
    smooth = ndimage.gaussian_filter1d(NOISE, 1.0, axis=2, mode="wrap")
    found = autocorrelation(smooth, reach=2)
    assert found.shape == (3, 2)
    np.testing.assert_allclose(found[[0, 2]], 0, atol=0.03)
    np.testing.assert_allclose(found[1], np.exp(-np.array([1.0, 4.0]) / 4), atol=0.03)


def test_psnr_and_ssim_are_best_for_equal_boxes_and_fall_with_noise() -> None:
    box = ndimage.gaussian_filter(NOISE[0], 2)
    assert (psnr(box, box), ssim(box, box)) == (float("inf"), pytest.approx(1))
    little, much = box + 0.01 * NOISE[1], box + 0.1 * NOISE[1]
    assert psnr(box, little) - psnr(box, much) == pytest.approx(20, abs=1e-3)
    assert 1 > ssim(box, little) > ssim(box, much)


def test_a_classifier_tells_shifted_features_apart_and_equal_ones_not() -> None:
    first, second = RNG.standard_normal((2, 200, 5))
    assert two_sample_accuracy(first, second) == pytest.approx(0.5, abs=0.1)
    assert two_sample_accuracy(first, second + 1.5) > 0.95
    with pytest.raises(ValueError, match="expected 5 or more"):
        two_sample_accuracy(first, second[:4])
