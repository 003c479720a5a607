"""The particle formats, found among the modules of this room, and which of them a file has.

A format is one module that defines ``FORMAT`` (a `Format`), ``read_particles`` and ``write_particles``. Its name is the
module's name and the word on the command line. No other file lists formats: a new module is found, read, written,
detected and named in error messages.
"""

import gzip
import importlib
import pkgutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from types import ModuleType

from tomosift.errors import FormatError
from tomosift.files import check_writable, read_json
from tomosift.io.file_content import GZIP_MAGIC, check_regular, suffix_of

OPENING_BYTES = 65536
_ELSEWHERE = {
    ".cbox": ("boxes of crYOLO, whose positions are corners", "give the .coords that crYOLO writes beside it"),
    ".h5": ("an HDF5 file", "export the picks as CSV or STAR"),
    ".npy": ("a NumPy array", "save the picks as CSV with columns x, y, z"),
    ".mmtf": ("a structure in MMTF", "give it as mmCIF or PDB"),
}
"""Suffixes of other files -> what they are and what to give instead."""


@dataclass(frozen=True)
class Opening:
    """The beginning of a file or folder, from which formats recognize what is theirs."""

    path: Path

    @cached_property
    def text(self) -> str:
        """The first 64 KiB as Latin-1, whatever the encoding; gzip is unpacked, a folder has none."""
        if self.path.is_dir():
            return ""
        with self.path.open("rb") as stream:
            is_gzipped = stream.read(len(GZIP_MAGIC)) == GZIP_MAGIC
        try:
            with gzip.open(self.path) if is_gzipped else self.path.open("rb") as stream:
                return stream.read(OPENING_BYTES).decode("latin-1")
        except (EOFError, OSError) as error:
            got = "cut short or damaged"
            raise FormatError(self.path, "compressed content", got, "a complete gzip file") from error

    @cached_property
    def json_keys(self) -> frozenset[str]:
        """Keys of the JSON object in a ``.json`` file; empty for other JSON values and other files."""
        if self.path.suffix.lower() != ".json":
            return frozenset()
        content = read_json(self.path)
        return frozenset(content) if isinstance(content, dict) else frozenset()


def _recognize_nothing(opening: Opening) -> bool:
    """Recognize no content: the format is known by its suffix alone."""
    return False


@dataclass(frozen=True)
class Format:
    """What a format module declares about itself.

    Attributes
    ----------
    description
        One sentence, from capital letter to period.
    suffixes
        Suffixes of its files, in lower case. A table written under the first one gets this format. A suffix that no
        other format shares decides by itself when a file is read.
    recognizes
        Whether a file or folder is of this format, by its beginning. Called where the suffix does not decide.
    writes_folders
        Whether particles can be written into a folder that exists.
    without_classes
        Suffixes of its files that hold no classes.
    """

    description: str
    suffixes: tuple[str, ...]
    recognizes: Callable[[Opening], bool] = _recognize_nothing
    writes_folders: bool = False
    without_classes: tuple[str, ...] = ()


@cache
def find_formats() -> dict[str, Format]:
    """Return every format by name; the modules of this room are imported on the first call."""
    room = __name__.rpartition(".")[0]
    names = sorted(module.name for module in pkgutil.iter_modules(sys.modules[room].__path__))
    declared = {name: getattr(importlib.import_module(f"{room}.{name}"), "FORMAT", None) for name in names}
    return {name: value for name, value in declared.items() if isinstance(value, Format)}


def formats_by_suffix() -> dict[str, tuple[str, ...]]:
    """Return the names of the formats of each suffix, first the one that is written under it."""
    formats = find_formats()
    suffixes = sorted({suffix for declared in formats.values() for suffix in declared.suffixes})
    shared = {suffix: [name for name in formats if suffix in formats[name].suffixes] for suffix in suffixes}
    return {
        suffix: tuple(sorted(names, key=lambda name: formats[name].suffixes.index(suffix)))
        for suffix, names in shared.items()
    }


def list_suffixes() -> str:
    """Return the known suffixes and their formats, for error messages."""
    return ", ".join(f"{suffix} ({', '.join(names)})" for suffix, names in formats_by_suffix().items())


def load_module(name: str) -> ModuleType:
    """Return the module of a format.

    Raises
    ------
    ValueError
        There is no such format.
    """
    if name not in find_formats():
        raise ValueError(f"particle format is {name!r}, expected one of {', '.join(find_formats())}")
    return importlib.import_module(f"{__name__.rpartition('.')[0]}.{name}")


def detect_format(path: Path) -> str:
    """Return the name of the particle format of a file or folder, by its suffix and else by its content.

    Raises
    ------
    FormatError
        The file is missing or of no particle format.
    """
    if not path.exists():
        raise FormatError(path, "file", "missing", "a particle table", "check the path")
    check_regular(path)
    suffix = suffix_of(path)
    if suffix in _ELSEWHERE:
        got, advice = _ELSEWHERE[suffix]
        raise FormatError(path, "content", got, "a particle table", advice)
    names = () if path.is_dir() else formats_by_suffix().get(suffix_of(path), ())
    if len(names) == 1:
        return names[0]
    opening = Opening(path)
    for name, declared in find_formats().items():
        if declared.recognizes(opening):
            return name
    if path.is_dir():
        raise FormatError(path, "folder", "of no known format", "a copick project", "name the table itself")
    got = f"of an unknown kind ({path.suffix or 'no suffix'})"
    raise FormatError(path, "content", got, list_suffixes())


def format_to_write(path: Path, has_classes: bool = False) -> str:
    """Return the name of the format in which a table of this name is written; the file need not exist.

    Parameters
    ----------
    path
        The file, or the folder of a copick project.
    has_classes
        Particles have classes, so a format that would lose them is refused.

    Raises
    ------
    ValueError
        The suffix belongs to no format, the format holds no classes, or a folder is no project.
    FormatError
        The file cannot be written.
    """
    check_writable(path)
    if path.is_dir():
        opening = Opening(path)
        projects = [name for name, one in find_formats().items() if one.writes_folders and one.recognizes(opening)]
        if not projects:
            example = path / "classified.star"
            raise ValueError(f"{path} is a folder, expected a file such as {example}, or a copick project")
        return projects[0]
    suffix = suffix_of(path)
    names = formats_by_suffix().get(suffix, ())
    if not names:
        raise ValueError(f"{path} has the suffix {suffix!r}, expected {list_suffixes()}")
    if has_classes and suffix in find_formats()[names[0]].without_classes:
        raise ValueError(f"{path}: {suffix} files hold no classes; write .star, .csv or .xml instead")
    return names[0]
