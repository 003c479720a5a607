"""Write docs/reference.md: every option of every command, with its type, default and meaning.

    .venv/bin/python docs/generate/command_reference.py

The options come from the parsers of the commands themselves. `tests/test_docs.py` fails while the page and the commands
differ.
"""

import argparse
import importlib
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import tyro

from tomosift.cli import COMMANDS
from tomosift.cli.usual import prepare_command

PAGE = Path(__file__).resolve().parents[1] / "reference.md"
HEAD = """# Command line

`tomosift COMMAND --help` shows the usual options of a command, `--help-all` all of them. This page lists them all; it
is written by `docs/generate/command_reference.py`.

An option with several values takes them after one name, as in `--tilt-range -60 60`. `None` as a value stands for
"not given". An option `--name` that is on or off has the opposite `--no-name`.
"""
_ENDING = re.compile(r"\s*\((?:(required)|default: (.*)|repeatable)\)$")


def list_commands() -> Iterator[tuple[str, Callable[..., None]]]:
    """Yield the words of each command and the function behind them, subcommands in the place of their command."""
    for name in COMMANDS:
        command = importlib.import_module(f"tomosift.cli.{name}").command
        if isinstance(command, dict):
            yield from ((f"{name} {word}", function) for word, function in command.items())
        else:
            yield name, command


def read_parser(command: Callable[..., None]) -> argparse.ArgumentParser:
    """Return the parser of a command with every option."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # tyro keeps get_parser until version 2
        return tyro.extras.get_parser(prepare_command(command, "full"))


def format_option(action: argparse.Action) -> str:
    """Return the row of an option: name, type, default and meaning."""
    text = " ".join((action.help or "").split())
    ending = _ENDING.search(text)
    meaning = text[: ending.start()] if ending else text
    default = "required" if action.required else f"`{ending[2]}`" if ending and ending[2] else ""
    kind = "on or off" if action.nargs == 0 else str(action.metavar).replace("{None}|", "")
    name = action.option_strings[0] if action.option_strings else str(action.metavar)
    kind = "" if name == kind else f"`{kind}`" if kind != "on or off" else kind
    cells = [f"`{name}`", kind, default, meaning]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def render_command(words: str, command: Callable[..., None]) -> str:
    """Return the section of a command."""
    parser = read_parser(command)
    actions = [action for action in parser._actions if action.dest != "help"]
    rows = ["| option | type | default | meaning |", "|---|---|---|---|", *map(format_option, actions)]
    parts = [f"## {words}", parser.description or "", *(["\n".join(rows)] if actions else [])]
    return "\n\n".join(parts)


def render_page() -> str:
    """Return the whole page."""
    return "\n\n".join([HEAD.rstrip(), *(render_command(*one) for one in list_commands())]) + "\n"


def main() -> None:
    """Write the page."""
    PAGE.write_text(render_page())
    print(PAGE)


if __name__ == "__main__":
    main()
