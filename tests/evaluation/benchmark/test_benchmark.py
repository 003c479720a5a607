"""The benchmark: protocols, cells, resumption, table, report and entries."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tomosift.evaluation.benchmark import runner
from tomosift.evaluation.benchmark.datasets import build_data
from tomosift.evaluation.benchmark.entries import ENTRIES, baselines, entries_of
from tomosift.evaluation.benchmark.entries.ablations import ENTRIES as ABLATIONS
from tomosift.evaluation.benchmark.entries.ablations import SWITCHED_ON
from tomosift.evaluation.benchmark.entry import Entry, EntryResult
from tomosift.evaluation.benchmark.protocols import PROTOCOLS, Protocol
from tomosift.evaluation.benchmark.report import render_benchmark_report
from tomosift.evaluation.benchmark.results import Row, measure_difference, read_table, write_table
from tomosift.evaluation.benchmark.runner import (
    BenchmarkConfig,
    labels_per_class,
    list_cells,
    read_finished_rows,
    run_benchmark,
    select_shard,
)
from tomosift.evaluation.benchmark.task import BenchmarkTask
from tomosift.methods.contrastive import CONTRASTED
from tomosift.physics.augmentation import ABLATION_GROUPS
from tomosift.simulation.structures.atlas import atlas_names

ROW = Row("lab-ten", 0.1, "cssl", "5", 5.0, 0, 0.91, 0.9, 0.03, None, 720, 12.5)
SMALL = Protocol("Two unlike complexes.", ("ribosome-70s", "albumin"), budgets=("2", "all"), per_class=48, box_size=16)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A protocol of two classes and two entries that record the cells they run for."""
    cells: list[str] = []

    def predict(task: BenchmarkTask) -> EntryResult:
        cells.append(task.folder.name)
        return EntryResult(np.eye(2)[task.data.test.label] * 0.8 + 0.1)

    monkeypatch.setitem(PROTOCOLS, "two", replace(SMALL, voxel_spacing_angstrom=20.0))
    for name in ("first", "second"):
        monkeypatch.setitem(ENTRIES["labels"], name, Entry("Records that it runs.", predict))
    return cells


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
            # The task may differ; the particles may not.
            task = ("description", "ways", "has_queries", "snrs", "budgets", "methods")
            assert replace(protocol, **{name: getattr(twin, name) for name in task}, particles_of="") == twin


def test_every_augmentation_group_is_ablated_once_and_against_what_is_the_default() -> None:
    assert SWITCHED_ON.keys() <= ABLATION_GROUPS.keys() | {"mirror"}
    for group, off in ABLATION_GROUPS.items():
        assert (f"without-{group}" in ABLATIONS) != (f"with-{group}" in ABLATIONS)
        is_off = all(getattr(CONTRASTED, name) == value for name, value in off.items())
        assert is_off == (group in SWITCHED_ON)


def test_budgets_give_labels_per_class() -> None:
    assert [labels_per_class(budget, 300.0) for budget in ("1", "25", "1%", "25%")] == [1, 25, 3, 75]
    assert labels_per_class("0.1%", 300.0) == 1
    assert labels_per_class("all", 300.0) > 300


@pytest.mark.parametrize("budget", ["0", "-1", "x", "200%", "nan%", "1.5", ""])
def test_invalid_budgets_are_refused(budget: str) -> None:
    with pytest.raises(ValueError, match="expected labels per class"):
        labels_per_class(budget, 300.0)


def test_unknown_protocols_and_methods_are_named_with_the_alternatives() -> None:
    with pytest.raises(ValueError, match="'nine', expected one of lab-ten"):
        list_cells("nine", BenchmarkConfig())
    with pytest.raises(ValueError, match="'magic', expected one of general-averages"):
        list_cells("lab-ten", BenchmarkConfig(methods=("magic",)))


def test_shards_divide_the_cells_by_whole_groups() -> None:
    cells = list_cells("lab-ten", BenchmarkConfig())
    assert len({cell.name for cell in cells}) == len(cells) == 3 * 4 * 9 * len(PROTOCOLS["lab-ten"].methods)
    parts = [select_shard(cells, index, 5) for index in range(5)]
    assert sorted(cell.name for part in parts for cell in part) == sorted(cell.name for cell in cells)
    groups = [{cell.group for cell in part} for part in parts]
    assert sum(map(len, groups)) == len(set.union(*groups))


def test_data_depend_on_the_seed_and_particles_of_no_class_stay_unlabeled(tmp_path: Path) -> None:
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


