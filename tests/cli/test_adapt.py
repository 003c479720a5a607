"""The command adapt: a model for an unlabeled set, from a source with labels."""

from functools import partial
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
from tomosift.workflows import adapt as workflow

pytestmark = pytest.mark.usefixtures("few_rotations", "fast_recentering")

CLASSES = ("ribosome-70s", "apoferritin")


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Subtomograms:
    config = SubtomogramSetConfig(CLASSES, per_class=12, box_size=24, max_neighbors=0, seed=3)
    return simulate_subtomograms(config, tmp_path_factory.mktemp("adapt") / "set")


@pytest.fixture(scope="module")
def run(target: Subtomograms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapt") / "run"
    config = Supervised(init=GENERAL, tuning="probe", pseudo_labels="never", training=Training(2))
    methods.train("supervised", config, TrainingSets.from_labels(target, target), folder, 0)
    return folder


def test_adapted_run_writes_a_table_and_a_report_on_both_domains(
    run: Path, target: Subtomograms, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = ["--model", str(run), "--out", str(out), "--steps", "2", "--no-warps"]
    main(["adapt", str(target.path), *words])
    particles = read_particles(out / "classified.star")
    assert len(particles) == len(target)
    page = (out / "report.html").read_text()
    assert 'id="domains"' in page
    assert "Maps of embeddings of source and target" in page


def test_labels_of_a_table_are_those_of_the_source(
    target: Subtomograms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `tomosift label` leaves them: a few particles of a set that came without classes."""
    monkeypatch.setattr(workflow, "Config", partial(workflow.Config, source_steps=2, discriminator_steps=2))
    some = target.particles.select(np.arange(0, len(target), 2))
    write_particles(tmp_path / "labels.csv", some, voxel_spacing_angstrom=10.0)
    words = ["--source", str(target.path), "--labels", str(tmp_path / "labels.csv"), "--steps", "2", "--no-warps"]
    main(["adapt", str(target.path), "--model", "general", "--out", str(tmp_path / "out"), *words])
    recorded = read_json(tmp_path / "out" / "adapted" / "config.json")["data"]["labeled"]
    assert recorded["digest"] not in {methods.set_digest(target), ""}
    assert (tmp_path / "out" / "classified.star").exists()


def test_wrong_sources_are_refused_in_one_sentence(
    run: Path, target: Subtomograms, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = tmp_path / "changed"
    changed.mkdir()
    text = (run / "config.json").read_text()
    digest = methods.set_digest(target)
    assert digest in text
    (changed / "config.json").write_text(text.replace(digest, "0" * 16))
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.json").write_text("{}")
    command = ["adapt", str(target.path), "--out", str(tmp_path / "out"), "--model"]
    for words, sentence in (
        (["general"], "general was trained on no set of yours; give a labeled one"),
        (["general", "--source", str(target.path), "--structures", "apoferritin"], "give one of them"),
        (
            ["general", "--labels", "a.star", "--structures", "apoferritin"],
            "--labels belong to particles of a --source",
        ),
        ([str(changed)], "are not those that"),
        ([str(tmp_path / "empty")], "expected that of a supervised run"),
    ):
        with pytest.raises(SystemExit) as stopped:
            main([*command, *words])
        assert stopped.value.code == 2
        assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
