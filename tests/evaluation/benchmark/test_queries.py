"""Entries of protocols with queries."""

from dataclasses import replace

import numpy as np
import pytest

from tomosift.evaluation.benchmark.datasets import build_data
from tomosift.evaluation.benchmark.entries import entries_of
from tomosift.evaluation.benchmark.entries.queries import ENTRIES, add_label_errors
from tomosift.evaluation.benchmark.entry import EntryResult
from tomosift.evaluation.benchmark.protocols import PROTOCOLS, QUERY_METHODS
from tomosift.evaluation.benchmark.task import BenchmarkTask

SHORT = replace(PROTOCOLS["queries"], classes=("ribosome-70s", "apoferritin", "proteasome-20s"), per_class=40)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> BenchmarkTask:
    folder = tmp_path_factory.mktemp("queries")
    data = build_data(SHORT, 0.3, 0, folder / "data")
    labeled = data.train.select(np.arange(24))
    return BenchmarkTask(SHORT, 0.3, data, labeled, 0, folder / "shared", folder / "own")


def test_query_protocols_have_their_own_entries() -> None:
    assert entries_of(SHORT) == ENTRIES
    assert set(QUERY_METHODS) <= set(ENTRIES)
    assert all(entry.description.endswith(".") for entry in ENTRIES.values())


@pytest.mark.parametrize("name", ["hal", "hal-as-released", "random", "hal-errs", "typical"])
def test_entries_predict_every_test_particle_better_than_chance(name: str, task: BenchmarkTask) -> None:
    result = ENTRIES[name].run(task)
    assert isinstance(result, EntryResult)
    assert result.probabilities.shape == (len(task.data.test), 3)
    right = result.probabilities.argmax(axis=1) == task.data.test.label
    assert right.mean() > 0.5
    repeated = ENTRIES[name].run(task)
    assert isinstance(repeated, EntryResult)
    np.testing.assert_array_equal(result.probabilities, repeated.probabilities)


def test_label_errors_have_the_requested_rate() -> None:
    label = np.arange(4000) % 5
    wrong = add_label_errors(label, 5, 0.05, seed=1) != label
    assert 0.035 < wrong.mean() < 0.065
    np.testing.assert_array_equal(add_label_errors(label, 5, 0.0, seed=1), label)
