"""Scores of picked particles, against counts by hand."""

import math

import numpy as np
import pytest

from tomosift.evaluation.metrics.detection import ClassDetectionScores, match_picks, score_detections
from tomosift.particles import Particles

RADIUS = {"a": 100.0, "b": 40.0}
Row = tuple[str, str, float, float]


def table(*rows: Row) -> Particles:
    """Particles of these tomograms and classes, positions along x, and scores."""
    position = np.array([[0.0, 0.0, x] for _, _, x, _ in rows]).reshape(-1, 3)
    score = np.array([score for *_, score in rows])
    return Particles.create([row[0] for row in rows], position, class_name=[row[1] for row in rows], score=score)


def truth(*rows: tuple[str, str, float]) -> Particles:
    return table(*((tomogram, name, x, np.nan) for tomogram, name, x in rows))


def test_counts_and_scores_are_those_by_hand() -> None:
    true = truth(("t", "a", 0), ("t", "a", 500), ("t", "a", 1000), ("t", "a", 1500), ("u", "b", 0), ("u", "b", 300))
    picks = table(
        ("t", "a", 30, 0.9),  # right, 30 A off
        ("t", "a", 550, 0.8),  # right, just within half the radius
        ("t", "a", 1051, 0.9),  # too far
        ("u", "b", 310, 0.7),  # right, 10 A off
    )
    scores = score_detections(picks, true, RADIUS)
    assert scores.classes["a"] == ClassDetectionScores(right=2, picks=3, particles=4, error_angstrom=40.0)
    assert scores.classes["b"] == ClassDetectionScores(right=1, picks=1, particles=2, error_angstrom=10.0)
    assert scores.classes["a"].precision == pytest.approx(2 / 3)
    assert scores.classes["a"].recall == pytest.approx(1 / 2)
    assert scores.precision == pytest.approx((2 / 3 + 1) / 2)
    assert scores.recall == pytest.approx(1 / 2)
    # F-beta is (1 + b^2) right / ((1 + b^2) right + b^2 missed + wrong).
    assert scores.f_beta.value == pytest.approx((34 / (34 + 32 + 1) + 17 / (17 + 16)) / 2)
    assert scores.f1.value == pytest.approx((4 / (4 + 2 + 1) + 2 / (2 + 1)) / 2)


def test_each_true_particle_counts_for_one_pick_the_most_probable() -> None:
    picks = table(("t", "a", 5, 0.6), ("t", "a", 40, 0.9), ("t", "a", -20, 0.7))
    scores = score_detections(picks, truth(("t", "a", 0)), RADIUS)
    assert scores.classes["a"] == ClassDetectionScores(right=1, picks=3, particles=1, error_angstrom=40.0)


def test_picks_without_scores_choose_in_their_order() -> None:
    picks = table(("t", "a", 30, np.nan), ("t", "a", 5, np.nan))
    assert score_detections(picks, truth(("t", "a", 0)), RADIUS).classes["a"].error_angstrom == 30.0


def test_picks_are_matched_to_the_nearest_free_particle() -> None:
    line = np.array([[0.0, 0, 0], [0, 0, 30], [0, 0, 35]])
    assert match_picks(line[[1, 1, 1]], line, 10.0).tolist() == [0.0, 5.0, math.inf]
    assert match_picks(line, line[:0], 10.0).tolist() == [math.inf] * 3
    assert match_picks(line[:0], line, 10.0).tolist() == []


def test_picks_of_other_classes_and_tomograms_do_not_count() -> None:
    true = truth(("t", "a", 0), ("t", "c", 500))
    picks = table(("t", "b", 0, 0.9), ("u", "a", 0, 0.9), ("t", "c", 500, 0.9), ("t", "", 0, 0.9))
    scores = score_detections(picks, true, RADIUS)
    assert list(scores.classes) == ["a"]
    one = scores.classes["a"]
    assert (one.right, one.picks, one.particles) == (0, 0, 1)
    assert math.isnan(one.error_angstrom)
    assert scores.f1.value == 0.0
    assert scores.recall == 0.0


@pytest.mark.parametrize("beta", [0.5, 1.0, 4.0])
def test_f_score_is_the_weighted_harmonic_mean_of_precision_and_recall(beta: float) -> None:
    one = ClassDetectionScores(right=30, picks=50, particles=40, error_angstrom=0.0)
    by_hand = (1 + beta**2) * one.precision * one.recall / (beta**2 * one.precision + one.recall)
    assert one.f_score(beta) == pytest.approx(by_hand)


def test_scores_that_are_not_defined_are_no_numbers() -> None:
    assert math.isnan(ClassDetectionScores(0, 0, 3, math.nan).precision)
    assert ClassDetectionScores(0, 0, 3, math.nan).f_score(1.0) == 0.0
    nothing = ClassDetectionScores(0, 4, 0, math.nan)
    assert math.isnan(nothing.recall)
    assert math.isnan(nothing.f_score(1.0))


def test_intervals_over_tomograms_contain_the_value_and_shrink_with_their_number() -> None:
    rng = np.random.default_rng(0)
    widths = []
    for count in (4, 40):
        rows = [(f"t{t}", "a", 300.0 * k) for t in range(count) for k in range(10)]
        picks = [(*row, 0.5) for row in rows if rng.random() < 0.3 + 0.6 * (int(row[0][1:]) % 2)]
        scores = score_detections(table(*picks), truth(*rows), RADIUS)
        for interval in (scores.f1, scores.f_beta):
            assert interval.low < interval.value < interval.high
        widths.append(scores.f1.high - scores.f1.low)
        assert scores.f1 == score_detections(table(*picks), truth(*rows), RADIUS).f1
    assert widths[1] < 0.6 * widths[0]


def test_without_true_particles_of_the_classes_nothing_is_scored() -> None:
    with pytest.raises(ValueError, match="there is no true particle of a, b; check the class names"):
        score_detections(table(("t", "a", 0, 0.9)), truth(("t", "c", 0)), RADIUS)
