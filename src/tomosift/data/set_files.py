"""The files of a set of subtomograms.

A set is a folder of plain files that other tools read too::

    boxes-00000.npy      (up to 4096, d, d, d) float16, each subtomogram of zero mean and unit variance
    halves-00000.npy     (up to 4096, 2, d, d, d) the same particles from the two half tomograms; optional
    masks-00000.npy      (up to 4096, d, d, d) uint8, 1 where a voxel belongs to the particle; optional
    particles.parquet    one row per particle; `stored` is the row of its subtomogram in the concatenated shards
    set.json             the description of the set; written last, so a folder without it is unfinished

Subtomograms are stored in the order in which they were cut; the table has the order of the extracted particles.
"""

import json
from pathlib import Path
from typing import Any

from tomosift.errors import FormatError
from tomosift.files import write_json

FORMAT_VERSION = 1
SET_FILE = "set.json"
PARTICLE_FILE = "particles.parquet"
REQUEST_FILE = "begun.json"
"""The request behind an unfinished set."""


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
    try:
        earlier = json.loads(file.read_text())
    except ValueError as error:
        raise FormatError(file, "its content", "unreadable", "JSON", "empty the folder") from error
    if earlier != request:
        differing = sorted(key for key in request if earlier.get(key) != request[key])
        raise ValueError(
            f"{path} holds the beginning of a different set (other {', '.join(differing)}); "
            "run the command that began it to resume, or choose another folder"
        )


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
        description = json.loads(file.read_text())
        version = description["format_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError(file, "its content", "unreadable", "the JSON of a set", "make the set again") from error
    if version != FORMAT_VERSION:
        advice = "update tomosift" if isinstance(version, int) and version > FORMAT_VERSION else "make the set again"
        raise FormatError(file, "format_version", str(version), str(FORMAT_VERSION), advice)
    return dict(description)
