"""Real subtomograms of other programs go through the same commands."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tomosift.cli.main import main
from tomosift.data.subtomogram_set import open_subtomograms
from tomosift.inference.model_files import load_classifier
from tomosift.simulation.subtomograms import SubtomogramSetConfig, simulate_subtomograms

MICROTUBULE, RIBOSOMES = "derived_real_microtubule", "derived_real_ribosomes"


def import_set(source: Path, out: Path) -> Path:
    main(["extract", str(source), "--out", str(out)])
    return out


def test_spacing_and_classes_of_imported_subtomograms_are_those_of_headers_and_table(
    real_data: Path, tmp_path: Path
) -> None:
    subtomograms = open_subtomograms(import_set(real_data / "subtomograms" / MICROTUBULE, tmp_path / "set"))
    assert (len(subtomograms), subtomograms.box_size) == (73, 32)
    assert subtomograms.voxel_spacing_angstrom == pytest.approx(10.52, abs=0.01)
    assert subtomograms.class_names == ("background", "microtubule")
    assert np.bincount(subtomograms.label).tolist() == [52, 21]
    assert bool(np.isfinite(subtomograms.volumes(np.arange(73))).all())


def test_imported_ribosomes_have_poses_and_their_class(real_data: Path, tmp_path: Path) -> None:
    subtomograms = open_subtomograms(import_set(real_data / "subtomograms" / RIBOSOMES, tmp_path / "set"))
    assert (len(subtomograms), subtomograms.box_size) == (10, 32)
    assert subtomograms.voxel_spacing_angstrom == pytest.approx(12.0, abs=0.01)
    assert subtomograms.class_names == ("ribosome_70S",)
    assert bool(np.isfinite(subtomograms.particles.rotation).all())


def test_spacing_of_imported_subtomograms_can_be_stated(real_data: Path, tmp_path: Path) -> None:
    source = str(real_data / "subtomograms" / RIBOSOMES)
    main(["extract", source, "--out", str(tmp_path / "stated"), "--picks-spacing", "11"])
    assert open_subtomograms(tmp_path / "stated").voxel_spacing_angstrom == 11
    main(["extract", source, "--out", str(tmp_path / "scaled"), "--voxel-spacing", "15", "--box-size", "24"])
    scaled = open_subtomograms(tmp_path / "scaled")
    assert (scaled.voxel_spacing_angstrom, scaled.box_size, len(scaled)) == (15, 24, 10)


@pytest.mark.slow
def test_few_labels_classify_microtubule_and_background(real_data: Path, tmp_path: Path) -> None:
    """The subtomograms overlap and are of one tomogram: this tests the commands, not the method."""
    source = real_data / "subtomograms" / MICROTUBULE
    folder = import_set(source, tmp_path / "set")
    table = pd.read_csv(source / "labels.csv")
    chosen = pd.concat([table[table["label"] == name].iloc[::4][:5] for name in ("background", "microtubule")])
    spacing = open_subtomograms(folder).voxel_spacing_angstrom
    few = pd.DataFrame(
        {
            "tomogram": chosen["tomogram"],
            **{f"{axis}_angstrom": chosen[f"{axis}_vox"] * spacing for axis in "xyz"},
            "class": chosen["label"],
        }
    )
    few.to_csv(tmp_path / "few.csv", index=False)
    run = tmp_path / "run"
    words = ["train", "supervised", str(folder), "--labels", str(tmp_path / "few.csv"), "--out", str(run)]
    main([*words, "--training.steps", "5", "--training.batch-size", "10"])
    assert len(json.loads((run / "seen.json").read_text())) == 10
    main(["classify", str(folder), "--model", str(run), "--out", str(tmp_path / "c.csv")])
    predictions = pd.read_csv(tmp_path / "c.csv")
    assert len(predictions) == 73
    assert set(predictions["tomosiftClass"]) <= {"background", "microtubule"}
    # labels.csv holds the true classes; predictions must not replace that column.
    assert predictions["label"].tolist() == table["label"].tolist()
    main(["evaluate", str(folder), "--model", str(run), "--out", str(tmp_path / "report.html")])
    page = (tmp_path / "report.html").read_text()
    assert "10 particles whose labels were used for training are left out" in page
    assert "microtubule" in page


@pytest.mark.slow
def test_model_trained_on_simulations_classifies_real_ribosomes(real_data: Path, tmp_path: Path) -> None:
    folder = import_set(real_data / "subtomograms" / RIBOSOMES, tmp_path / "real")
    config = SubtomogramSetConfig(
        classes=("ribosome-70s", "groel", "apoferritin"), per_class=8, voxel_spacing_angstrom=12.0, batch_size=24
    )
    simulate_subtomograms(config, tmp_path / "simulated")
    run = tmp_path / "run"
    words = ["train", "supervised", str(tmp_path / "simulated"), "--out", str(run)]
    main([*words, "--training.steps", "5", "--training.batch-size", "12"])
    assert load_classifier(run).card.class_names == config.class_names
    main(["classify", str(folder), "--model", str(run), "--out", str(tmp_path / "c.csv")])
    table = pd.read_csv(tmp_path / "c.csv")
    assert len(table) == 10
    assert set(table["tomosiftClass"]) <= set(config.class_names)
    main(["evaluate", str(folder), "--model", str(run), "--out", str(tmp_path / "report.html")])
    # Simulated and real class are named differently: no accuracy is claimed.
    page = (tmp_path / "report.html").read_text()
    assert "ribosome_70S" in page
    assert "the report states no accuracy" in page


def test_microtubule_and_background_are_two_clusters_without_a_label(real_data: Path, tmp_path: Path) -> None:
    """The subtomograms overlap and are of one tomogram, so this is easier than it seems."""
    folder = import_set(real_data / "subtomograms" / MICROTUBULE, tmp_path / "set")
    main(["explore", str(folder), "--out", str(tmp_path / "explored"), "--no-suggest", "--clusters", "2"])
    subtomograms = open_subtomograms(folder)
    with np.load(tmp_path / "explored" / "clusters.npz") as stored:
        assert np.bincount(stored["probability"].argmax(axis=1) * 2 + subtomograms.label).tolist() == [52, 0, 0, 21]
        assert stored["stability"].min() > 0.9
