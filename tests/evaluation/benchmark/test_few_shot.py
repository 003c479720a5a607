"""The few-shot protocols: entries that classify new classes in episodes."""

from dataclasses import replace
from pathlib import Path

import pytest

from tomosift.evaluation.benchmark.datasets import build_data
from tomosift.evaluation.benchmark.entries import few_shot
from tomosift.evaluation.benchmark.entries.few_shot import ENTRIES, simulate_training_sets
from tomosift.evaluation.benchmark.protocols import PROTOCOLS
from tomosift.evaluation.benchmark.report import render_benchmark_report
from tomosift.evaluation.benchmark.runner import BenchmarkConfig, list_cells, run_benchmark
from tomosift.evaluation.benchmark.task import BenchmarkTask

SMALL = replace(
    PROTOCOLS["few-shot"],
    classes=("ribosome-70s", "groel", "albumin"),
    snrs=(1.0,),
    per_class=24,
    box_size=16,
    voxel_spacing_angstrom=20.0,
    ways=2,
    methods=("general", "protonet-general"),
)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROTOCOLS, "episodes", SMALL)
    monkeypatch.setitem(PROTOCOLS, "episodes-3-way", replace(SMALL, ways=3, particles_of="episodes"))
    for name, value in (("COMPLEXES", 12), ("HELD_OUT", 4), ("PARTICLES", 20)):
        monkeypatch.setattr(few_shot, name, value)


def test_entries_classify_new_classes_and_a_twin_protocol_repeats_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = run_benchmark("episodes", BenchmarkConfig(seeds=1, scale=0.02), tmp_path)
    assert {(row.method, row.budget) for row in rows} == {(m, budget) for m in SMALL.methods for budget in ("1", "5")}
    for row in rows:
        assert row.half_width is not None
        assert row.accuracy > 0.5 + 2 * row.half_width
        assert row.macro_precision is not None
        assert row.calibration_error is None
        assert row.test_particles == 72
    log = next((tmp_path / "shared").rglob("protonet-general/log.jsonl"))
    assert log.read_text().count('"loss"') == 1
    more = run_benchmark("episodes-3-way", BenchmarkConfig(seeds=1, scale=0.02), tmp_path)
    assert len(more) == 2 * len(rows)
    assert log.read_text().count('"loss"') == 1
    text = render_benchmark_report(more, {})
    assert "Macro precision" in text
    assert "±" in text
    assert "ProtoNet3D from the shipped general model" in text


def test_training_complexes_are_neither_held_out_nor_real(tmp_path: Path) -> None:
    data = build_data(SMALL, 1.0, 0, tmp_path / "data")
    assert len(data.train) == len(data.validation) == 0
    assert (data.pretraining.label < 0).all()
    task = BenchmarkTask(SMALL, 1.0, data, data.train, 0, tmp_path / "shared", tmp_path / "own")
    sets = simulate_training_sets(task)
    training, held_out = (set(part.particles.class_name) for part in (sets.labeled, sets.validation))
    assert not training & held_out
    assert not (training | held_out) & set(SMALL.classes)
    assert sets.labeled.has_masks


def test_methods_and_budgets_of_the_other_kind_are_refused() -> None:
    with pytest.raises(ValueError, match="'scratch', expected one of general, prototypes-random"):
        list_cells("few-shot", BenchmarkConfig(methods=("scratch",)))
    with pytest.raises(ValueError, match="'protonet', expected one of general-averages"):
        list_cells("lab-ten", BenchmarkConfig(methods=("protonet",)))
    for budget in ("5%", "all", "0"):
        with pytest.raises(ValueError, match="expected examples of each class of an episode"):
            list_cells("few-shot", BenchmarkConfig(budgets=(budget,)))


def test_too_few_particles_for_an_episode_are_refused_before_the_work() -> None:
    with pytest.raises(ValueError, match=r"budget is 5 and per_class 19, .* set per_class to 20 or more"):
        list_cells("few-shot", BenchmarkConfig(per_class=19))
    assert list_cells("few-shot", BenchmarkConfig(per_class=20))


def test_every_entry_of_the_few_shot_protocols_has_its_own_description() -> None:
    assert all(entry.description.endswith(".") for entry in ENTRIES.values())
    assert len({entry.description for entry in ENTRIES.values()}) == len(ENTRIES)
