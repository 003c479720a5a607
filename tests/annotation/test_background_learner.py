"""The background learner embeds, predicts and selects queries, without holding up annotators."""

import logging
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tomosift.annotation.background_learner import BackgroundLearner, LearnerState
from tomosift.annotation.consensus import Consensus, ConsensusTracker
from tomosift.annotation.embedding_cache import EmbeddingCache
from tomosift.annotation.queue import LabelingQueue
from tomosift.annotation.store import Store
from tomosift.data.subtomogram_set import Subtomograms

GENERAL = Path("general")


def wait_for(condition: Callable[[], bool], seconds: float = 240) -> None:
    """Wait for a condition; the limit only ends a test that hangs."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition never became true"
        time.sleep(0.02)


def add_labels(store: Store, subtomograms: Subtomograms, per_class: int) -> np.ndarray:
    rows = np.concatenate([np.flatnonzero(subtomograms.label == c)[:per_class] for c in range(3)])
    for row in rows:
        name = subtomograms.class_names[subtomograms.label[row]]
        store.add_answer("ada", f"request-{row}", [int(row)], "label", name)
    return rows


def test_labels_give_predictions_and_a_queue_of_uncertain_particles(
    store: Store, subtomograms: Subtomograms, tmp_path: Path
) -> None:
    learner = BackgroundLearner(subtomograms, "digest", ConsensusTracker(store), GENERAL, tmp_path / "embeddings.npz")
    learner.start()
    try:
        wait_for(lambda: learner.done == len(subtomograms))
        assert learner.state.queue.reason == "typical of similar particles"
        assert learner.state.predict(0) == ""
        rows = add_labels(store, subtomograms, 5)
        learner.notify()
        wait_for(lambda: bool(learner.state.class_names))
        state = learner.state
        wait_for(lambda: learner.state.map_positions is not None)
    finally:
        learner.stop()
    assert state.queue.reason == "unlike the labeled ones and uncertain"
    assert not set(state.queue.select(20, np.zeros(len(subtomograms), dtype=bool)).tolist()) & set(rows.tolist())
    assert set(state.class_names) == set(subtomograms.class_names)
    np.testing.assert_allclose(state.probabilities.sum(axis=1), 1)
    others = np.setdiff1d(np.arange(len(subtomograms)), rows)
    is_right = [state.predict(int(row)) == subtomograms.class_names[subtomograms.label[row]] for row in others]
    assert np.mean(is_right) > 0.5
    assert state.predict(int(rows[0])) == ""
    examples = state.find_examples(int(others[0]))
    assert {name for _, name in examples[:3]} == set(subtomograms.class_names)
    assert all(row in rows for row, _ in examples)


class CountingTracker(ConsensusTracker):
    """Counts the steps of a learner."""

    steps = 0

    def update(self) -> Consensus:
        self.steps += 1
        return super().update()


def finish_step(learner: BackgroundLearner, tracker: CountingTracker) -> None:
    """Wait until a step that started after this call has ended: the next one starts."""
    for _ in range(2):
        steps = tracker.steps
        learner.notify()
        wait_for(lambda steps=steps: tracker.steps > steps)  # type: ignore[misc]


def test_four_new_labels_start_no_round_and_the_fifth_does(
    store: Store, subtomograms: Subtomograms, tmp_path: Path
) -> None:
    tracker = CountingTracker(store)
    learner = BackgroundLearner(subtomograms, "digest", tracker, GENERAL, tmp_path / "embeddings.npz")
    learner.start()
    try:
        wait_for(lambda: learner.state.map_positions is not None)
        before = learner.state.round
        store.add_answer("ada", "request-1", [1, 2, 3, 4], "label", "groel")
        finish_step(learner, tracker)
        assert learner.state.round == before
        store.add_answer("ada", "request-2", [5], "label", "groel")
        learner.notify()
        wait_for(lambda: learner.state.round > before)
    finally:
        learner.stop()


def test_embeddings_are_computed_once_and_resumed(subtomograms: Subtomograms, tmp_path: Path) -> None:
    path = tmp_path / "embeddings.npz"
    first = EmbeddingCache(subtomograms, "digest", GENERAL, path)
    first.embed_next(64)
    first.save()
    again = EmbeddingCache(subtomograms, "digest", GENERAL, path)
    np.testing.assert_array_equal(again.rows, first.rows)
    assert len(again.rows) == 64
    again.embed_next(1000)
    assert again.is_complete
    np.testing.assert_array_equal(again.rows, np.arange(len(subtomograms)))
    assert len(EmbeddingCache(subtomograms, "other", GENERAL, path).rows) == 0
    path.write_bytes(b"cut short")
    assert len(EmbeddingCache(subtomograms, "digest", GENERAL, path).rows) == 0


def test_embeddings_belong_to_their_rows_in_any_order_of_computation(
    subtomograms: Subtomograms, tmp_path: Path
) -> None:
    one, other = (EmbeddingCache(subtomograms, "digest", GENERAL, tmp_path / name) for name in ("a.npz", "b.npz"))
    one.embed_rows(np.arange(20))
    other.embed_rows(np.arange(10, 20))
    other.embed_rows(np.array([3, 0, 15]))
    other.embed_rows(np.arange(20))
    np.testing.assert_allclose(one.standardize(), other.standardize(), atol=1e-4)


def test_an_unsupported_box_size_is_reported_and_labeling_continues(
    store: Store, subtomograms: Subtomograms, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(type(subtomograms)):  # type: ignore[misc]
        def volumes(self, rows: np.ndarray) -> np.ndarray:
            raise ValueError("box size is 8 voxels, but encoders take 16 to 64")

    broken = Broken(**{name: getattr(subtomograms, name) for name in subtomograms.__dataclass_fields__})
    learner = BackgroundLearner(broken, "digest", ConsensusTracker(store), GENERAL, tmp_path / "embeddings.npz")
    with caplog.at_level(logging.CRITICAL, "tomosift.annotation"):
        learner.start()
        wait_for(lambda: bool(learner.failure))
        learner.stop()
    assert learner.failure == "box size is 8 voxels, but encoders take 16 to 64"
    assert len(learner.state.queue.select(8, np.zeros(len(subtomograms), dtype=bool))) == 8


def test_rows_that_are_not_embedded_have_no_prediction() -> None:
    rows, embeddings = np.array([2, 5]), np.zeros((2, 1), np.float32)
    state = LearnerState(LabelingQueue(rows, ""), rows, embeddings, ("a", "b"), np.array([[0.9, 0.1], [0.2, 0.8]]))
    assert [state.predict(row) for row in (1, 2, 5, 9)] == ["", "a", "b", ""]
