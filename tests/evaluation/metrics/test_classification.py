"""Scores of predicted classes and their intervals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn import metrics as sk

from tomosift.evaluation.metrics.classification import confusion_matrix, score
from tomosift.evaluation.metrics.intervals import wilson_interval

NAMES = ("a", "b", "c", "d")


def labels(n: int = 300, accuracy: float = 0.7, seed: int = 0, k: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """True and predicted labels of the stated accuracy."""
    generator = np.random.default_rng(seed)
    true = generator.integers(0, k, n)
    wrong = (true + generator.integers(1, k, n)) % k
    return true, np.where(generator.random(n) < accuracy, true, wrong)


def tomograms(n: int, count: int) -> np.ndarray:
    return np.array([f"tomo{i % count}" for i in range(n)], dtype=object)


# Twenty particles may leave a class out, which scikit-learn remarks on and scores as we do.
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(20, 200))
def test_scores_equal_scikit_learn(seed: int, n: int) -> None:
    true, predicted = labels(n, seed=seed)
    scores = score(true, predicted, NAMES, tomograms(n, 3), resamples=10)
    assert scores.accuracy.value == pytest.approx(sk.accuracy_score(true, predicted))
    assert scores.balanced_accuracy.value == pytest.approx(sk.balanced_accuracy_score(true, predicted))
    assert scores.macro_f1.value == pytest.approx(sk.f1_score(true, predicted, average="macro"))
    np.testing.assert_array_equal(scores.confusion, sk.confusion_matrix(true, predicted, labels=range(4)))
    reference = sk.precision_recall_fscore_support(true, predicted, labels=range(4), zero_division=np.nan)
    for c, one in enumerate(scores.classes):
        np.testing.assert_allclose(one.precision.value, reference[0][c])
        np.testing.assert_allclose(one.recall.value, reference[1][c])
        assert one.count == reference[3][c]


def test_intervals_hold_the_value_and_shrink_with_particles() -> None:
    few, many = (score(*labels(n), NAMES, tomograms(n, 2)).accuracy for n in (50, 5000))
    for interval in (few, many):
        assert interval.low <= interval.value <= interval.high
    assert many.high - many.low < 0.2 * (few.high - few.low)


def test_particle_intervals_cover_the_true_accuracy_as_often_as_they_say() -> None:
    hits = []
    for seed in range(150):
        interval = score(*labels(150, 0.8, seed), NAMES, tomograms(150, 1), resamples=400).accuracy
        hits.append(interval.low <= 0.8 <= interval.high)
    assert 0.90 <= np.mean(hits) <= 0.99


def test_tomogram_intervals_cover_better_than_particle_intervals_where_quality_varies() -> None:
    def one(seed: int, count: int) -> tuple[bool, bool]:
        generator = np.random.default_rng(seed)
        quality = np.clip(generator.normal(0.7, 0.15, count), 0, 1)
        group = np.repeat(np.arange(count), 40)
        true = generator.integers(0, 4, len(group))
        predicted = np.where(generator.random(len(group)) < quality[group], true, (true + 1) % 4)
        kept = [
            score(true, predicted, NAMES, names, resamples=300).accuracy
            for names in (group.astype(str).astype(object), tomograms(len(group), 1))
        ]
        return kept[0].low <= 0.7 <= kept[0].high, kept[1].low <= 0.7 <= kept[1].high

    by_tomogram, by_particle = np.mean([one(seed, 15) for seed in range(60)], axis=0)
    assert by_tomogram > 0.85
    assert by_particle < 0.75


@pytest.mark.parametrize(("count", "unit"), [(4, "particle"), (5, "tomogram")])
def test_tomograms_are_resampled_from_five_on(count: int, unit: str) -> None:
    scores = score(*labels(100), NAMES, tomograms(100, count), resamples=10)
    assert (scores.resampled_by, scores.tomogram_count) == (unit, count)


def test_same_seed_gives_the_same_intervals() -> None:
    one, two, other = (score(*labels(100), NAMES, tomograms(100, 6), seed=seed).macro_f1 for seed in (1, 1, 2))
    assert one == two
    assert one != other


def test_a_perfect_result_on_few_particles_is_not_called_certain() -> None:
    true = np.arange(12) % 4
    scores = score(true, true, NAMES, tomograms(12, 1))
    assert scores.accuracy.high == 1
    assert 0.7 < scores.accuracy.low < 0.8
    assert scores.classes[0].recall.low == pytest.approx(binomtest(3, 3).proportion_ci(method="wilson").low, abs=1e-4)


def test_a_class_without_test_particles_is_undefined_and_does_not_count() -> None:
    true, predicted = labels(60, k=3)
    scores = score(true, predicted, NAMES, tomograms(60, 2))
    assert np.isnan([scores.classes[3].recall.value, scores.classes[3].f1.low, scores.classes[3].precision.value]).all()
    assert scores.balanced_accuracy.value == pytest.approx(sk.balanced_accuracy_score(true, predicted))
    assert scores.macro_f1.value == pytest.approx(sk.f1_score(true, predicted, average="macro"))


def test_one_class_gives_accuracy_one() -> None:
    scores = score(np.zeros(5, int), np.zeros(5, int), ("only",), tomograms(5, 5))
    assert scores.accuracy.value == scores.macro_f1.value == 1
    assert scores.majority_accuracy == 1


def test_particles_without_a_true_label_do_not_count() -> None:
    true, predicted = labels(60)
    padded = score(
        np.append(true, [-1, -1]), np.append(predicted, [0, 1]), NAMES, np.append(tomograms(60, 5), ["x", "y"])
    )
    assert padded.accuracy == score(true, predicted, NAMES, tomograms(60, 5)).accuracy
    assert confusion_matrix(np.array([-1, 0]), np.array([1, 1]), 2).sum() == 1


def test_labels_that_cannot_be_scored_are_refused() -> None:
    with pytest.raises(ValueError, match="no particle has a true label"):
        score(np.full(3, -1), np.zeros(3, int), NAMES, tomograms(3, 1))
    with pytest.raises(ValueError, match=r"outside 0 \.\. 3"):
        score(np.full(3, 4), np.zeros(3, int), NAMES, tomograms(3, 1))


def test_wilson_interval_equals_scipy() -> None:
    low, high = wilson_interval(np.array([0.0, 0.3, 1.0]), np.array([10, 10, 10]))
    for hits, one_low, one_high in zip((0, 3, 10), low, high, strict=True):
        reference = binomtest(hits, 10).proportion_ci(method="wilson")
        assert one_low == pytest.approx(reference.low, abs=1e-5)
        assert one_high == pytest.approx(reference.high, abs=1e-5)
