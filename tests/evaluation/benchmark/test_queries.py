"""Rows of protocols that ask for labels round by round."""

from dataclasses import replace

import numpy as np
import pytest

from tomosift.evaluation.benchmark.datasets import build_data
from tomosift.evaluation.benchmark.entries import entries_of
from tomosift.evaluation.benchmark.entries.queries import QUERIED, _with_errors
from tomosift.evaluation.benchmark.protocols import PROTOCOLS, QUERY_METHODS
from tomosift.evaluation.benchmark.task import BenchmarkTask

SHORT = replace(PROTOCOLS["queries"], classes=("ribosome-70s", "apoferritin", "proteasome-20s"), per_class=40)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> BenchmarkTask:
    folder = tmp_path_factory.mktemp("queried")
    world = build_data(SHORT, 0.3, 0, folder / "world")
    labeled = world.train.select(np.arange(24))
    return BenchmarkTask(SHORT, 0.3, world, labeled, 0, folder / "shared", folder / "own")


def test_the_protocols_have_rows_of_their_own() -> None:
    assert entries_of(SHORT) is QUERIED
    assert set(QUERY_METHODS) <= set(QUERIED)
    assert all(sentence.endswith(".") for sentence, _ in QUERIED.values())


@pytest.mark.parametrize("name", ["hal", "hal-as-released", "random", "hal-errs", "typical"])
def test_rows_answer_for_every_test_particle_and_better_than_chance(name: str, task: BenchmarkTask) -> None:
    answer = QUERIED[name][1](task)
    assert answer.probabilities.shape == (len(task.world.test), 3)
    right = answer.probabilities.argmax(axis=1) == task.world.test.label
    assert right.mean() > 0.5
    np.testing.assert_array_equal(answer.probabilities, QUERIED[name][1](task).probabilities)


def test_an_annotator_errs_about_as_many_particles_as_said() -> None:
    label = np.arange(4000) % 5
    wrong = _with_errors(label, 5, 0.05, seed=1) != label
    assert 0.035 < wrong.mean() < 0.065
    np.testing.assert_array_equal(_with_errors(label, 5, 0.0, seed=1), label)
