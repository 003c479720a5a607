"""The files of a set of subtomograms.

A set is a folder of plain files that other tools read too::

    boxes-00000.npy      (up to 4096, d, d, d) float16, each subtomogram of zero mean and unit variance
    halves-00000.npy     (up to 4096, 2, d, d, d) the same particles from the two half tomograms; optional
    masks-00000.npy      (up to 4096, d, d, d) uint8, 1 where a voxel belongs to the particle; optional
    particles.parquet    one row per particle; `stored` is the row of its subtomogram in the concatenated shards
    set.json             the description of the set; written last, so a folder without it is unfinished

Subtomograms are stored in the order in which they were cut; the table has the order of the extracted particles.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tomosift.errors import FormatError
from tomosift.files import read_json, write_json

FORMAT_VERSION = 1
SET_FILE = "set.json"
PARTICLE_FILE = "particles.parquet"
REQUEST_FILE = "begun.json"
"""The request behind an unfinished set."""
PARTS = "parts"
"""Folder below the set that holds the sets of single tomograms until all are finished."""


def shard_name(number: int) -> str:
    """Return the name of a shard of subtomograms."""
    return f"boxes-{number:05d}.npy"


def half_name(name: str) -> str:
    """Return the name of the shard of half boxes beside a shard of subtomograms."""
    return name.replace("boxes-", "halves-")


def mask_name(name: str) -> str:
    """Return the name of the shard of masks beside a shard of subtomograms."""
    return name.replace("boxes-", "masks-")


def table_name(name: str) -> str:
    """Return the name of the particle table that lies beside a shard until the set is finished."""
    return name.replace(".npy", ".parquet")


def begin_set(path: Path, request: dict[str, Any]) -> None:
    """Make the folder of a set and write its request, or check that the folder was begun with the same request.

    Raises
    ------
    ValueError
        The folder holds a finished set, or the beginning of a different one.
    FormatError
        The folder holds shards without a readable request.
    """
    if (path / SET_FILE).exists():
        raise ValueError(f"{path} already holds a finished set; choose another folder or remove it first")
    path.mkdir(parents=True, exist_ok=True)
    file = path / REQUEST_FILE
    if not file.exists():
        if any(path.glob("boxes-*.npy")):
            raise FormatError(file, "the file", "missing", "the request behind these boxes", "empty the folder")
        write_json(file, request)
    earlier = read_json(file, "empty the folder")
    if not isinstance(earlier, dict):
        raise FormatError(file, "its content", "no JSON object", "the request of a set", "empty the folder")
    recorded = {**earlier, **earlier.get("provenance", {})}
    if differences := list_differences(recorded, {**request, **request["provenance"]}):
        raise ValueError(
            f"{path} holds the beginning of a different set ({', '.join(differences)}); "
            "run the command that began it to resume, or choose another folder, or --remake"
        )


def list_differences(earlier: Mapping[str, Any], request: Mapping[str, Any]) -> list[str]:
    """Return what differs between the record of a set and a request for one; empty where the set is the answer.

    The version of the program does not matter, and of a tomogram only what the record states: sets of earlier versions
    state less.

    Examples
    --------
    >>> from tomosift.data.set_files import list_differences
    >>> list_differences({"box_size": 16, "version": "0.1"}, {"box_size": 32, "version": "0.2"})
    ['box_size was 16, is 32']
    """
    differences = []
    for key, value in request.items():
        if key == "tomograms" and isinstance(earlier.get(key), dict):
            differences += _compare_tomograms(earlier[key], value)
        elif key not in ("version", "provenance") and earlier.get(key) != value:
            if key == "content" and key not in earlier:
                continue
            is_digest = key in ("particles", "tilt_ranges", "content")
            differences.append(
                f"other {key.replace('_', ' ')}" if is_digest else f"{key} was {earlier.get(key)}, is {value}"
            )
    return differences


def _compare_tomograms(earlier: Mapping[str, Any], request: Mapping[str, Any]) -> list[str]:
    if set(earlier) != set(request):
        changed = sorted(set(earlier) ^ set(request))
        return [f"other tomograms ({', '.join(changed[:4])})"]
    differences = []
    for name, entry in request.items():
        fields = [key for key, value in entry.items() if key in earlier[name] and earlier[name][key] != value]
        if "content" in fields:
            differences.append(f"tomogram {name} was replaced by another file content")
        elif fields:
            listed = [f"{key} was {earlier[name][key]}, is {entry[key]}" for key in fields]
            differences.append(f"tomogram {name}: {', '.join(listed)}")
    return differences[:4]


def remove_set(path: Path) -> None:
    """Remove the files of a set, finished or not, and no others."""
    names = (SET_FILE, PARTICLE_FILE, REQUEST_FILE, "dropped.csv")
    patterns = ("boxes-?????.npy", "halves-?????.npy", "masks-?????.npy", "boxes-?????.parquet", ".boxes-*.part")
    files = [path / name for name in names] + [file for pattern in patterns for file in path.glob(pattern)]
    for file in files:
        file.unlink(missing_ok=True)
    shutil.rmtree(path / PARTS, ignore_errors=True)


def read_set_file(path: Path) -> dict[str, Any]:
    """Return the content of ``set.json`` in the folder ``path``.

    Raises
    ------
    FormatError
        The folder holds no finished set, or one of a later format.
    """
    file = path / SET_FILE
    if not path.is_dir():
        raise FormatError(path, "the set", "no folder", "a folder made by extraction", "check the path")
    if not file.exists():
        if any(path.glob("boxes-*.npy")) or any(path.glob(".boxes-*.npy.part")):
            advice = "extraction did not finish; run the same command again to resume"
            raise FormatError(path, SET_FILE, "missing", "a finished set", advice)
        raise FormatError(
            path, SET_FILE, "missing", "a set of subtomograms", "extract particles into this folder first"
        )
    try:
        description = read_json(file, "make the set again")
        version = description["format_version"]
    except (KeyError, TypeError) as error:
        raise FormatError(file, "its content", "unreadable", "the JSON of a set", "make the set again") from error
    if version != FORMAT_VERSION:
        advice = "update tomosift" if isinstance(version, int) and version > FORMAT_VERSION else "make the set again"
        raise FormatError(file, "format_version", str(version), str(FORMAT_VERSION), advice)
    return dict(description)
