"""The command line itself: help, exit codes, and what the user reads."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tomosift import __version__
from tomosift.cli import COMMANDS
from tomosift.cli.main import main

Refuse = Callable[..., str]


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]])
def test_overview_names_every_command(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    main(words)
    printed = capsys.readouterr().out
    assert all(name in printed and sentence in printed for name, sentence in COMMANDS.items())


def test_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--version"])
    assert capsys.readouterr().out == f"tomosift {__version__}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_answers_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    assert end.value.code == 0
    assert f"usage: tomosift {name}" in capsys.readouterr().out


def test_unknown_commands_are_refused_with_the_known_ones(refuse: Refuse) -> None:
    assert "there is no command 'sift'; commands are sort," in refuse("sift")


@pytest.mark.parametrize("name", ["train", "classify", "evaluate", "extract", "sort", "check"])
def test_missing_arguments_end_in_code_two(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([name])
    assert end.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_unknown_options_end_in_code_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(
            ["classify", str(tmp_path), "--model", str(tmp_path), "--out", str(tmp_path / "c.star"), "--colour", "red"]
        )
    assert end.value.code == 2
    assert "--colour" in capsys.readouterr().err


def test_defects_of_the_program_keep_their_traceback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr("tomosift.workflows.classify.load_classifier", broken)
    with pytest.raises(RuntimeError, match="a defect"):
        main(["classify", str(tmp_path), "--model", str(tmp_path), "--out", str(tmp_path / "c.star")])


def test_variable_shows_tracebacks_of_bad_input(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TOMOSIFT_TRACEBACK", "1")
    with pytest.raises(ValueError, match="missing"):
        main(["classify", str(tmp_path), "--model", str(tmp_path), "--out", str(tmp_path / "c.star")])


def test_interruption_ends_in_code_130_with_advice(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tomosift.workflows.classify.load_classifier", interrupted)
    with pytest.raises(SystemExit) as end:
        main(["classify", str(tmp_path), "--model", str(tmp_path), "--out", str(tmp_path / "c.star")])
    assert end.value.code == 130
    assert "run the same command again" in capsys.readouterr().err


def test_starting_imports_nothing_heavy() -> None:
    heavy = ("torch", "pandas", "matplotlib", "tyro")
    code = f"import sys, tomosift.cli.main; print([name for name in {heavy} if name in sys.modules])"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "[]"
