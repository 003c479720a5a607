"""The few-shot protocols: rows that name classes no training has seen, in episodes."""

from dataclasses import replace
from pathlib import Path

import pytest

from tomosift.evaluation.benchmark import BenchmarkConfig, cells_of, run_benchmark
from tomosift.evaluation.benchmark.datasets import build_data
from tomosift.evaluation.benchmark.entries import few_shot
from tomosift.evaluation.benchmark.entries.few_shot import FEW_SHOT, lessons
from tomosift.evaluation.benchmark.protocols import PROTOCOLS
from tomosift.evaluation.benchmark.report import render_benchmark_report
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
    for name, value in (("COMPLEXES", 12), ("SPARED", 4), ("PARTICLES", 20)):
        monkeypatch.setattr(few_shot, name, value)


def test_rows_name_unseen_classes_and_a_twin_protocol_trains_nothing_again(
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


def test_lessons_share_no_complex_with_what_stops_training_and_none_is_real(tmp_path: Path) -> None:
    world = build_data(SMALL, 1.0, 0, tmp_path / "world")
    assert len(world.train) == len(world.validation) == 0
    assert (world.pretraining.label < 0).all()
    sets = lessons(BenchmarkTask(SMALL, 1.0, world, world.train, 0, tmp_path / "shared", tmp_path / "own"))
    learned, spared = (set(part.particles.class_name) for part in (sets.labeled, sets.validation))
    assert not learned & spared
    assert not (learned | spared) & set(SMALL.classes)
    assert sets.labeled.has_masks


def test_methods_and_budgets_of_the_other_kind_are_refused() -> None:
    with pytest.raises(ValueError, match="'scratch', expected one of general, prototypes-random"):
        cells_of("few-shot", BenchmarkConfig(methods=("scratch",)))
    with pytest.raises(ValueError, match="'protonet', expected one of cssl"):
        cells_of("lab-ten", BenchmarkConfig(methods=("protonet",)))
    for budget in ("5%", "all", "0"):
        with pytest.raises(ValueError, match="expected examples of each class of an episode"):
            cells_of("few-shot", BenchmarkConfig(budgets=(budget,)))


def test_too_few_particles_for_an_episode_are_refused_before_the_work() -> None:
    with pytest.raises(ValueError, match=r"budget is 5 and per_class 19, .* set per_class to 20 or more"):
        cells_of("few-shot", BenchmarkConfig(per_class=19))
    assert cells_of("few-shot", BenchmarkConfig(per_class=20))


def test_every_row_of_the_few_shot_protocols_says_what_it_is() -> None:
    assert all(sentence.endswith(".") for sentence, _ in FEW_SHOT.values())
    assert len({sentence for sentence, _ in FEW_SHOT.values()}) == len(FEW_SHOT)
