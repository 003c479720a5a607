"""Learning in the background."""

import logging
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tomosift.annotation.background_learner import BackgroundLearner, Guesses
from tomosift.annotation.consensus import ConsensusTracker
from tomosift.annotation.embedding_cache import EmbeddingCache
from tomosift.annotation.queue import FixedQueue
from tomosift.annotation.store import Store
from tomosift.data.subtomograms import Subtomograms

GENERAL = Path("general")


def wait_for(condition: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.02)


def label(store: Store, boxes: Subtomograms, per_class: int) -> np.ndarray:
    rows = np.concatenate([np.flatnonzero(boxes.label == c)[:per_class] for c in range(3)])
    for row in rows:
        name = boxes.class_names[boxes.label[row]]
        store.answer("ada", f"request-{row}", [int(row)], "label", name)
    return rows


def test_labels_become_guesses_and_the_queue_turns_to_what_is_uncertain(
    store: Store, boxes: Subtomograms, tmp_path: Path
) -> None:
    teacher = BackgroundLearner(boxes, "digest", ConsensusTracker(store), GENERAL, tmp_path / "kept.npz")
    teacher.start()
    try:
        wait_for(lambda: teacher.done == len(boxes))
        assert teacher.guesses.queue.reason == "typical of others like it"
        assert teacher.guesses.guess(0) == ""
        rows = label(store, boxes, 5)
        teacher.nudge()
        wait_for(lambda: bool(teacher.guesses.class_names))
        known = teacher.guesses
        wait_for(lambda: teacher.guesses.plane is not None)
    finally:
        teacher.stop()
    assert known.queue.reason == "unlike the labeled ones and hard to tell"
    assert not set(known.queue.next(20, np.zeros(len(boxes), dtype=bool)).tolist()) & set(rows.tolist())
    assert set(known.class_names) == set(boxes.class_names)
    np.testing.assert_allclose(known.probabilities.sum(axis=1), 1)
    others = np.setdiff1d(np.arange(len(boxes)), rows)
    right = [known.guess(int(row)) == boxes.class_names[boxes.label[row]] for row in others]
    assert np.mean(right) > 0.5
    assert known.guess(int(rows[0])) == ""
    examples = known.examples(int(others[0]))
    assert {name for _, name in examples[:3]} == set(boxes.class_names)
    assert all(row in rows for row, _ in examples)


def test_four_new_labels_do_not_disturb(store: Store, boxes: Subtomograms, tmp_path: Path) -> None:
    teacher = BackgroundLearner(boxes, "digest", ConsensusTracker(store), GENERAL, tmp_path / "kept.npz")
    teacher.start()
    try:
        wait_for(lambda: teacher.guesses.plane is not None)
        before = teacher.guesses.round
        store.answer("ada", "request-1", [1, 2, 3, 4], "label", "groel")
        teacher.nudge()
        time.sleep(0.2)
        assert teacher.guesses.round == before
        store.answer("ada", "request-2", [5], "label", "groel")
        teacher.nudge()
        wait_for(lambda: teacher.guesses.round > before)
    finally:
        teacher.stop()


def test_embeddings_are_made_once_and_gone_on_with(boxes: Subtomograms, tmp_path: Path) -> None:
    kept = tmp_path / "kept.npz"
    first = EmbeddingCache(boxes, "digest", GENERAL, kept)
    first.go_on(64)
    first.keep()
    again = EmbeddingCache(boxes, "digest", GENERAL, kept)
    np.testing.assert_array_equal(again.rows, first.rows)
    assert len(again.rows) == 64
    again.go_on(1000)
    assert again.is_complete
    np.testing.assert_array_equal(again.rows, np.arange(len(boxes)))
    assert len(EmbeddingCache(boxes, "other", GENERAL, kept).rows) == 0
    kept.write_bytes(b"cut short")
    assert len(EmbeddingCache(boxes, "digest", GENERAL, kept).rows) == 0


def test_embeddings_stand_at_their_rows_in_whatever_order_they_were_made(boxes: Subtomograms, tmp_path: Path) -> None:
    one, other = (EmbeddingCache(boxes, "digest", GENERAL, tmp_path / name) for name in ("a.npz", "b.npz"))
    one.add(np.arange(20))
    other.add(np.arange(10, 20))
    other.add(np.array([3, 0, 15]))
    other.add(np.arange(20))
    np.testing.assert_allclose(one.places(), other.places(), atol=1e-4)


def test_boxes_that_no_encoder_takes_are_said_and_labels_are_still_asked_for(
    store: Store, boxes: Subtomograms, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(type(boxes)):  # type: ignore[misc]
        def volumes(self, rows: np.ndarray) -> np.ndarray:
            raise ValueError("box size is 8 voxels, but encoders take 16 to 64")

    broken = Broken(**{name: getattr(boxes, name) for name in boxes.__dataclass_fields__})
    teacher = BackgroundLearner(broken, "digest", ConsensusTracker(store), GENERAL, tmp_path / "kept.npz")
    with caplog.at_level(logging.CRITICAL, "tomosift.annotation"):
        teacher.start()
        wait_for(lambda: bool(teacher.trouble))
        teacher.stop()
    assert teacher.trouble == "box size is 8 voxels, but encoders take 16 to 64"
    assert len(teacher.guesses.queue.next(8, np.zeros(len(boxes), dtype=bool))) == 8


def test_rows_that_are_not_embedded_have_no_guess() -> None:
    rows, places = np.array([2, 5]), np.zeros((2, 1), np.float32)
    known = Guesses(FixedQueue(rows, ""), rows, places, ("a", "b"), np.array([[0.9, 0.1], [0.2, 0.8]]))
    assert [known.guess(row) for row in (1, 2, 5, 9)] == ["", "a", "b", ""]
