"""Consensus of the events: majorities, agreement, the accuracy of predictions."""

import math

import numpy as np
import pytest

from tomosift.annotation.consensus import ConsensusTracker, cohen_kappa
from tomosift.annotation.store import Store
from tomosift.evaluation.metrics.intervals import wilson_interval


def add_labels(store: Store, annotator: str, classes: dict[int, str], guess: str = "") -> None:
    for row, name in classes.items():
        kind, class_name = ("junk", "") if name == "junk" else ("label", name)
        store.add_answer(annotator, f"{annotator}-{row}-{len(store.read_events())}", [row], kind, class_name, guess)  # type: ignore[arg-type]


def test_kappa_equals_the_computation_by_hand() -> None:
    # 20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no: observed 0.7, expected 0.5 * 0.6 + 0.5 * 0.4 = 0.5.
    first = ["yes"] * 25 + ["no"] * 25
    second = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    assert cohen_kappa(first, second) == pytest.approx(0.4)


def test_kappa_equals_that_of_scikit_learn() -> None:
    from sklearn.metrics import cohen_kappa_score

    first, second = list("aabbccabcabcaab"), list("aabbcaabccbcaba")
    assert cohen_kappa(first, second) == pytest.approx(cohen_kappa_score(first, second))


def test_kappa_is_undefined_with_a_single_class() -> None:
    assert math.isnan(cohen_kappa(["a", "a"], ["a", "a"]))


def test_agreement_is_over_particles_that_both_have_labeled(store: Store) -> None:
    add_labels(store, "ada", {1: "groel", 2: "groel", 3: "junk", 4: "groel"})
    add_labels(store, "bob", {1: "groel", 2: "apoferritin", 3: "junk", 9: "groel"})
    add_labels(store, "eve", {8: "groel"})
    consensus = ConsensusTracker(store).update()
    (pair,) = consensus.agreements
    assert (pair.first, pair.second, pair.count) == ("ada", "bob", 3)
    assert pair.kappa == pytest.approx((2 / 3 - 3 / 9) / (1 - 3 / 9))
    assert consensus.disagreements == (2,)


def test_majority_is_more_than_half(store: Store) -> None:
    add_labels(store, "ada", {1: "groel", 2: "groel", 3: "groel"})
    add_labels(store, "bob", {1: "groel", 2: "apoferritin"})
    add_labels(store, "eve", {1: "apoferritin"})
    assert ConsensusTracker(store).update().majority == {1: "groel", 3: "groel"}


def test_accuracy_is_that_of_predictions_before_the_label(store: Store) -> None:
    add_labels(store, "ada", dict.fromkeys(range(3), "groel"))
    add_labels(store, "ada", dict.fromkeys(range(10, 18), "groel"), guess="groel")
    add_labels(store, "ada", dict.fromkeys(range(20, 22), "groel"), guess="apoferritin")
    curve = ConsensusTracker(store).update().accuracy_curve
    assert [(point.labels, point.count, point.share) for point in curve] == [(8, 5, 1.0), (13, 10, 0.8)]
    low, high = wilson_interval(np.array([0.8]), np.array([10]))
    assert (curve[-1].low, curve[-1].high) == (pytest.approx(float(low[0])), pytest.approx(float(high[0])))


def test_answers_of_another_program_are_read(store: Store) -> None:
    tracker = ConsensusTracker(store)
    before = tracker.update()
    assert tracker.update() is before
    add_labels(store, "bob", {1: "groel"})
    assert tracker.update().majority == {1: "groel"}
