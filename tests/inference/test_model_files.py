"""Model files: a saved model loads as it was, and damage is refused in one sentence."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from tomosift.errors import FormatError
from tomosift.inference.classifier import Classifier, ModelCard
from tomosift.inference.model_files import load_classifier, load_start, model_digest, save_classifier, shipped_models
from tomosift.models.center_finder import weights_path
from tomosift.models.embedder import Embedder
from tomosift.models.encoders import ENCODERS, build_encoder
from tomosift.models.recentering import MAX_SHIFT, Recentering

CARD = ModelCard("rb3d", 10.0, 16, ("apoferritin", "ribosome"), temperature=1.7, min_confidence=0.4)


def fresh(card: ModelCard = CARD) -> Classifier:
    torch.manual_seed(0)
    return Classifier(Embedder(build_encoder(card.encoder), Recentering()), card).eval()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_classifier(tmp_path / "model", fresh())
    return tmp_path / "model"


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("classes", [(), ("a", "b", "c")])
def test_saved_and_loaded_is_the_same_model(encoder: str, classes: tuple[str, ...], tmp_path: Path) -> None:
    model = fresh(replace(CARD, encoder=encoder, class_names=classes))
    save_classifier(tmp_path, model)
    loaded = load_classifier(tmp_path)
    assert loaded.card == model.card
    assert not loaded.training
    state = loaded.state_dict()
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_a_model_loads_from_the_folder_of_its_run(tmp_path: Path) -> None:
    save_classifier(tmp_path / "run" / "result", fresh())
    assert load_classifier(tmp_path / "run").card == CARD


def test_loading_does_not_change_the_random_numbers_of_the_caller(saved: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load_classifier(saved)
    assert torch.equal(torch.rand(3), expected)


def _edit(field: str, value: object) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        card = json.loads((folder / "model.json").read_text())
        card[field] = value
        (folder / "model.json").write_text(json.dumps(card))

    return damage


def _drop(field: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        card = json.loads((folder / "model.json").read_text())
        del card[field]
        (folder / "model.json").write_text(json.dumps(card))

    return damage


def _with_checksum(folder: Path) -> None:
    _edit("sha256", hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest())(folder)


def _truncate(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def _truncate_with_checksum(folder: Path) -> None:
    _truncate(folder)
    _with_checksum(folder)


def _flip_a_byte(folder: Path) -> None:
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "no card": (lambda folder: (folder / "model.json").unlink(), "is missing, expected a finished model"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "is missing, expected the weights"),
    "truncated": (_truncate, "checksum is not that of model.json"),
    "truncated, checksum updated": (_truncate_with_checksum, "expected those of a rb3d model"),
    "one bit flipped": (_flip_a_byte, "checksum is not that of model.json"),
    "wrong checksum": (_edit("sha256", "0" * 64), "checksum is not that of model.json"),
    "unknown encoder": (_edit("encoder", "resnet"), "encoder is 'resnet', expected one of "),
    "another encoder": (_edit("encoder", "residual"), "expected those of a residual model"),
    "other classes": (_edit("class_names", ["a", "b", "c"]), "expected those of a rb3d model"),
    "later format": (_edit("format", 99), "format is 99, expected 5; use the tomosift version"),
    "another center finder": (_edit("center_finder", "0" * 64), "center_finder is other weights, expected those"),
    "no format": (_drop("format"), "not a model card"),
    "no checksum": (_drop("sha256"), "not a model card"),
    "no classes": (_drop("class_names"), "not a model card"),
    "foreign field": (_edit("flavor", "vanilla"), "not a model card"),
    "not JSON": (
        lambda folder: (folder / "model.json").write_text("{'encoder'"),
        "no JSON",
    ),
    "a list": (lambda folder: (folder / "model.json").write_text("[1, 2]"), "expected JSON as tomosift writes it"),
    "binary": (lambda folder: (folder / "model.json").write_bytes(b"\xff\xfe\x00"), "no text"),
    "empty": (lambda folder: (folder / "model.json").write_text(""), "no JSON"),
    "empty weights": (lambda folder: (folder / "model.safetensors").write_bytes(b""), "checksum is not that"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_model_is_refused_in_one_sentence_that_names_the_file(damage: str, saved: Path) -> None:
    harm, sentence = DAMAGES[damage]
    harm(saved)
    with pytest.raises(FormatError) as caught:
        load_classifier(saved)
    message = str(caught.value)
    assert sentence in message
    assert str(saved) in message
    assert "\n" not in message


def test_folder_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        FormatError, match="nowhere: folder is missing, expected a run, a model, or the name of a shipped one"
    ):
        load_classifier(tmp_path / "nowhere")


def test_shipped_models_load_by_name_and_a_folder_of_that_name_has_priority(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "general" in shipped_models()
    general = load_classifier(Path("general"))
    assert (general.card.encoder, general.card.class_names) == ("radial", ())
    assert model_digest(Path("general")) != model_digest(saved)
    shutil.copytree(saved, tmp_path / "general")
    monkeypatch.chdir(tmp_path)
    assert model_digest(Path("general")) == model_digest(saved)


def test_start_at_another_voxel_spacing_is_refused(saved: Path) -> None:
    assert load_start(saved, CARD.voxel_spacing_angstrom).card == CARD
    with pytest.raises(ValueError, match=r"extract with --voxel-spacing"):
        load_start(saved, 2 * CARD.voxel_spacing_angstrom)


def test_a_shipped_model_has_a_description_of_its_training() -> None:
    about = json.loads((weights_path().parent / "general" / "about.json").read_text())
    assert {"made_by", "seed", "config", "environment", "sources", "limits", "license", "masks"} <= set(about)
    assert "no real structure" in about["sources"]
    assert any("SNR 0.1, 5 classes" in key for key in about["accuracy_in_episodes_of_the_atlas_1_and_5_examples"])


def test_the_shipped_model_has_the_picking_error_of_its_training_and_a_decoder_in_half_precision() -> None:
    with safe_open(weights_path().parent / "general" / "model.safetensors", "pt") as weights:
        assert float(weights.get_tensor("encoder.spread")) == MAX_SHIFT  # not that of another set
        halves = [name for name in weights.keys() if name.startswith("decoder.")]  # noqa: SIM118
        assert {weights.get_tensor(name).dtype for name in halves} == {torch.float16}
    assert load_classifier(Path("general")).card.head == "plda"


def test_a_model_file_has_the_permissions_of_the_umask(tmp_path: Path) -> None:
    save_classifier(tmp_path, fresh(ModelCard("radial", 10.0, 32)))
    plain = tmp_path / "plain"
    plain.touch()
    assert (tmp_path / "model.safetensors").stat().st_mode == plain.stat().st_mode
