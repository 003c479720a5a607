"""The benchmark: its cells, its resumption, its table and its report."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tomosift.evaluation import benchmark
from tomosift.evaluation.benchmark import (
    BenchmarkConfig,
    cells_of,
    finished_rows,
    labels_per_class,
    run_benchmark,
    shard_of,
)
from tomosift.evaluation.benchmark.datasets import build_data
from tomosift.evaluation.benchmark.entries import ENTRIES, entries_of
from tomosift.evaluation.benchmark.entries import baselines as comparators
from tomosift.evaluation.benchmark.entries.ablations import ABLATIONS, SWITCHED_ON
from tomosift.evaluation.benchmark.protocols import PROTOCOLS, Protocol
from tomosift.evaluation.benchmark.report import render_benchmark_report
from tomosift.evaluation.benchmark.results import Row, difference, read_table, write_table
from tomosift.evaluation.benchmark.task import BenchmarkTask, EntryResult
from tomosift.methods.contrastive import CONTRASTED
from tomosift.physics.augmentation import ABLATION_GROUPS
from tomosift.simulate.structures.atlas import atlas_names

ROW = Row("lab-ten", 0.1, "cssl", "5", 5.0, 0, 0.91, 0.9, 0.03, None, 720, 12.5)
SMALL = Protocol("Two unlike complexes.", ("ribosome-70s", "albumin"), budgets=("2", "all"), per_class=80, box_size=16)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A protocol of two classes and two rows that note when they are asked."""
    asked: list[str] = []

    def row(task: BenchmarkTask) -> EntryResult:
        asked.append(task.folder.name)
        return EntryResult(np.eye(2)[task.world.test.label] * 0.8 + 0.1)

    monkeypatch.setitem(PROTOCOLS, "two", replace(SMALL, voxel_spacing_angstrom=20.0))
    for name in ("first", "second"):
        monkeypatch.setitem(ENTRIES, name, ("Notes that it is asked.", row))
    return asked


def test_every_protocol_names_atlas_structures_and_keeps_its_groups_apart() -> None:
    for protocol in PROTOCOLS.values():
        named = protocol.classes + protocol.others + protocol.pretrained_on
        assert set(named) <= set(atlas_names())
        assert len(set(named)) == len(named)
        assert set(protocol.methods) <= set(entries_of(protocol))
        assert protocol.ways <= len(protocol.classes)
        if protocol.particles_of:
            twin = PROTOCOLS[protocol.particles_of]
            assert set(protocol.snrs) <= set(twin.snrs)
            # What is asked of the particles may differ; what they are made from may not.
            asked = {name: getattr(twin, name) for name in ("sentence", "ways", "asks", "snrs", "budgets", "methods")}
            assert replace(protocol, **asked, particles_of="") == twin


def test_every_augmentation_group_is_ablated_once_and_against_what_is_the_default() -> None:
    assert SWITCHED_ON.keys() <= ABLATION_GROUPS.keys() | {"mirror"}
    for group, off in ABLATION_GROUPS.items():
        assert (f"without-{group}" in ABLATIONS) != (f"with-{group}" in ABLATIONS)
        is_off = all(getattr(CONTRASTED, name) == value for name, value in off.items())
        assert is_off == (group in SWITCHED_ON)


def test_budgets_mean_labels_per_class() -> None:
    assert [labels_per_class(budget, 300.0) for budget in ("1", "25", "1%", "25%")] == [1, 25, 3, 75]
    assert labels_per_class("0.1%", 300.0) == 1
    assert labels_per_class("all", 300.0) > 300


@pytest.mark.parametrize("budget", ["0", "-1", "x", "200%", "nan%", "1.5", ""])
def test_budgets_that_mean_nothing_are_refused(budget: str) -> None:
    with pytest.raises(ValueError, match="expected labels per class"):
        labels_per_class(budget, 300.0)


def test_unknown_protocols_and_methods_are_named_with_the_alternatives() -> None:
    with pytest.raises(ValueError, match="'nine', expected one of lab-ten"):
        cells_of("nine", BenchmarkConfig())
    with pytest.raises(ValueError, match="'magic', expected one of cssl"):
        cells_of("lab-ten", BenchmarkConfig(methods=("magic",)))


