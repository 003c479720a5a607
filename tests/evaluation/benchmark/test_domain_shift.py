"""Entries of protocols whose labels are of another domain."""

from dataclasses import replace

import numpy as np
import pytest

from tomosift.evaluation.benchmark.datasets import build_data
from tomosift.evaluation.benchmark.entries import entries_of
from tomosift.evaluation.benchmark.entries.domain_shift import ENTRIES
from tomosift.evaluation.benchmark.entry import EntryResult
from tomosift.evaluation.benchmark.protocols import PROTOCOLS
from tomosift.evaluation.benchmark.task import BenchmarkTask

SHORT = replace(
    PROTOCOLS["shift-conditions"],
    classes=("groel", "apoferritin", "proteasome-20s"),
    per_class=15,
    box_size=20,
)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> BenchmarkTask:
    folder = tmp_path_factory.mktemp("domain-shift")
    data = build_data(SHORT, 0.3, 0, folder / "data")
    assert data.source is not None
    assert len(data.source) == 600
    # Entries learn from a part of it, to save time.
    data = replace(data, source=data.source.select(np.arange(0, 600, 4)))
    return BenchmarkTask(SHORT, 0.3, data, data.train, 0, folder / "shared", folder / "own", scale=0.02)


def test_source_and_target_have_other_conditions_and_the_same_classes(task: BenchmarkTask) -> None:
    source, target = task.data.source, task.data.train
    assert source is not None
    assert source.class_names == target.class_names == SHORT.classes
    np.testing.assert_allclose(source.tilt_range_deg, [[-60, 60]] * len(source))
    np.testing.assert_allclose(target.tilt_range_deg, [[-50, 50]] * len(target))
    of_source, of_target = source.particles.columns, target.particles.columns
    np.testing.assert_allclose(of_source["simulatedSnr"], 0.1, rtol=1e-5)
    np.testing.assert_allclose(of_target["simulatedSnr"], 0.3, rtol=1e-5)
    np.testing.assert_allclose(of_source["simulatedDefocusUm"], 5.0, rtol=1e-5)
    np.testing.assert_allclose(of_target["simulatedDefocusUm"], 3.0, rtol=1e-5)


def test_domain_shift_protocols_have_their_own_entries() -> None:
    assert entries_of(SHORT) == ENTRIES
    assert all(entry.description.endswith(".") for entry in ENTRIES.values())


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
def test_entries_predict_every_test_particle(name: str, task: BenchmarkTask) -> None:
    own = replace(task, folder=task.folder / name)
    result = ENTRIES[name].run(own)
    assert isinstance(result, EntryResult)
    assert result.probabilities.shape == (len(task.data.test), 3)
    np.testing.assert_allclose(result.probabilities.sum(axis=1), 1, atol=1e-6)
