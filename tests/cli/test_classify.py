"""The command classify: what survives in each format, and what is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dynamotable
import numpy as np
import pandas as pd
import pytest
import starfile

from tomosift.cli.main import main
from tomosift.data.subtomogram_set import open_subtomograms
from tomosift.inference.model_files import load_classifier
from tomosift.inference.prediction import predict
from tomosift.io.particles import copick, read_particles

Refuse = Callable[..., str]
CLASSES = ("apoferritin", "groel", "ribosome-70s")


def classify(chain: Any, out: Path, *more: str) -> Path:
    words = ["--model", str(chain.classifier), "--out", str(out), *more]
    main(["classify", str(chain.subtomograms), *words])
    return out


def expected(chain: Any) -> Any:
    return predict(load_classifier(chain.classifier), open_subtomograms(chain.subtomograms))


def test_every_column_and_block_of_a_relion_table_survives(world: Any, chain: Any, tmp_path: Path) -> None:
    picks = starfile.read(world.paths.particles, always_dict=True)
    classified = starfile.read(classify(chain, tmp_path / "c.star"), always_dict=True)
    pd.testing.assert_frame_equal(classified["optics"], picks["optics"])
    pd.testing.assert_frame_equal(classified["particles"][picks["particles"].columns], picks["particles"])
    added = list(classified["particles"].columns[len(picks["particles"].columns) :])
    assert added[:4] == ["rlnClassNumber", "tomosiftClass", "tomosiftConfidence", "tomosiftSimilarity"]
    assert added[4:7] == [f"tomosiftProbability_{name}" for name in CLASSES]


def test_written_values_are_those_of_the_model(chain: Any, tmp_path: Path) -> None:
    table = starfile.read(classify(chain, tmp_path / "c.star"), always_dict=True)["particles"]
    probabilities = expected(chain).probabilities
    np.testing.assert_allclose(table[[f"tomosiftProbability_{n}" for n in CLASSES]], probabilities, atol=2e-6)
    np.testing.assert_array_equal(table["rlnClassNumber"], probabilities.argmax(1) + 1)
    assert table["tomosiftClass"].tolist() == [CLASSES[k] for k in probabilities.argmax(1)]


def test_relion_output_reads_back_with_classes_and_the_same_geometry(world: Any, chain: Any, tmp_path: Path) -> None:
    picks = read_particles(world.paths.particles, grids=grids(world))
    classified = read_particles(classify(chain, tmp_path / "c.star"), grids=grids(world))
    np.testing.assert_array_equal(classified.position_zyx_angstrom, picks.position_zyx_angstrom)
    np.testing.assert_array_equal(classified.rotation, picks.rotation)
    assert classified.source == picks.source == "relion5"
    assert classified.class_name.tolist() == [CLASSES[k] for k in expected(chain).probabilities.argmax(1)]


def grids(world: Any) -> Any:
    from tomosift.data.extraction.tomogram_sources import collect_grids, open_tomograms

    return collect_grids(open_tomograms(world.paths.tomograms))


def test_embeddings_are_written_beside_the_table_in_its_order(chain: Any, tmp_path: Path) -> None:
    classify(chain, tmp_path / "c.star")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.star", "c_embeddings.npy"]
    np.testing.assert_allclose(np.load(tmp_path / "c_embeddings.npy"), expected(chain).embeddings, atol=1e-5)


def test_csv_holds_positions_classes_and_probabilities(chain: Any, tmp_path: Path) -> None:
    table = pd.read_csv(classify(chain, tmp_path / "c.csv"))
    assert len(table) == 45
    subtomograms = open_subtomograms(chain.subtomograms)
    position = table[["z_angstrom", "y_angstrom", "x_angstrom"]]
    np.testing.assert_allclose(position, subtomograms.particles.position_zyx_angstrom, atol=1e-6)
    np.testing.assert_allclose(table[[f"tomosiftProbability_{n}" for n in CLASSES]].sum(axis=1), 1, atol=5e-6)
    assert table["class"].tolist() == table["tomosiftClass"].tolist()


def test_dynamo_table_holds_class_numbers_and_pixels(chain: Any, tmp_path: Path) -> None:
    table = dynamotable.read(classify(chain, tmp_path / "c.tbl"))
    np.testing.assert_array_equal(table["class"], expected(chain).probabilities.argmax(1) + 1)
    position = open_subtomograms(chain.subtomograms).particles.position_zyx_angstrom
    back = read_particles(tmp_path / "c.tbl", voxel_spacing_angstrom=16.0)
    np.testing.assert_allclose(back.position_zyx_angstrom, position, atol=1e-6)


def copick_project(folder: Path, names: tuple[str, ...]) -> Path:
    (folder / "overlay" / "ExperimentRuns").mkdir(parents=True)
    objects = [{"name": name, "is_particle": True, "label": k + 1} for k, name in enumerate(names)]
    content = {"name": "test", "pickable_objects": objects, "overlay_root": f"local://{folder}/overlay"}
    (folder / "config.json").write_text(json.dumps(content))
    return folder / "config.json"


def test_copick_project_gets_one_file_per_run_and_class(chain: Any, tmp_path: Path) -> None:
    project = classify(chain, copick_project(tmp_path, CLASSES))
    classified = copick.read_project(project)
    assert len(classified) == 45
    subtomograms = open_subtomograms(chain.subtomograms)
    predicted = [CLASSES[k] for k in expected(chain).probabilities.argmax(1)]
    picks = sorted(
        zip(
            subtomograms.particles.tomogram,
            predicted,
            subtomograms.particles.position_zyx_angstrom.tolist(),
            strict=True,
        )
    )
    positions = classified.position_zyx_angstrom.tolist()
    back = sorted(zip(classified.tomogram, classified.class_name, positions, strict=True))
    assert [row[:2] for row in back] == [row[:2] for row in picks]
    np.testing.assert_allclose([row[2] for row in back], [row[2] for row in picks], atol=1e-6)


def test_copick_project_without_the_classes_is_refused(chain: Any, tmp_path: Path, refuse: Refuse) -> None:
    project = copick_project(tmp_path, ("ribosome-70s",))
    message = refuse("classify", chain.subtomograms, "--model", chain.classifier, "--out", project)
    assert "add it to pickable_objects" in message


def test_predictions_of_low_confidence_are_unknown_and_can_be_dropped(chain: Any, tmp_path: Path) -> None:
    confidence = expected(chain).probabilities.max(1)
    limit = float(np.median(confidence))
    table = starfile.read(classify(chain, tmp_path / "all.star", "--min-confidence", str(limit)), always_dict=True)
    unknown = table["particles"]["rlnClassNumber"] == 0
    np.testing.assert_array_equal(unknown, confidence < limit)
    assert set(table["particles"]["tomosiftClass"][unknown]) == {"unknown"}
    classify(chain, tmp_path / "confident.star", "--min-confidence", str(limit), "--drop-unknown")
    kept = starfile.read(tmp_path / "confident.star", always_dict=True)["particles"]
    assert len(kept) == int((~unknown).sum()) == len(np.load(tmp_path / "confident_embeddings.npy"))


def test_table_without_particles_is_refused(chain: Any, tmp_path: Path, refuse: Refuse) -> None:
    words = (
        "classify",
        chain.subtomograms,
        "--model",
        chain.classifier,
        "--out",
        tmp_path / "c.star",
        "--drop-unknown",
    )
    assert "lower --min-confidence" in refuse(*words, "--min-confidence", 2)


def test_runs_without_classes_are_refused_with_advice(chain: Any, tmp_path: Path, refuse: Refuse) -> None:
    message = refuse("classify", chain.subtomograms, "--model", chain.pretrained, "--out", tmp_path / "c.star")
    assert "trained without classes" in message
    assert "tomosift train supervised --model" in message


def test_sets_of_another_voxel_spacing_are_refused(world: Any, chain: Any, tmp_path: Path, refuse: Refuse) -> None:
    words = ["extract", str(world.paths.particles), "--tomograms", str(world.paths.tomograms)]
    main([*words, "--out", str(tmp_path / "set"), "--voxel-spacing", "20", "--box-size", "16"])
    message = refuse("classify", tmp_path / "set", "--model", chain.classifier, "--out", tmp_path / "c.star")
    assert "extract with --voxel-spacing 16" in message


def test_unknown_formats_are_refused_before_the_work(chain: Any, tmp_path: Path, refuse: Refuse) -> None:
    assert ".xyz" in refuse("classify", chain.subtomograms, "--model", chain.classifier, "--out", tmp_path / "c.xyz")


def test_folders_that_hold_no_model_are_refused(world: Any, chain: Any, tmp_path: Path, refuse: Refuse) -> None:
    for folder in (tmp_path / "absent", world.folder):
        assert "model" in refuse("classify", chain.subtomograms, "--model", folder, "--out", tmp_path / "c.star")


@pytest.mark.parametrize("file", ["model.safetensors", "model.json"])
def test_damaged_models_are_refused(chain: Any, tmp_path: Path, refuse: Refuse, file: str) -> None:
    shutil.copytree(chain.classifier, tmp_path / "run")
    path = tmp_path / "run" / "result" / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(content))
    assert file in refuse("classify", chain.subtomograms, "--model", tmp_path / "run", "--out", tmp_path / "c.star")


def test_sets_with_a_shortened_shard_are_refused(chain: Any, tmp_path: Path, refuse: Refuse) -> None:
    shutil.copytree(chain.subtomograms, tmp_path / "set")
    shard = tmp_path / "set" / "boxes-00000.npy"
    shard.write_bytes(shard.read_bytes()[:-1000])
    assert "boxes-00000.npy" in refuse(
        "classify", tmp_path / "set", "--model", chain.classifier, "--out", tmp_path / "c.star"
    )


def test_exchanged_run_and_set_are_refused(chain: Any, tmp_path: Path, refuse: Refuse) -> None:
    refuse("classify", chain.classifier, "--model", chain.subtomograms, "--out", tmp_path / "c.star")


def test_two_processes_write_the_same_table_and_leave_no_parts(
    chain: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tomosift.compute.embedding._CHUNK", 7)
    one = starfile.read(classify(chain, tmp_path / "one.star"), always_dict=True)["particles"]
    two = starfile.read(classify(chain, tmp_path / "two.star", "--workers", "2"), always_dict=True)["particles"]
    # Written to four digits, of which threads in other numbers may round the last one the other way.
    pd.testing.assert_frame_equal(one, two, rtol=0, atol=1.1e-4)
    assert {path.name for path in tmp_path.iterdir()} == {
        *("one.star", "one_embeddings.npy", "two.star", "two_embeddings.npy")
    }
