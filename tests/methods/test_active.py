"""Active learning: labels are looked at when they are asked for, and not before."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tomosift import methods
from tomosift.data.subtomograms import Subtomograms
from tomosift.data.training_sets import TrainingSets
from tomosift.learning.query_strategies import QueryConfig, QueryRounds
from tomosift.methods.active import ASKED, Config
from tomosift.simulate.subtomograms import SubtomogramSetConfig, simulate_subtomograms
from tomosift.train.loop import Training

CLASSES = ("ribosome-70s", "apoferritin", "proteasome-20s")
SHORT = Config(
    init=None,
    rounds=QueryRounds(first_labels=6, labels_per_round=4, settings=QueryConfig(subsets=2, epochs=2)),
    labels=15,
    training=Training(steps=2, batch_size=6),
)


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> Subtomograms:
    config = SubtomogramSetConfig(CLASSES, 20, 16, voxel_spacing_angstrom=20.0, max_neighbors=0, seed=3)
    return simulate_subtomograms(config, tmp_path_factory.mktemp("active") / "set")


def sets(boxes: Subtomograms) -> TrainingSets:
    hidden = boxes.with_labels(np.full(len(boxes), ""), boxes.class_names)
    return TrainingSets(boxes, hidden, boxes.select(np.zeros(0, dtype=np.int64)))


def test_no_more_labels_are_looked_at_than_the_budget_says(boxes: Subtomograms, tmp_path: Path) -> None:
    model = methods.train("active", SHORT, sets(boxes), tmp_path / "run", 0)
    assert model.card.class_names == boxes.class_names
    asked = json.loads((tmp_path / "run" / ASKED).read_text())
    assert len(set(asked)) == 15
    assert json.loads((tmp_path / "run" / methods.SEEN).read_text()) == sorted(asked)
    told = json.loads((tmp_path / "run" / "classifier" / "config.json").read_text())
    assert told["data"]["labeled"]["labeled"] == 15
    logged = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["particles"] for line in logged if line.get("event") == "asked"] == [6, 4, 4, 1]


def test_labels_that_were_not_asked_for_change_nothing(boxes: Subtomograms, tmp_path: Path) -> None:
    whole = methods.train("active", SHORT, sets(boxes), tmp_path / "whole", 0)
    asked = json.loads((tmp_path / "whole" / ASKED).read_text())
    names = np.where(np.isin(boxes.particles.particle_id, asked), boxes.particles.class_name, CLASSES[0])
    other = boxes.with_labels(names.astype(object), CLASSES)
    again = methods.train("active", SHORT, sets(other), tmp_path / "again", 0)
    assert json.loads((tmp_path / "again" / ASKED).read_text()) == asked
    for name, value in whole.state_dict().items():
        assert value.equal(again.state_dict()[name]), name


def test_too_small_a_budget_is_one_sentence(boxes: Subtomograms, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="labels is 1, expected 2 or more"):
        methods.train("active", replace(SHORT, labels=1), sets(boxes), tmp_path / "run", 0)
    assert not (tmp_path / "run").exists()
