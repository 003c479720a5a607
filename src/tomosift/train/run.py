"""The folder of a run: what was asked, where it was asked, what happened, and what came of it.

::

    config.json        method, its configuration, seed and the data it was given
    environment.json   versions of everything that can change a number
    log.jsonl          one line per logged step or event
    checkpoint.safetensors   the newest state to resume from; replaced, never edited
    rehearsal/         where a method trains twice: log and checkpoint of the first time
    result/            what the method hands over; complete or absent
"""

import json
import platform
import sys
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from tomosift import __version__
from tomosift.errors import FormatError
from tomosift.files import write_json
from tomosift.train.processes import is_first, run_on_first

_MAY_DIFFER = ("init", "path", "devices", "nodes")
_PACKAGES = ("torch", "numpy", "scipy", "lightning-fabric", "safetensors", "scikit-learn", "torch-ctf")


@dataclass(frozen=True)
class Run:
    """An open run folder. Of several processes that train together, only the first one writes into it."""

    folder: Path

    @classmethod
    def open(cls, folder: Path, config: dict[str, Any]) -> "Run":
        """Make the folder, or reopen it to resume.

        Entries named ``init`` or ``path`` say where things lay, and may differ; what they are is told by digests. So
        may ``devices`` and ``nodes``: a run goes on with another number of processes.

        Raises
        ------
        FormatError
            When the folder holds a run with another configuration, or is no run at all: its files are left alone.
        """
        run_on_first(lambda: _make(folder, config))
        return cls(folder)

    @property
    def checkpoint(self) -> Path:
        """File of the newest checkpoint, which may not exist yet."""
        return self.folder / "checkpoint.safetensors"

    @property
    def result(self) -> Path:
        """Folder of the result, which exists only when the run is finished."""
        return self.folder / "result"

    def within(self, name: str) -> "Run":
        """A part of this run with a log and a checkpoint of its own, in a folder below."""
        (self.folder / name).mkdir(exist_ok=True)
        return Run(self.folder / name)

    def abandon(self) -> None:
        """Remove a run in which nothing was trained, so that its folder is free for a corrected request."""
        if not is_first():
            return
        for name in ("config.json", "environment.json", "log.jsonl", "seen.json"):
            (self.folder / name).unlink(missing_ok=True)
        if not any(self.folder.iterdir()):
            self.folder.rmdir()

    def write(self, name: str, value: Any) -> None:
        """Write a JSON file of this name."""
        if is_first():
            write_json(self.folder / name, value)

    def log(self, **entry: Any) -> None:
        """Append one line to the log."""
        if not is_first():
            return
        with (self.folder / "log.jsonl").open("a") as stream:
            stream.write(json.dumps({"time": round(time.time(), 3), **entry}) + "\n")


def _make(folder: Path, config: dict[str, Any]) -> None:
    path = folder / "config.json"
    wanted = json.loads(json.dumps(config))
    if path.exists():
        found = read_json(path)
        before, now = _without_what_may_differ(found), _without_what_may_differ(wanted)
        differing = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
        if differing:
            key = differing[0]
            first = _first_difference(before.get(key), now.get(key))
            raise FormatError(
                path,
                key,
                _short(first[0]),
                f"{_short(first[1])} as asked now",
                "give another --out, or ask for the same configuration to resume this run",
            )
    elif folder.exists() and any(folder.iterdir()):
        raise FormatError(folder, "folder", "not empty and not a run", "a new or empty folder", "give another --out")
    else:
        write_json(path, wanted)
    write_json(folder / "environment.json", environment())


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises
    ------
    FormatError
        When the file is missing or is not a JSON object.
    """
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError:
        raise FormatError(path, "file", "missing", "a JSON file", "check the path of the run") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise FormatError(path, "content", f"not JSON ({error})", "a JSON object") from None
    if not isinstance(value, dict):
        raise FormatError(path, "content", f"a JSON {type(value).__name__}", "a JSON object")
    return value


def environment() -> dict[str, Any]:
    """Versions and machine facts that can change a number."""
    return {
        "tomosift": __version__,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "packages": {name: metadata.version(name) for name in _PACKAGES},
        "threads": torch.get_num_threads(),
        "cuda": torch.version.cuda if torch.cuda.is_available() else None,
        "devices": [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())],
    }


def _without_what_may_differ(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_what_may_differ(entry) for key, entry in value.items() if key not in _MAY_DIFFER}
    return value


def _first_difference(found: Any, wanted: Any, name: str = "") -> tuple[str, str]:
    """The innermost differing entry of two JSON values, as text."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in {*found, *wanted}:
            if found.get(key) != wanted.get(key):
                return _first_difference(found.get(key), wanted.get(key), f"{name}{key} = ")
    return f"{name}{found}", f"{name}{wanted}"


def _short(text: str) -> str:
    return text if len(text) <= 100 else text[:97] + "..."
