"""Rows of protocols whose labels are of another domain."""

from dataclasses import replace

import numpy as np
import pytest

from tomosift.evaluation.benchmark.datasets import build_data
from tomosift.evaluation.benchmark.entries import entries_of
from tomosift.evaluation.benchmark.entries.domain_shift import SHIFTED
from tomosift.evaluation.benchmark.protocols import PROTOCOLS
from tomosift.evaluation.benchmark.task import BenchmarkTask

SHORT = replace(
    PROTOCOLS["shift-conditions"],
    classes=("ribosome-70s", "apoferritin", "proteasome-20s"),
    per_class=15,
)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> BenchmarkTask:
    folder = tmp_path_factory.mktemp("shifted")
    world = build_data(SHORT, 0.3, 0, folder / "world")
    assert world.source is not None
    assert len(world.source) == 600
    # Rows learn from a part of it, for the sake of time.
    world = replace(world, source=world.source.select(np.arange(0, 600, 4)))
    return BenchmarkTask(SHORT, 0.3, world, world.train, 0, folder / "shared", folder / "own", scale=0.02)


def test_source_and_target_are_imaged_otherwise_and_hold_the_same_classes(task: BenchmarkTask) -> None:
    source, target = task.world.source, task.world.train
    assert source is not None
    assert source.class_names == target.class_names == SHORT.classes
    np.testing.assert_allclose(source.tilt_range_deg, [[-60, 60]] * len(source))
    np.testing.assert_allclose(target.tilt_range_deg, [[-50, 50]] * len(target))
    of_source, of_target = source.particles.columns, target.particles.columns
    np.testing.assert_allclose(of_source["simulatedSnr"], 0.1, rtol=1e-5)
    np.testing.assert_allclose(of_target["simulatedSnr"], 0.3, rtol=1e-5)
    np.testing.assert_allclose(of_source["simulatedDefocusUm"], 5.0, rtol=1e-5)
    np.testing.assert_allclose(of_target["simulatedDefocusUm"], 3.0, rtol=1e-5)


def test_protocols_of_another_domain_have_rows_of_their_own() -> None:
    assert entries_of(SHORT) is SHIFTED
    assert all(sentence.endswith(".") for sentence, _ in SHIFTED.values())


@pytest.mark.parametrize(
    "name",
    [
        "source-only",
        "source-probe",
        "source-wide",
        "coral",
        "cryo-shift",
        "style-power",
        "cycle-wgan",
        "cssl-target",
        "target-labels",
    ],
)
def test_rows_answer_for_every_test_particle(name: str, task: BenchmarkTask) -> None:
    own = replace(task, folder=task.folder / name)
    answer = SHIFTED[name][1](own)
    assert answer.probabilities.shape == (len(task.world.test), 3)
    np.testing.assert_allclose(answer.probabilities.sum(axis=1), 1, atol=1e-6)
