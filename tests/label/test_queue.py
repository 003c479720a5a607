"""What is asked next."""

import numpy as np
import pytest

from tomosift.label.queue import InOrder, Queue, Spread, Uncertain, entropy

ROWS = np.arange(10, 310, dtype=np.int64)
PLACES = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
PROBABILITIES = np.random.default_rng(1).dirichlet((1.0, 1.0, 1.0), 300)
QUEUES: list[Queue] = [InOrder(ROWS), Spread(ROWS, PLACES), Uncertain(ROWS, PLACES, PROBABILITIES)]


@pytest.mark.parametrize("queue", QUEUES, ids=lambda queue: type(queue).__name__)
def test_every_queue_gives_different_free_rows_until_there_are_none(queue: Queue) -> None:
    exclude = np.zeros(400, dtype=bool)
    exclude[[12, 13, 350]] = True
    given: list[int] = []
    while len(rows := queue.next(50, exclude)):
        assert len(rows) <= 50
        given += rows.tolist()
        exclude[rows] = True
    assert sorted(given) == sorted(set(ROWS.tolist()) - {12, 13})


def test_spread_begins_in_the_middle_and_then_takes_the_farthest() -> None:
    places = np.array([[0.0], [1.0], [2.0], [5.0], [-8.0]], dtype=np.float32)
    queue = Spread(np.arange(5), places)
    assert queue.next(3, np.zeros(5, dtype=bool)).tolist() == [0, 4, 3]
    asked = np.array([True, False, False, False, True])
    assert queue.next(2, asked).tolist() == [3, 2]


def test_spread_covers_groups_sooner_than_chance() -> None:
    group = np.repeat(np.arange(10), [200, 5, 5, 5, 5, 5, 5, 5, 5, 60])
    centers = 10 * np.random.default_rng(2).normal(size=(10, 8))
    places = centers[group] + np.random.default_rng(3).normal(size=(300, 8))
    found = Spread(np.arange(300), places.astype(np.float32)).next(10, np.zeros(300, dtype=bool))
    assert len(set(group[found])) == 10


def test_uncertain_asks_for_high_entropy() -> None:
    chosen = Uncertain(ROWS, PLACES, PROBABILITIES).next(10, np.zeros(400, dtype=bool)) - ROWS[0]
    highest = np.argsort(-entropy(PROBABILITIES))
    assert chosen[0] == highest[0]
    assert set(chosen) <= set(highest[:80])


def test_uncertain_takes_one_of_near_neighbors() -> None:
    places = np.concatenate([np.zeros((20, 2)), 10 * np.random.default_rng(0).normal(size=(20, 2))])
    probabilities = np.full((40, 2), 0.5)
    chosen = Uncertain(np.arange(40), places.astype(np.float32), probabilities).next(8, np.zeros(40, dtype=bool))
    assert (chosen < 20).sum() == 1


def test_equal_places_are_no_trouble() -> None:
    same = np.zeros((5, 2), dtype=np.float32)
    for queue in (Spread(np.arange(5), same), Uncertain(np.arange(5), same, np.full((5, 2), 0.5))):
        assert len(set(queue.next(4, np.zeros(5, dtype=bool)).tolist())) == 4
