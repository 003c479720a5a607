"""Models are listed, described and checked."""

import shutil
from pathlib import Path

import pytest

from tomosift.cli.main import main
from tomosift.inference.model_files import model_folder, shipped_models


def test_shipped_models_are_listed_with_their_abilities(capsys: pytest.CaptureFixture[str]) -> None:
    main(["models", "list"])
    printed = capsys.readouterr().out
    assert all(name in printed for name in shipped_models())
    assert "masks" in printed


def test_info_describes_how_a_model_was_trained(capsys: pytest.CaptureFixture[str]) -> None:
    main(["models", "info", "general"])
    printed = capsys.readouterr().out
    for fact in ("32^3 at 10 A", "8192 complexes", "./dev weights general_model", "BSD-3-Clause"):
        assert fact in printed


def test_verify_reports_complete_models_and_refuses_changed_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["models", "verify"])
    assert "general: complete" in capsys.readouterr().err
    changed = tmp_path / "changed"
    shutil.copytree(model_folder(Path("general")), changed)
    weights = changed / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(SystemExit) as stopped:
        main(["models", "verify", "general", str(changed)])
    assert stopped.value.code == 2
    assert "checksum" in capsys.readouterr().err


def test_unknown_model_is_refused_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["models", "info", "generel"])
    assert stopped.value.code == 2
    assert "generel: folder is missing" in (printed := capsys.readouterr().err)
    assert "general" in printed


def test_damaged_description_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(model_folder(Path("general")), changed)
    for content in ('{"what": ', "[1, 2]"):
        (changed / "about.json").write_text(content)
        for word in ("info", "verify"):
            with pytest.raises(SystemExit) as stopped:
                main(["models", word, str(changed)])
            assert stopped.value.code == 2
            assert "about.json: content" in capsys.readouterr().err
