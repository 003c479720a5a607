"""Runs and models of earlier versions load, and predict what those versions predicted."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tomosift.data.subtomogram_set import Subtomograms, open_subtomograms
from tomosift.inference.legacy import FORMAT, upgrade_card, upgrade_weights
from tomosift.inference.model_files import load_classifier, model_folder, save_classifier, shipped_models
from tomosift.inference.prediction import predict, predict_by_embeddings
from tomosift.methods.supervised import RENAMED, Config
from tomosift.train.config import config_from_json

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
RUN = GOLDEN / "run-0.1"
TOLERANCE = 1e-3
"""Convolutions on other processors, or with another number of threads, differ by about 2e-4."""


@pytest.fixture(scope="module")
def expected() -> dict[str, np.ndarray]:
    with np.load(RUN / "expected.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def subtomograms() -> Subtomograms:
    return open_subtomograms(GOLDEN / "set-0.1")


def test_a_model_of_version_0_1_predicts_the_same(subtomograms: Subtomograms, expected: dict[str, np.ndarray]) -> None:
    model = load_classifier(RUN)
    assert model.class_averages is not None
    assert model.class_averages.has_average.all()
    prediction = predict(model, subtomograms)
    np.testing.assert_allclose(prediction.embeddings, expected["embeddings"], atol=TOLERANCE)
    np.testing.assert_allclose(prediction.probabilities, expected["probabilities"], atol=TOLERANCE)
    np.testing.assert_allclose(prediction.similarity, expected["similarity"], atol=TOLERANCE)
    by_embeddings = predict_by_embeddings(model, subtomograms)
    np.testing.assert_allclose(by_embeddings.probabilities, expected["probabilities_by_embeddings"], atol=TOLERANCE)
    assert np.abs(by_embeddings.probabilities - prediction.probabilities).max() > 0.1


def test_a_card_of_version_0_1_has_the_new_names_of_its_fields() -> None:
    old = json.loads((RUN / "result" / "model.json").read_text())
    card = load_classifier(RUN).card
    assert old["format"] == 4
    assert card.class_names == tuple(old["class_names"]) == ("ribosome-70s", "apoferritin")
    assert (card.min_confidence, card.min_similarity) == (old["unknown_below"], old["unfamiliar_below"]) == (0.4, 0.1)
    assert card.class_averages is old["averages"] is True
    assert upgrade_card(upgrade_card(old)) == upgrade_card(old)
    assert upgrade_card({**old, "head": "discriminant"})["head"] == "plda"


def test_a_configuration_of_version_0_1_has_the_new_names_of_its_fields() -> None:
    stored = json.loads((RUN / "config.json").read_text())["config"]
    config = config_from_json(Config, stored, RUN / "config.json", RENAMED)
    assert (config.pseudo_labels, config.class_averages) == (stored["spread"], stored["averages"])
    assert (config.min_confidence, config.min_similarity) == (0.4, 0.1)
    assert config.training.steps == 10


def test_a_model_of_version_0_1_is_saved_in_the_present_format(tmp_path: Path) -> None:
    model = load_classifier(RUN)
    save_classifier(tmp_path, model)
    assert json.loads((tmp_path / "model.json").read_text())["format"] == FORMAT
    loaded = load_classifier(tmp_path)
    assert loaded.card == model.card
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in model.state_dict().items())
    assert upgrade_weights(model.state_dict()).keys() == model.state_dict().keys()


@pytest.mark.parametrize("name", ["general", "dense"])
def test_shipped_models_have_cards_of_version_0_1_and_load(name: str) -> None:
    assert name in shipped_models()
    assert json.loads((model_folder(Path(name)) / "model.json").read_text())["format"] == 4
    assert load_classifier(Path(name)).card.class_names == ()


def test_weights_of_version_0_1_have_their_new_names() -> None:
    names = {
        "familiarity.center": "similarity.center",
        "averages.outline": "class_averages.mask",
        "averages.volumes": "class_averages.volumes",
        "head.asked.weight": "head.query.weight",
        "head.offered.weight": "head.key.weight",
        "head.given.weight": "head.value.weight",
        "head.out.bias": "head.out.bias",
        "encoder.spread": "recentering.picking_error",
    }
    values = {name: torch.tensor(float(number)) for number, name in enumerate(names)}
    assert upgrade_weights(values) == {names[name]: value for name, value in values.items()}
