"""Tomograms of one name in several folders, or in the tables of several jobs: keys that tell them apart."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tomosift.data.extraction.tomograms import Tomogram
from tomosift.io.tomogram_names import match_names
from tomosift.io.tomogram_tables import TomogramEntry


def name_files(paths: Sequence[Path]) -> dict[Path, str]:
    """Return the stem of each file; files of one stem have as many folders in front as tell them apart."""
    same: dict[str, list[Path]] = {}
    for path in paths:
        same.setdefault(_stem(path), []).append(path)
    return {path: key for stem, files in same.items() for path, key in _tell_apart(stem, files).items()}


def join_tables(tables: Mapping[Path, Mapping[str, TomogramEntry]]) -> dict[str, TomogramEntry]:
    """Return the tomograms of several tables.

    Tables about one volume complete each other, the first before the others. Different volumes of one name have the
    folders of their tables in front: ``job010/TS_01``.

    Raises
    ------
    ValueError
        Two tables of one folder name different volumes of one tomogram.
    """
    tables_of: dict[str, list[Path]] = {}
    for table, entries in tables.items():
        for name in entries:
            tables_of.setdefault(name, []).append(table)
    joined: dict[str, TomogramEntry] = {}
    for name, files in tables_of.items():
        with_volume = [table for table in files if _volume(tables[table][name]) is not None]
        if len({_volume(tables[table][name]) for table in with_volume}) < 2:
            order = [*with_volume, *(table for table in files if table not in with_volume)]
            joined[name] = _complete([tables[table][name] for table in order])
            continue
        keys = _tell_apart(name, with_volume)
        if len(set(keys.values())) < len(keys):
            one, other = with_volume[:2]
            raise ValueError(f"{one} and {other} name different volumes of tomogram {name!r}; give one of the tables")
        joined |= {key: tables[table][name] for table, key in keys.items()}
    return joined


def find_entries(tomograms: Mapping[str, Tomogram], entries: Mapping[str, TomogramEntry]) -> dict[str, TomogramEntry]:
    """Return what the tables say about each tomogram, by its key.

    An entry that several files of one name fit is about the file that it names, and about none without one.
    """
    volumes = {name: _volume(entry) for name, entry in entries.items()}
    aliases = {name: [] if volume is None else [str(volume)] for name, volume in volumes.items()}
    key_of = match_names(tomograms, aliases).key_of
    files: dict[tuple[str, str], set[Path]] = {}
    for key, name in key_of.items():
        files.setdefault((name, tomograms[key].path.name), set()).add(tomograms[key].path.resolve())
    return {
        key: entries[name]
        for key, name in key_of.items()
        if len(files[name, tomograms[key].path.name]) == 1 or tomograms[key].path.resolve() == volumes[name]
    }


def _volume(entry: TomogramEntry) -> Path | None:
    path = entry.path or (entry.half_paths[0] if entry.half_paths else None)
    return None if path is None else path.resolve()


def _complete(entries: Sequence[TomogramEntry]) -> TomogramEntry:
    """The first entry with what only others state."""
    first, *others = entries
    for other in others:
        acquisition = first.acquisition or other.acquisition
        first = replace(
            first, grid=first.grid or other.grid, acquisition=acquisition, notes=(*first.notes, *other.notes)
        )
    return first


def _tell_apart(name: str, paths: Sequence[Path]) -> dict[Path, str]:
    """The name with as many folders in front as make it unique, none where that is not possible."""
    folders = [path.absolute().parent.parts for path in paths]
    depth = next((k for k in range(max(map(len, folders)) + 1) if _differ(folders, k)), 0)
    return {
        path: "/".join([*(parts[-depth:] if depth else ()), name])
        for path, parts in zip(paths, folders, strict=True)
    }  # fmt: skip


def _differ(folders: Sequence[tuple[str, ...]], depth: int) -> bool:
    return len({parts[-depth:] if depth else () for parts in folders}) == len(folders)


def _stem(path: Path) -> str:
    name = path.with_suffix("") if path.suffix.lower() in (".gz", ".bz2") else path
    return name.stem
