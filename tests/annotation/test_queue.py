"""The order of the queries."""

import numpy as np
import pytest

from tomosift.annotation.queue import LabelingQueue, build_random_queue, build_strategy_queue

ROWS = np.arange(10, 310, dtype=np.int64)
EMBEDDINGS = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
PROBABILITIES = np.random.default_rng(1).dirichlet((1.0, 1.0, 1.0), 300)
NO_PREDICTIONS = np.zeros((300, 0))
LABELED = np.array([3, 7, 100])
QUEUES: list[LabelingQueue] = [
    build_random_queue(np.delete(ROWS, LABELED)),
    build_strategy_queue(ROWS, EMBEDDINGS, NO_PREDICTIONS, LABELED, 0),
    build_strategy_queue(ROWS, EMBEDDINGS, PROBABILITIES, LABELED, 0),
]


@pytest.mark.parametrize("queue", QUEUES, ids=lambda queue: queue.reason)
def test_every_queue_gives_different_free_rows_until_there_are_none(queue: LabelingQueue) -> None:
    is_excluded = np.zeros(400, dtype=bool)
    is_excluded[[12, 15, 350]] = True
    selected: list[int] = []
    while len(rows := queue.select(50, is_excluded)):
        assert len(rows) <= 50
        selected += rows.tolist()
        is_excluded[rows] = True
    assert sorted(selected) == sorted(set(ROWS.tolist()) - {12, 15} - set(ROWS[LABELED].tolist()))


def test_without_labels_every_group_is_selected_soon() -> None:
    group = np.repeat(np.arange(10), [150, 20, 20, 20, 20, 20, 20, 10, 10, 10])
    centers = 10 * np.random.default_rng(2).normal(size=(10, 8))
    embeddings = centers[group] + np.random.default_rng(3).normal(size=(300, 8))
    queue = build_strategy_queue(
        np.arange(300), embeddings.astype(np.float32), NO_PREDICTIONS, np.zeros(0, dtype=np.int64), 0
    )
    queries = queue.select(48, np.zeros(300, dtype=bool))
    assert len(set(group[queries])) == 10


def test_with_predictions_uncertain_particles_are_selected_sooner() -> None:
    probabilities = np.full((300, 2), (0.99, 0.01))
    probabilities[200:] = 0.5
    queue = build_strategy_queue(ROWS, EMBEDDINGS, probabilities, LABELED, 0)
    first, later = (queue.select(count, np.zeros(400, dtype=bool)) - ROWS[0] for count in (40, 140))
    assert (first >= 200).mean() > 0.5
    assert set(range(200, 300)) <= set(later.tolist())


def test_equal_embeddings_are_supported() -> None:
    same, few = np.zeros((60, 2), dtype=np.float32), np.arange(60)
    for probabilities in (np.zeros((60, 0)), np.full((60, 2), 0.5)):
        rows = build_strategy_queue(few, same, probabilities, np.array([0, 1]), 0).select(60, np.zeros(60, dtype=bool))
        assert sorted(rows.tolist()) == list(range(2, 60))
