"""Episodes: accuracy is 1 for distant classes and chance for equal ones."""

import numpy as np
import pytest

from tomosift.evaluation.metrics.few_shot import EpisodeScores
from tomosift.evaluation.metrics.few_shot import score_episodes as score_by_head
from tomosift.inference.heads import CosineHead


def gaussians(distance: float, classes: int = 6, each: int = 30) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    label = np.repeat(np.arange(classes), each)
    points = distance * rng.normal(size=(classes, 16))[label] + rng.normal(size=(len(label), 16))
    return points.astype(np.float32), label


def score_episodes(embeddings: np.ndarray, label: np.ndarray, **more: int) -> EpisodeScores:
    return score_by_head(embeddings, label, CosineHead(16, 0), **more)


def test_classes_far_apart_are_always_predicted_right() -> None:
    scores = score_episodes(*gaussians(20.0), episodes=50)
    assert str(scores.accuracy) == str(scores.macro_precision) == "1.000 +- 0.000"


@pytest.mark.parametrize("ways", [2, 5])
def test_equal_classes_are_predicted_by_chance(ways: int) -> None:
    scores = score_episodes(*gaussians(0.0), ways=ways, shots=1, episodes=300)
    assert abs(scores.accuracy.value - 1 / ways) < 3 * scores.accuracy.half_width
    assert 0 < scores.accuracy.half_width < 0.03


def test_more_examples_help_and_the_interval_narrows_with_the_episodes() -> None:
    one, five = (score_episodes(*gaussians(0.7), shots=shots, episodes=200).accuracy for shots in (1, 5))
    assert five.value > one.value + 0.1
    many = score_episodes(*gaussians(0.7), shots=1, episodes=800).accuracy
    assert many.half_width == pytest.approx(one.half_width / 2, rel=0.15)


def test_same_seed_same_scores_and_unlabeled_particles_are_not_drawn() -> None:
    embeddings, label = gaussians(0.7)
    first = score_episodes(embeddings, label, episodes=30)
    more = (
        np.concatenate([embeddings, np.full((20, 16), 1e6, dtype=np.float32)]),
        np.concatenate([label, np.full(20, -1)]),
    )
    assert score_episodes(*more, episodes=30) == first
    assert score_episodes(embeddings, label, episodes=30, seed=1) != first


def test_impossible_episodes_are_refused() -> None:
    embeddings, label = gaussians(1.0, classes=4)
    with pytest.raises(ValueError, match="4 classes have 20 particles, expected at least 5"):
        score_episodes(embeddings, label)
    with pytest.raises(ValueError, match="expected >= 1"):
        score_episodes(embeddings, label, shots=0)
