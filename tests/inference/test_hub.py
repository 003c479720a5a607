"""Models on the Hugging Face Hub load by name; errors say what to do."""

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tomosift.inference.hub import download_model
from tomosift.inference.model_files import load_classifier, model_digest, model_folder


def hub(monkeypatch: pytest.MonkeyPatch, snapshot_download: object) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(snapshot_download=snapshot_download))


def test_a_model_of_the_hub_loads_by_name_and_only_its_own_files_are_requested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = []

    def snapshot_download(repository: str, revision: str | None, allow_patterns: list[str]) -> str:
        requests.append((repository, revision, allow_patterns))
        return str(tmp_path / "snapshot")

    shutil.copytree(model_folder(Path("general")), tmp_path / "snapshot")
    hub(monkeypatch, snapshot_download)
    assert load_classifier(Path("hub:a-lab/its.model")).card.encoder == "radial"
    assert model_digest(Path("hub:a-lab/its.model@v2")) == model_digest(Path("general"))
    files = ["model.json", "model.safetensors", "about.json"]
    assert requests == [("a-lab/its.model", None, files), ("a-lab/its.model", "v2", files)]


@pytest.mark.parametrize("name", ["hub:name", "hub:../../etc", "hub:a/b/c", "hub:a/b@", "hub:", "hub:a/b@x/y"])
def test_impossible_names_on_the_hub_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="expected hub:owner/name"):
        download_model(Path(name))


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match=r"pip install tomosift\[hub\]"):
        download_model(Path("hub:a-lab/its-model"))


def test_a_failed_download_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def snapshot_download(*_: object, **__: object) -> str:
        raise FileNotFoundError("no connection\nand a page of advice")

    hub(monkeypatch, snapshot_download)
    with pytest.raises(ValueError, match=r"was not downloaded \(no connection\); check the name"):
        download_model(Path("hub:a-lab/its-model"))
