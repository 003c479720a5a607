"""The folder of a run: its configuration, its environment, its log and its result.

::

    config.json        method, its configuration, seed and digests of its data
    environment.json   versions of everything that can change a number
    log.jsonl          one line per logged step or event
    checkpoint.safetensors   the newest state to resume from; replaced, never edited
    STAGE/             log and checkpoint of a stage, where a method trains more than once
    result/            the trained model; complete or absent
"""

import json
import platform
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from tomosift import __version__, files
from tomosift.errors import FormatError
from tomosift.files import write_json
from tomosift.train.config import NO_RENAMED_FIELDS, NO_RENAMED_VALUES, rename_fields
from tomosift.train.processes import is_first_process, run_on_first

_MAY_DIFFER = ("init", "path", "devices", "nodes")
_PACKAGES = ("torch", "numpy", "scipy", "lightning-fabric", "safetensors", "scikit-learn", "torch-ctf")


@dataclass(frozen=True)
class Run:
    """An open run folder. When several processes train together, only the first one writes into it.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import mkdtemp
    >>> from tomosift.train.run import Run
    >>> run = Run.open(Path(mkdtemp()) / "run", {"method": "supervised", "seed": 1})
    >>> run.log(event="labels", training=20)
    >>> sorted(path.name for path in run.folder.iterdir())
    ['config.json', 'environment.json', 'log.jsonl']
    """

    folder: Path

    @classmethod
    def open(
        cls,
        folder: Path,
        config: dict[str, Any],
        renamed: Mapping[str, str] = NO_RENAMED_FIELDS,
        renamed_values: Mapping[str, Mapping[str, Any]] = NO_RENAMED_VALUES,
    ) -> "Run":
        """Create the folder, or reopen it to resume the run.

        Entries named ``init`` or ``path`` are locations and may differ: digests identify their contents. ``devices``
        and ``nodes`` may differ as well: a run resumes with any number of processes.

        Parameters
        ----------
        folder
            Folder of the run. It is created with its parents.
        config
            Configuration of the run; any JSON object.
        renamed, renamed_values
            New names of entries of ``config`` and of their values, as for `tomosift.train.config.rename_fields`. The
            stored configuration of an earlier version is compared under the new names; the file stays as it is.

        Raises
        ------
        FormatError
            When the folder holds a run with another configuration, or is no run at all. Its files are left alone.

        Examples
        --------
        >>> from pathlib import Path
        >>> from tempfile import mkdtemp
        >>> from tomosift.train.run import Run
        >>> folder = Path(mkdtemp()) / "run"
        >>> run = Run.open(folder, {"config": {"epochs": 5}})
        >>> Run.open(folder, {"config": {"steps": 5}}, renamed={"config.epochs": "config.steps"}) == run
        True
        """
        run_on_first(lambda: _create_or_check(folder, config, renamed, renamed_values))
        return cls(folder)

    @property
    def checkpoint(self) -> Path:
        """File of the newest checkpoint, which may not exist yet."""
        return self.folder / "checkpoint.safetensors"

    @property
    def result(self) -> Path:
        """Folder of the result, which exists only when the run is finished."""
        return self.folder / "result"

    def open_stage(self, name: str) -> "Run":
        """Open a stage of this run: a subfolder with its own log and checkpoint."""
        (self.folder / name).mkdir(exist_ok=True)
        return Run(self.folder / name)

    def abandon(self) -> None:
        """Remove a run in which nothing was trained, so that its folder is free for a corrected request."""
        if not is_first_process():
            return
        for name in ("config.json", "environment.json", "log.jsonl", "seen.json"):
            (self.folder / name).unlink(missing_ok=True)
        if not any(self.folder.iterdir()):
            self.folder.rmdir()

    def write(self, name: str, value: Any) -> None:
        """Write a JSON file of this name into the folder."""
        if is_first_process():
            write_json(self.folder / name, value)

    def log(self, **entry: Any) -> None:
        """Append one line to the log, with the time in seconds since 1970.

        ``event`` is a short machine-readable key in snake_case; whatever belongs to the event goes into other fields.
        """
        if not is_first_process():
            return
        with (self.folder / "log.jsonl").open("a") as stream:
            stream.write(json.dumps({"time": round(time.time(), 3), **entry}) + "\n")


def _create_or_check(
    folder: Path, config: dict[str, Any], renamed: Mapping[str, str], renamed_values: Mapping[str, Mapping[str, Any]]
) -> None:
    """Write the configuration into a new folder, or compare it with the stored one; write the environment."""
    path = folder / "config.json"
    requested = json.loads(json.dumps(config))
    if path.exists():
        _require_same(path, rename_fields(read_json(path), renamed, renamed_values), requested)
    elif folder.exists() and any(folder.iterdir()):
        raise FormatError(folder, "folder", "not empty and not a run", "a new or empty folder", "give another --out")
    else:
        write_json(path, requested)
    write_json(folder / "environment.json", environment())


def _require_same(path: Path, stored: dict[str, Any], requested: dict[str, Any]) -> None:
    """Raise FormatError with the first difference, if the stored configuration is not the requested one."""
    before, now = _drop_what_may_differ(stored), _drop_what_may_differ(requested)
    differing = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
    if differing:
        key = differing[0]
        first = _first_difference(before.get(key), now.get(key))
        raise FormatError(
            path,
            key,
            _shorten(first[0]),
            f"{_shorten(first[1])} as requested now",
            "give another --out, or request the same configuration to resume this run",
        )


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file.

    Raises
    ------
    FormatError
        When the file is missing or is not a JSON object.
    """
    value = files.read_json(path)
    if not isinstance(value, dict):
        raise FormatError(path, "content", f"a JSON {type(value).__name__}", "a JSON object")
    return value


def environment() -> dict[str, Any]:
    """Return versions and machine facts that can change a number."""
    return {
        "tomosift": __version__,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "packages": {name: metadata.version(name) for name in _PACKAGES},
        "threads": torch.get_num_threads(),
        "cuda": torch.version.cuda if torch.cuda.is_available() else None,
        "devices": [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())],
    }


def _drop_what_may_differ(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _drop_what_may_differ(entry) for key, entry in value.items() if key not in _MAY_DIFFER}
    return value


def _first_difference(stored: Any, requested: Any, name: str = "") -> tuple[str, str]:
    """Return the innermost differing entry of two JSON values, as text."""
    if isinstance(stored, dict) and isinstance(requested, dict):
        for key in {*stored, *requested}:
            if stored.get(key) != requested.get(key):
                return _first_difference(stored.get(key), requested.get(key), f"{name}{key} = ")
    return f"{name}{stored}", f"{name}{requested}"


def _shorten(text: str) -> str:
    return text if len(text) <= 100 else text[:97] + "..."