def test_pretraining_uses_other_complexes_where_the_protocol_says_so(tmp_path: Path) -> None:
    protocol = replace(SMALL, pretrained_on=("groel", "igg", "rubisco"), voxel_spacing_angstrom=20.0, per_class=30)
    data = build_data(protocol, math.inf, 0, tmp_path)
    assert len(data.pretraining) == 90
    assert data.pretraining.path != data.train.path


def test_an_interrupted_benchmark_resumes_without_repeating_cells(
    tmp_path: Path, small: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = BenchmarkConfig(methods=("first", "second"), seeds=1)
    measure = runner._measure
    calls = 0

    def interrupt(*arguments: object) -> Row:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return measure(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(runner, "_measure", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_benchmark("two", config, tmp_path)
    assert len(small) == 2
    monkeypatch.setattr(runner, "_measure", measure)
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
        read_finished_rows(tmp_path)


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


PREDICTING = ["pca", "random-probe", "templates", "triplet", "torchio", "simclr-plain"]
PREDICTING += ["without-rotation", "with-scale", "moco", "sectors", "pretrained-500", "cssl-residual"]
PREDICTING += ["cssl-averages", "identify", "identify-averages"]


@pytest.mark.usefixtures("few_rotations")
@pytest.mark.parametrize("name", PREDICTING)
def test_entries_predict_every_test_particle(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "torchio":
        pytest.importorskip("torchio", reason="torchio is a baseline of the bench extra")
    monkeypatch.setattr(baselines, "_POSES", 40)
    monkeypatch.setattr(baselines, "_OTHERS_PER_CLASS", 10)
    protocol = replace(SMALL, voxel_spacing_angstrom=20.0)
    data = build_data(protocol, 1.0, 0, tmp_path / "data")
    labeled = data.train.select(data.train.labeled_rows[:40])
    task = BenchmarkTask(protocol, 1.0, data, labeled, 0, tmp_path / "shared", tmp_path / "cell", scale=0.03)
    result = ENTRIES["labels"][name].run(task)
    assert isinstance(result, EntryResult)
    probabilities = result.probabilities
    assert probabilities.shape == (len(data.test), 2)
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert (probabilities.argmax(axis=1) == data.test.label).mean() > 0.7


def test_runs_that_cells_share_are_trained_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "_OTHERS_PER_CLASS", 8)
    protocol = replace(SMALL, voxel_spacing_angstrom=20.0)
    data = build_data(protocol, 1.0, 0, tmp_path / "data")
    labeled = data.train.select(data.train.labeled_rows[:10])
    for folder in ("one", "two"):
        task = BenchmarkTask(protocol, 1.0, data, labeled, 0, tmp_path / "shared", tmp_path / folder, scale=0.03)
        ENTRIES["labels"]["triplet"].run(task)
        lines = (tmp_path / "shared" / "triplet" / "log.jsonl").read_text().count('"loss"')
        assert lines == 1


def test_older_tables_without_later_columns_are_read_and_others_are_not(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    write_table(path, [ROW])
    header, line = path.read_text().splitlines()
    path.write_text(header.removesuffix(",macro_precision,half_width") + "\n" + line.removesuffix(",,") + "\n")
    assert read_table(path) == [ROW]
    path.write_text(header.replace(",unknown_auroc", "") + "\n" + line.replace(",,720", ",720") + "\n")
    with pytest.raises(ValueError, match=r"table\.csv: header"):
        read_table(path)


def test_differences_are_of_the_same_seeds_and_budgets_with_an_interval_over_seeds() -> None:
    reference = [replace(ROW, seed=seed, accuracy=0.5 + 0.1 * seed) for seed in range(3)]
    others = [replace(row, method="other", accuracy=row.accuracy + 0.01 * (1 + row.seed)) for row in reference]
    unpaired = [replace(ROW, method="other", budget="25", labels_per_class=25.0, accuracy=0.1)]
    difference = measure_difference([*reference, *others, *unpaired], "other", "cssl")
    assert difference is not None
    assert difference.value == pytest.approx(0.02)
    assert difference.high - difference.value == pytest.approx(4.303 * 0.01 / math.sqrt(3), rel=1e-3)
    assert measure_difference([*reference, *others], "cssl", "cssl") is None
    more = [replace(row, budget="25", labels_per_class=25.0, accuracy=0.9) for row in (reference[0], others[0])]
    # A budget that is finished at one seed only does not count.
    assert measure_difference([*reference, *others, *more], "other", "cssl") == difference
    assert measure_difference([*reference[:1], *others[:1]], "other", "cssl") is None
    first = [replace(row, method=PROTOCOLS[row.protocol].methods[0]) for row in reference]
    assert "+0.020 (-0.005 to +0.045)" in render_benchmark_report([*first, *others], {})
