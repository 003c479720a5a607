"""Predictions as columns of a table."""

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from tomosift.data.predictions import with_predictions
from tomosift.particles import Particles

NAMES = ("ribosome 70S", "groel", "other")


def particles(count: int) -> Particles:
    columns = pd.DataFrame({"rlnTomoName": ["TS_1"] * count, "foreign": np.arange(count)})
    return Particles.create(["TS_1"] * count, np.zeros((count, 3)), columns=columns, source="relion5")


@given(st.integers(1, 20), st.integers(0, 1000), st.floats(0, 1))
def test_number_name_and_confidence_agree_with_the_probabilities(count: int, seed: int, limit: float) -> None:
    probabilities = np.random.default_rng(seed).dirichlet(np.ones(3), size=count)
    given_probabilities = probabilities.copy()
    found = with_predictions(particles(count), probabilities, np.ones(count), NAMES, limit)
    sure = probabilities.max(1) >= limit
    np.testing.assert_array_equal(found.columns["rlnClassNumber"], np.where(sure, probabilities.argmax(1) + 1, 0))
    answers = [NAMES[k] if yes else "unknown" for k, yes in zip(probabilities.argmax(1), sure, strict=True)]
    assert found.columns["tomosiftClass"].tolist() == found.class_name.tolist() == answers
    np.testing.assert_allclose(found.columns["tomosiftConfidence"], probabilities.max(1), atol=1e-6)
    np.testing.assert_array_equal(found.score, probabilities.max(1))
    np.testing.assert_array_equal(probabilities, given_probabilities)


def test_probability_columns_carry_names_without_spaces() -> None:
    found = with_predictions(particles(1), np.array([[0.2, 0.5, 0.3]]), np.ones(1), NAMES)
    assert found.columns["tomosiftProbability_ribosome_70S"].tolist() == [0.2]
    assert found.columns["tomosiftProbability_groel"].tolist() == [0.5]


def test_other_columns_and_the_source_stay() -> None:
    given_particles = particles(4)
    found = with_predictions(given_particles, np.full((4, 3), 1 / 3), np.ones(4), NAMES)
    pd.testing.assert_frame_equal(found.columns[["rlnTomoName", "foreign"]], given_particles.columns)
    assert found.source == "relion5"
    assert "rlnClassNumber" not in given_particles.columns


def test_earlier_predictions_are_replaced() -> None:
    once = with_predictions(particles(2), np.array([[1.0, 0, 0], [0, 1, 0]]), np.ones(2), NAMES)
    twice = with_predictions(once, np.array([[0.0, 0, 1], [0, 0, 1]]), np.ones(2), NAMES)
    assert list(twice.columns.columns) == list(once.columns.columns)
    assert twice.columns["rlnClassNumber"].tolist() == [3, 3]


def test_particles_below_the_minimum_similarity_are_unknown() -> None:
    similarity = np.array([0.9, 0.1, -0.2])
    sure = np.array([[0.9, 0.1, 0.0], [0.9, 0.1, 0.0], [1.0, 0.0, 0.0]])
    assert with_predictions(particles(3), sure, similarity, NAMES).columns["rlnClassNumber"].tolist() == [1, 1, 1]
    found = with_predictions(particles(3), sure, similarity, NAMES, 0.5, 0.1)
    assert found.columns["rlnClassNumber"].tolist() == [1, 1, 0]
    assert found.columns["tomosiftSimilarity"].tolist() == [0.9, 0.1, -0.2]


def test_the_class_number_of_another_program_is_kept_under_another_name() -> None:
    came = particles(2).with_columns({"rlnClassNumber": np.array([4, 7])})
    once = with_predictions(came, np.array([[1.0, 0, 0], [0, 1, 0]]), np.ones(2), NAMES)
    assert once.columns["rlnClassNumber"].tolist() == [1, 2]
    assert once.columns["tomosiftInputClassNumber"].tolist() == [4, 7]
    twice = with_predictions(once, np.array([[0.0, 0, 1], [0, 0, 1]]), np.ones(2), NAMES)
    assert twice.columns["tomosiftInputClassNumber"].tolist() == [4, 7]


def test_class_numbers_that_were_given_come_back() -> None:
    particles = Particles.create(["a"] * 2, np.zeros((2, 3)))
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8]])
    written = with_predictions(particles, probabilities, np.ones(2), ("class 2", "class 5"))
    assert written.columns["rlnClassNumber"].tolist() == [2, 5]
