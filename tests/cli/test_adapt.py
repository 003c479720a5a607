"""The command that carries a model over to boxes without labels."""

from pathlib import Path

import numpy as np
import pytest

from tomosift import methods
from tomosift.cli.main import main
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.data.training_sets import TrainingSets
from tomosift.inference.model_files import GENERAL
from tomosift.io.particles import read_particles, write_particles
from tomosift.methods.supervised import Config as Supervised
from tomosift.simulation.subtomograms import SubtomogramSetConfig, simulate_subtomograms
from tomosift.train.loop import Training
from tomosift.train.run import read_json

CLASSES = ("ribosome-70s", "apoferritin")


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> Subtomograms:
    config = SubtomogramSetConfig(CLASSES, per_class=12, box_size=24, max_neighbors=0, seed=3)
    return simulate_subtomograms(config, tmp_path_factory.mktemp("adapt") / "set")


@pytest.fixture(scope="module")
def run(boxes: Subtomograms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapt") / "run"
    config = Supervised(init=GENERAL, tuning="probe", spread="never", training=Training(2))
    methods.train("supervised", config, TrainingSets.from_labels(boxes, boxes), folder, 0)
    return folder


def test_a_run_is_carried_over_with_its_set_to_a_table_and_a_report_with_both_domains(
    run: Path, boxes: Subtomograms, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    main(["adapt", str(run), "--target", str(boxes.path), "--out", str(out), "--steps", "2", "--no-warps"])
    named = read_particles(out / "classified.star")
    assert len(named) == len(boxes)
    page = (out / "report.html").read_text()
    assert 'id="domains"' in page
    assert "Maps of embeddings of source and target" in page


def test_labels_of_a_table_are_those_of_the_source(boxes: Subtomograms, tmp_path: Path) -> None:
    """As `tomosift label` leaves them: a few particles of a set that came without classes."""
    some = boxes.particles.select(np.arange(0, len(boxes), 2))
    write_particles(tmp_path / "labels.csv", some, voxel_spacing_angstrom=10.0)
    words = ["--source", str(boxes.path), "--labels", str(tmp_path / "labels.csv"), "--steps", "2", "--no-warps"]
    main(["adapt", "general", "--target", str(boxes.path), "--out", str(tmp_path / "out"), *words])
    remembered = read_json(tmp_path / "out" / "adapted" / "config.json")["data"]["labeled"]
    assert remembered["digest"] not in {methods.set_digest(boxes), ""}
    assert (tmp_path / "out" / "classified.star").exists()


def test_what_cannot_be_a_source_is_one_sentence(
    run: Path, boxes: Subtomograms, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = tmp_path / "changed"
    changed.mkdir()
    told = (run / "config.json").read_text()
    digest = methods.set_digest(boxes)
    assert digest in told
    (changed / "config.json").write_text(told.replace(digest, "0" * 16))
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.json").write_text("{}")
    ask = ["--target", str(boxes.path), "--out", str(tmp_path / "out")]
    for words, sentence in (
        (["general"], "general was trained on no set of yours; give a labeled one"),
        (["general", "--source", str(boxes.path), "--structures", "apoferritin"], "give one of them"),
        (["general", "--labels", "a.star", "--structures", "apoferritin"], "--labels are of particles of a --source"),
        ([str(changed)], "are not those that"),
        ([str(tmp_path / "empty")], "expected that of a supervised run"),
    ):
        with pytest.raises(SystemExit) as stopped:
            main(["adapt", *words, *ask])
        assert stopped.value.code == 2
        assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
