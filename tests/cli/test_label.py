"""The command `label`: what it refuses, and what it keeps."""

import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tomosift.annotation.consensus import ConsensusTracker
from tomosift.annotation.store import Store
from tomosift.cli.main import main
from tomosift.data.subtomogram_set import open_subtomograms
from tomosift.methods import set_digest

Refuse = Callable[..., str]


def run(*words: object) -> None:
    main([str(word) for word in words])


@pytest.fixture
def unserved(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that ends at once."""

    def ended(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("uvicorn.Server.run", ended)


def test_labels_of_a_table_are_taken_over_and_the_token_is_for_its_owner(
    chain: Any, world: Any, unserved: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "kept" / "labels.sqlite"
    words = ("label", chain.subtomograms, "--store", store, "--annotator", "ada", "--no-browser")
    run(*words, "--labels", world.labels, "--classes", "membrane")
    printed = capsys.readouterr().err
    token = (store.parent / "token").read_text()
    assert f"/#token={token}" in printed
    assert "6 labels taken over" in printed
    assert stat.S_IMODE((store.parent / "token").stat().st_mode) == 0o600
    subtomograms = open_subtomograms(chain.subtomograms)
    opened = Store(store, set_digest(subtomograms), subtomograms.particles.particle_id)
    assert len(ConsensusTracker(opened).update().majority) == 6
    assert opened.read_classes()[0].name == "membrane"
    assert len(opened.read_classes()) == 4
    opened.close()
    run(*words)
    assert f"/#token={token}" in capsys.readouterr().err


def test_store_lies_beside_the_set_by_default(chain: Any, unserved: None) -> None:
    run("label", chain.subtomograms, "--no-browser")
    assert (chain.subtomograms.parent / f"{chain.subtomograms.name}-labels" / "labels.sqlite").exists()


def test_address_beyond_this_machine_is_warned_of(
    chain: Any, unserved: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "labels.sqlite"
    run("label", chain.subtomograms, "--store", store, "--no-browser", "--host", "0.0.0.0")
    assert "warning: 0.0.0.0 is reached from other machines, unencrypted" in capsys.readouterr().err


def test_wrong_arguments_are_one_sentence(chain: Any, world: Any, refuse: Refuse, tmp_path: Path) -> None:
    words = ("label", chain.subtomograms, "--store", tmp_path / "labels.sqlite", "--no-browser")
    assert "port is 99999, expected 0 to 65535" in refuse(*words, "--port", 99999)
    assert "cannot listen at 203.0.113.1 port 0" in refuse(*words, "--host", "203.0.113.1")
    assert "nothing" in refuse(*words, "--model", tmp_path / "nothing")
    assert "expected a folder made by extraction" in refuse("label", tmp_path / "no-set", "--no-browser")
    assert "nowhere.star" in refuse(*words, "--labels", tmp_path / "nowhere.star")


def test_missing_extra_is_refused_with_the_command_that_installs_it(
    chain: Any, refuse: Refuse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    printed = refuse("label", chain.subtomograms, "--store", tmp_path / "labels.sqlite", "--no-browser")
    assert "pip install 'tomosift[label]'" in printed
