"""The command line. Starts fast: a command's module is imported only when it is asked for."""

import importlib
import os
import sys

from tomosift import __version__
from tomosift.cli import COMMANDS
from tomosift.malloc import keep_freed_memory


def overview() -> str:
    """What `tomosift --help` prints."""
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
            "tomosift COMMAND --help shows the options of a command; tomosift --version the version.",
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
    if name != "label":  # a server stays, and should not hold what it does not need
        keep_freed_memory()
    try:
        _run(name, rest)
    except BrokenPipeError:  # the reader of our output has seen enough, as in `tomosift ... | head`
        sys.stderr.close()
        sys.exit(0)
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted; run the same command again to go on where it stopped\n")
        sys.exit(130)
    except (ValueError, RuntimeError, OSError) as error:
        if not _is_for_the_user(error) or "TOMOSIFT_TRACEBACK" in os.environ:
            raise
        _fail(str(error))


def _run(name: str, rest: list[str]) -> None:
    import tyro

    module = importlib.import_module(f"tomosift.cli.{name}")
    command, program = module.command, f"tomosift {name}"
    if isinstance(command, dict):
        tyro.extras.subcommand_cli_from_dict(command, prog=program, description=COMMANDS[name], args=rest)
    else:
        tyro.cli(command, prog=program, description=module.__doc__, args=rest)


def _is_for_the_user(error: Exception) -> bool:
    """Whether the message is a sentence that tells the user what to do, rather than a defect of ours."""
    from tomosift.errors import NonFiniteLossError

    if isinstance(error, OSError):
        return error.filename is not None
    return isinstance(error, NonFiniteLossError | ValueError) and not isinstance(error, UnicodeError)


def _fail(sentence: str) -> None:
    sys.stderr.write(f"tomosift: {sentence}\n")
    sys.exit(2)
