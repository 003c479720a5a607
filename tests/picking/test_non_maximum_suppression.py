"""Peaks of a map: the highest first, none near another, refined between grid points."""

import numpy as np
import pytest

from tomosift.picking.non_maximum_suppression import find_peaks


def bump(shape: tuple[int, int, int], center: tuple[float, float, float], height: float) -> np.ndarray:
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), axis=-1)
    return height - 0.5 * np.square(grid - np.array(center)).sum(axis=-1)


def test_peaks_are_found_between_grid_points_the_highest_first() -> None:
    shape = (20, 24, 28)
    first, second = (6.3, 7.8, 9.0), (14.0, 18.4, 20.1)
    odds = np.maximum(bump(shape, first, 5.0), bump(shape, second, 8.0))
    label = np.zeros(shape, dtype=np.uint8)
    label[10:] = 1
    position, label_of_peak, height = find_peaks(odds, label, np.array([3.0, 3.0]), 0.0)
    np.testing.assert_allclose(position, [second, first], atol=1e-6)
    assert label_of_peak.tolist() == [1, 0]
    assert height[0] > height[1]


@pytest.mark.parametrize(("radius", "count"), [(2.1, 1), (1.9, 2)])
def test_of_two_overlapping_peaks_the_higher_is_kept(radius: float, count: int) -> None:
    shape = (12, 12, 12)
    odds = np.maximum(bump(shape, (4, 5, 5), 5.0), bump(shape, (7, 5, 5), 4.0))
    position, _, height = find_peaks(odds, np.zeros(shape, np.uint8), np.array([radius]), 0.0)
    assert len(position) == count
    assert height[0] == pytest.approx(5.0)


def test_low_peaks_and_empty_maps_give_nothing() -> None:
    shape = (8, 8, 8)
    position, label_of_peak, height = find_peaks(np.full(shape, -30.0), np.zeros(shape, np.uint8), np.array([2.0]), 0.0)
    assert position.shape == (0, 3)
    assert len(label_of_peak) == len(height) == 0


def test_a_peak_at_the_border_stays_there() -> None:
    shape = (8, 8, 8)
    position, _, _ = find_peaks(bump(shape, (0, 3, 3), 2.0), np.zeros(shape, np.uint8), np.array([2.0]), 0.0)
    assert position[0].tolist() == [0.0, 3.0, 3.0]