def test_shards_share_the_cells_out_by_whole_groups() -> None:
    cells = cells_of("lab-ten", BenchmarkConfig())
    assert len({cell.name for cell in cells}) == len(cells) == 3 * 4 * 9 * len(PROTOCOLS["lab-ten"].methods)
    parts = [shard_of(cells, index, 5) for index in range(5)]
    assert sorted(cell.name for part in parts for cell in part) == sorted(cell.name for cell in cells)
    groups = [{cell.group for cell in part} for part in parts]
    assert sum(map(len, groups)) == len(set.union(*groups))


def test_worlds_vary_with_the_seed_and_keep_the_unknown_unlabeled(tmp_path: Path) -> None:
    protocol = replace(SMALL, others=("groel",), per_class=60, voxel_spacing_angstrom=20.0)
    first, second = (build_data(protocol, 0.5, seed, tmp_path / str(seed)) for seed in (0, 1))
    assert first.train.class_names == first.test.class_names == protocol.classes
    parts = (first.train, first.validation, first.test)
    assert sum(len(part) for part in parts) == 180
    assert sum(int((part.label < 0).sum()) for part in parts) == 60
    tomograms = [set(part.particles.tomogram) for part in parts]
    assert not tomograms[0] & tomograms[2]
    assert not np.allclose(first.train.volumes([0]), second.train.volumes([0]))
    assert (first.pretraining.label < 0).all()


def test_pretraining_sees_other_complexes_where_the_protocol_says_so(tmp_path: Path) -> None:
    protocol = replace(SMALL, pretrained_on=("groel", "igg", "rubisco"), voxel_spacing_angstrom=20.0, per_class=30)
    world = build_data(protocol, math.inf, 0, tmp_path)
    assert len(world.pretraining) == 90
    assert world.pretraining.path != world.train.path


