"""Active learning: a label is read at its query, and not before."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tomosift import methods
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.data.training_sets import TrainingSets
from tomosift.learning.query_rounds import QueryRounds
from tomosift.learning.query_strategies import QueryConfig
from tomosift.methods.active import QUERIES, Config
from tomosift.simulation.subtomograms import SubtomogramSetConfig, simulate_subtomograms
from tomosift.train.loop import Training

CLASSES = ("ribosome-70s", "apoferritin", "proteasome-20s")
SHORT = Config(
    init=None,
    rounds=QueryRounds(first_labels=6, labels_per_round=4, settings=QueryConfig(subsets=2, epochs=2)),
    total_labels=15,
    training=Training(steps=2, batch_size=6),
)


@pytest.fixture(scope="module")
def subtomograms(tmp_path_factory: pytest.TempPathFactory) -> Subtomograms:
    config = SubtomogramSetConfig(CLASSES, 20, 16, voxel_spacing_angstrom=20.0, max_neighbors=0, seed=3)
    return simulate_subtomograms(config, tmp_path_factory.mktemp("active") / "set")


def hide_labels(subtomograms: Subtomograms) -> TrainingSets:
    hidden = subtomograms.with_labels(np.full(len(subtomograms), ""), subtomograms.class_names)
    return TrainingSets.from_labels(subtomograms, hidden)


def test_queries_never_exceed_the_label_budget(subtomograms: Subtomograms, tmp_path: Path) -> None:
    model = methods.train("active", SHORT, hide_labels(subtomograms), tmp_path / "run", 0)
    assert model.card.class_names == subtomograms.class_names
    queries = json.loads((tmp_path / "run" / QUERIES).read_text())
    assert len(set(queries)) == 15
    assert json.loads((tmp_path / "run" / methods.LABELED_PARTICLES).read_text()) == sorted(queries)
    described = json.loads((tmp_path / "run" / "classifier" / "config.json").read_text())
    assert described["data"]["labeled"]["labeled"] == 15
    entries = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["particles"] for line in entries if line.get("event") == "query"] == [6, 4, 4, 1]


def test_labels_without_a_query_change_nothing(subtomograms: Subtomograms, tmp_path: Path) -> None:
    whole = methods.train("active", SHORT, hide_labels(subtomograms), tmp_path / "whole", 0)
    queries = json.loads((tmp_path / "whole" / QUERIES).read_text())
    names = np.where(
        np.isin(subtomograms.particles.particle_id, queries), subtomograms.particles.class_name, CLASSES[0]
    )
    other = subtomograms.with_labels(names.astype(object), CLASSES)
    again = methods.train("active", SHORT, hide_labels(other), tmp_path / "again", 0)
    assert json.loads((tmp_path / "again" / QUERIES).read_text()) == queries
    for name, value in whole.state_dict().items():
        assert value.equal(again.state_dict()[name]), name


def test_too_small_a_budget_is_one_sentence(subtomograms: Subtomograms, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="labels is 1, expected 2 or more"):
        methods.train("active", replace(SHORT, total_labels=1), hide_labels(subtomograms), tmp_path / "run", 0)
    assert not (tmp_path / "run").exists()
