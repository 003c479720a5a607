"""The command line. It starts fast: the module of a command is imported only when the command is called."""

import importlib
import os
import sys
from typing import TYPE_CHECKING

from tomosift import __version__
from tomosift.cli import COMMANDS
from tomosift.errors import escape_controls
from tomosift.malloc import keep_freed_memory

if TYPE_CHECKING:
    from tomosift.cli.usual import HelpPage


def overview() -> str:
    """The text of `tomosift --help`."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {sentence}" for name, sentence in COMMANDS.items()]
    return "\n".join(
        [
            "usage: tomosift COMMAND [OPTIONS]",
            "",
            "Says what each particle of a cryo-electron tomogram is, from a handful of labels.",
            "",
            "commands:",
            *lines,
            "",
            "tomosift COMMAND --help shows the usual options of a command, --help-all every option; tomosift --version",
            "shows the version.",
        ]
    )


def main(arguments: list[str] | None = None) -> None:
    """Run a command. Exit codes: 0 done, 2 bad input (one sentence on stderr), 130 interrupted.

    Setting the environment variable TOMOSIFT_TRACEBACK shows the full traceback of an error as well.
    """
    words = sys.argv[1:] if arguments is None else arguments
    if not words or words[0] in {"-h", "--help", "help"}:
        sys.stdout.write(overview() + "\n")
        return
    if words[0] == "--version":
        sys.stdout.write(f"tomosift {__version__}\n")
        return
    name, rest = words[0], words[1:]
    if name not in COMMANDS:
        _fail(f"there is no command {name!r}; commands are {', '.join(COMMANDS)}")
    if name != "label":  # a server runs for long and should not hold memory that it does not need
        keep_freed_memory()
    try:
        _run(name, rest)
    except BrokenPipeError:  # the reader of our output has closed it, as in `tomosift ... | head`
        sys.stderr.close()
        sys.exit(0)
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted; run the same command again to resume\n")
        sys.exit(130)
    except MemoryError:
        _fail("there is not enough memory for this; use smaller boxes, or fewer workers")
    except (ValueError, RuntimeError, OSError) as error:
        if not _is_for_the_user(error) or "TOMOSIFT_TRACEBACK" in os.environ:
            raise
        _fail(str(error))


def _run(name: str, rest: list[str]) -> None:
    import tyro

    from tomosift.cli.usual import prepare_command

    command = importlib.import_module(f"tomosift.cli.{name}").command
    page = _requested_page(rest)
    if page == "full":
        rest = ["--help" if word == "--help-all" else word for word in rest]
    program = f"tomosift {name}"
    if isinstance(command, dict):
        commands = {word: prepare_command(one, page) for word, one in command.items()}
        tyro.extras.subcommand_cli_from_dict(commands, prog=program, description=COMMANDS[name], args=rest)
    else:
        tyro.cli(prepare_command(command, page), prog=program, args=rest)


def _requested_page(words: list[str]) -> "HelpPage":
    words = words[: words.index("--")] if "--" in words else words
    if "--help-all" in words:
        return "full"
    return "short" if {"--help", "-h"} & set(words) else "none"


def _is_for_the_user(error: Exception) -> bool:
    """Whether the message is a sentence that tells the user what to do, rather than a defect of the program."""
    from tomosift.errors import NonFiniteLossError

    if isinstance(error, OSError):
        return error.filename is not None
    return isinstance(error, NonFiniteLossError | ValueError) and not isinstance(error, UnicodeError)


def _fail(sentence: str) -> None:
    sys.stderr.write(f"tomosift: {escape_controls(sentence)}\n")
    sys.exit(2)