def test_a_killed_benchmark_goes_on_without_repeating_cells(
    tmp_path: Path, small: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = BenchmarkConfig(methods=("first", "second"), seeds=1)
    measure = benchmark._measure
    calls = 0

    def killed(*arguments: object) -> Row:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return measure(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(benchmark, "_measure", killed)
    with pytest.raises(KeyboardInterrupt):
        run_benchmark("two", config, tmp_path)
    assert len(small) == 2
    monkeypatch.setattr(benchmark, "_measure", measure)
    rows = run_benchmark("two", config, tmp_path)
    assert len(rows) == 4
    assert len(small) == len(set(small)) == 4
    assert {row.accuracy for row in rows} == {1.0}
    assert {row.labels_per_class for row in rows if row.budget == "2"} == {2.0}
    with pytest.raises(ValueError, match="use another --out"):
        run_benchmark("two", replace(config, scale=0.5), tmp_path)


def test_a_damaged_cell_is_named(tmp_path: Path) -> None:
    (tmp_path / "cells").mkdir()
    (tmp_path / "cells" / "a.json").write_text("{}")
    with pytest.raises(ValueError, match=r"a\.json: content .* delete the file"):
        finished_rows(tmp_path)


def test_the_table_reads_back_as_it_was_written(tmp_path: Path) -> None:
    rows = [ROW, replace(ROW, snr=math.inf, unknown_auroc=0.8), replace(ROW, calibration_error=None)]
    write_table(tmp_path / "table.csv", rows)
    assert sorted(read_table(tmp_path / "table.csv"), key=repr) == sorted(rows, key=repr)
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="header"):
        read_table(tmp_path / "table.csv")


def test_the_report_states_the_gap_and_draws_a_curve_per_noise_level() -> None:
    rows = [
        replace(
            ROW,
            snr=snr,
            method=method,
            budget=str(labels),
            labels_per_class=float(labels),
            seed=seed,
            accuracy=accuracy,
        )
        for snr in (0.1, 0.03)
        for method, accuracy in (("cssl", 0.9), ("scratch", 0.7))
        for labels in (1.0, 5.0)
        for seed in (0, 1)
    ]
    page = render_benchmark_report(rows, {"command": "tomosift benchmark <lab-ten>"})
    assert "lab-ten at SNR 0.1, 5 labels per class: 0.90 with pretraining, 0.70 from scratch." in page
    assert page.count("<svg") == 2
    assert "&lt;lab-ten&gt;" in page
    with pytest.raises(ValueError, match="nothing to report"):
        render_benchmark_report([], {})


ANSWERING = ["pca", "random-probe", "templates", "triplet", "torchio", "simclr-plain"]
ANSWERING += ["without-rotation", "with-scale", "moco", "sectors", "pretrained-500", "cssl-residual"]
ANSWERING += ["cssl-averages", "identify", "identify-averages"]


@pytest.mark.usefixtures("few_rotations")
@pytest.mark.parametrize("name", ANSWERING)
def test_rows_answer_for_every_test_particle(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "torchio":
        pytest.importorskip("torchio", reason="torchio is a comparator of the bench extra")
    monkeypatch.setattr(comparators, "_POSES", 40)
    monkeypatch.setattr(comparators, "_OTHERS_PER_CLASS", 10)
    protocol = replace(SMALL, voxel_spacing_angstrom=20.0)
    world = build_data(protocol, 1.0, 0, tmp_path / "world")
    labeled = world.train.select(world.train.labeled_rows[:40])
    task = BenchmarkTask(protocol, 1.0, world, labeled, 0, tmp_path / "shared", tmp_path / "cell", scale=0.03)
    probabilities = ENTRIES[name][1](task).probabilities
    assert probabilities.shape == (len(world.test), 2)
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert (probabilities.argmax(axis=1) == world.test.label).mean() > 0.7


def test_runs_that_cells_share_are_trained_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparators, "_OTHERS_PER_CLASS", 8)
    protocol = replace(SMALL, voxel_spacing_angstrom=20.0)
    world = build_data(protocol, 1.0, 0, tmp_path / "world")
    labeled = world.train.select(world.train.labeled_rows[:10])
    for folder in ("one", "two"):
        task = BenchmarkTask(protocol, 1.0, world, labeled, 0, tmp_path / "shared", tmp_path / folder, scale=0.03)
        ENTRIES["triplet"][1](task)
        lines = (tmp_path / "shared" / "triplet" / "log.jsonl").read_text().count('"loss"')
        assert lines == 1


def test_tables_that_lack_what_came_later_are_read_and_others_are_not(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    write_table(path, [ROW])
    header, line = path.read_text().splitlines()
    path.write_text(header.removesuffix(",macro_precision,half_width") + "\n" + line.removesuffix(",,") + "\n")
    assert read_table(path) == [ROW]
    path.write_text(header.replace(",unknown_auroc", "") + "\n" + line.replace(",,720", ",720") + "\n")
    with pytest.raises(ValueError, match=r"table\.csv: header"):
        read_table(path)


def test_differences_are_of_the_same_seeds_and_budgets_with_an_interval_over_seeds() -> None:
    theirs = [replace(ROW, seed=seed, accuracy=0.5 + 0.1 * seed) for seed in range(3)]
    mine = [replace(row, method="other", accuracy=row.accuracy + 0.01 * (1 + row.seed)) for row in theirs]
    unpaired = [replace(ROW, method="other", budget="25", labels_per_class=25.0, accuracy=0.1)]
    found = difference([*theirs, *mine, *unpaired], "other", "cssl")
    assert found is not None
    assert found.value == pytest.approx(0.02)
    assert found.high - found.value == pytest.approx(4.303 * 0.01 / math.sqrt(3), rel=1e-3)
    assert difference([*theirs, *mine], "cssl", "cssl") is None
    more = [replace(row, budget="25", labels_per_class=25.0, accuracy=0.9) for row in (theirs[0], mine[0])]
    assert difference([*theirs, *mine, *more], "other", "cssl") == found  # a budget that is finished at one seed only
    assert difference([*theirs[:1], *mine[:1]], "other", "cssl") is None
    first = [replace(row, method=PROTOCOLS[row.protocol].methods[0]) for row in theirs]
    assert "+0.020 (-0.005 to +0.045)" in render_benchmark_report([*first, *mine], {})
