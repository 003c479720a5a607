"""What is asked next."""

import numpy as np
import pytest

from tomosift.annotation.queue import LabelingQueue, random_queue, strategy_queue

ROWS = np.arange(10, 310, dtype=np.int64)
PLACES = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
PROBABILITIES = np.random.default_rng(1).dirichlet((1.0, 1.0, 1.0), 300)
NOTHING = np.zeros((300, 0))
LEARNED = np.array([3, 7, 100])
QUEUES: list[LabelingQueue] = [
    random_queue(np.delete(ROWS, LEARNED)),
    strategy_queue(ROWS, PLACES, NOTHING, LEARNED, 0),
    strategy_queue(ROWS, PLACES, PROBABILITIES, LEARNED, 0),
]


@pytest.mark.parametrize("queue", QUEUES, ids=lambda queue: queue.reason)
def test_every_queue_gives_different_free_rows_until_there_are_none(queue: LabelingQueue) -> None:
    exclude = np.zeros(400, dtype=bool)
    exclude[[12, 15, 350]] = True
    given: list[int] = []
    while len(rows := queue.next(50, exclude)):
        assert len(rows) <= 50
        given += rows.tolist()
        exclude[rows] = True
    assert sorted(given) == sorted(set(ROWS.tolist()) - {12, 15} - set(ROWS[LEARNED].tolist()))


def test_without_labels_every_group_is_asked_about_soon() -> None:
    group = np.repeat(np.arange(10), [150, 20, 20, 20, 20, 20, 20, 10, 10, 10])
    centers = 10 * np.random.default_rng(2).normal(size=(10, 8))
    places = centers[group] + np.random.default_rng(3).normal(size=(300, 8))
    queue = strategy_queue(np.arange(300), places.astype(np.float32), NOTHING, np.zeros(0, dtype=np.int64), 0)
    asked = queue.next(48, np.zeros(300, dtype=bool))
    assert len(set(group[asked])) == 10


def test_with_guesses_what_lies_between_two_classes_is_asked_sooner() -> None:
    probabilities = np.full((300, 2), (0.99, 0.01))
    probabilities[200:] = 0.5
    queue = strategy_queue(ROWS, PLACES, probabilities, LEARNED, 0)
    first, later = (queue.next(count, np.zeros(400, dtype=bool)) - ROWS[0] for count in (40, 140))
    assert (first >= 200).mean() > 0.5
    assert set(range(200, 300)) <= set(later.tolist())


def test_equal_places_are_no_trouble() -> None:
    same, few = np.zeros((60, 2), dtype=np.float32), np.arange(60)
    for known in (np.zeros((60, 0)), np.full((60, 2), 0.5)):
        rows = strategy_queue(few, same, known, np.array([0, 1]), 0).next(60, np.zeros(60, dtype=bool))
        assert sorted(rows.tolist()) == list(range(2, 60))
