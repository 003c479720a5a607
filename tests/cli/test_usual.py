"""Names of options, and what the two help pages show."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import pytest
import tyro

from tomosift.cli import COMMANDS
from tomosift.cli.main import main
from tomosift.cli.options import OPTION_NAMES
from tomosift.cli.usual import HINT, HelpPage, prepare_command, usual_options


@dataclass(frozen=True)
class Settings:
    """Settings of an example."""

    init: Path | None = None
    """Model to start from."""
    rate: float = 0.5
    """Learning rate."""
    names: list[str] = field(default_factory=list)
    """Some names."""


CALLS: list[tuple[object, ...]] = []


@usual_options("seed", "settings.init")
def command(
    out: Path,
    settings: Annotated[Settings, tyro.conf.arg(name="")] = Settings(rate=0.25),
    seed: int = 0,
    shard: int = 1,
) -> None:
    """Do something
    in two lines.

    Args:
        out: Folder that
            is written.
        seed: Seed.
        shard: Part.
    """
    CALLS.append((out, settings, seed, shard))


def read_page(help_page: HelpPage, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as end:
        tyro.cli(prepare_command(command, help_page), args=["--help"])
    assert end.value.code == 0
    return capsys.readouterr().out


def list_options(page: str) -> set[str]:
    return set(re.findall(r"(?<!\S)--[a-z][\w.-]*\w", page)) - {"--help", "--help-all"}


def test_short_page_shows_required_and_usual_options(capsys: pytest.CaptureFixture[str]) -> None:
    page = read_page("short", capsys)
    assert list_options(page) == {"--out", "--seed", "--model"}
    assert HINT in page


def test_full_page_shows_every_option_and_paragraphs_as_lines(capsys: pytest.CaptureFixture[str]) -> None:
    page = read_page("full", capsys)
    assert list_options(page) == {"--out", "--seed", "--shard", "--model", "--rate", "--names"}
    assert HINT not in page
    assert "Do something in two lines." in page
    assert "Folder that is written. (required)" in " ".join(page.split())


def test_command_gets_settings_of_the_original_type_with_their_defaults(tmp_path: Path) -> None:
    CALLS.clear()
    tyro.cli(prepare_command(command), args=["--out", str(tmp_path)])
    tyro.cli(prepare_command(command), args=["--out", str(tmp_path), "--model", "run", "--names", "a", "--seed", "2"])
    assert [
        (tmp_path, Settings(rate=0.25), 0, 1),
        (tmp_path, Settings(Path("run"), 0.25, ["a"]), 2, 1),
    ] == CALLS
    assert all(type(call[1]) is Settings for call in CALLS)


def test_command_without_usual_options_has_one_page(capsys: pytest.CaptureFixture[str]) -> None:
    def plain(out: str, seed: int = 0) -> None:
        """Do something."""

    with pytest.raises(SystemExit):
        tyro.cli(prepare_command(plain, "short"), args=["--help"])
    page = capsys.readouterr().out
    assert list_options(page) == {"--out", "--seed"}
    assert HINT not in page


def test_options_of_settings_have_the_names_of_the_other_commands() -> None:
    assert OPTION_NAMES["init"] == "model"
    assert OPTION_NAMES["classes"] == "structures"


@pytest.mark.parametrize("name", ["sort", "extract", "scan", "identify", "check", "adapt"])
def test_help_shows_about_ten_options_and_help_all_the_others(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    pages = []
    for word in ("--help", "--help-all"):
        with pytest.raises(SystemExit):
            main([name, word])
        pages.append(capsys.readouterr().out)
    short, full = (list_options(page) for page in pages)
    assert short < full
    assert len({option for option in short if not option.startswith("--no-")}) <= 11
    assert f"usage: tomosift {name} [-h] [OPTIONS] " in pages[0]
    assert "PATH" not in pages[0].splitlines()[0]
    assert name in COMMANDS
