"""Half tomograms beside whole ones: ``X_half1``/``X_half2``, ``X_EVN``/``X_ODD`` (also before ``_Vol``), or files of
one name in subfolders ``even`` and ``odd``.
"""

import re
from collections.abc import Mapping
from pathlib import Path

_FIRST_HALF = ("_half1", "_evn", "_even", "_half_1")
_SECOND_HALF = ("_half2", "_odd", "_odd", "_half_2")
_FOLDERS = ("even", "odd")


def find_half_tomograms(paths: list[Path]) -> dict[Path, tuple[Path, Path]]:
    """Return the half tomograms of each whole one that has both.

    Parameters
    ----------
    paths
        Whole and half tomograms in any order; files in subfolders ``even`` and ``odd`` need not be among them.
    """
    path_of = {(path.parent, path.name.lower()): path for path in paths}
    pairs: dict[Path, tuple[Path, Path]] = {}
    for path in paths:
        folders = tuple(path.parent / folder / path.name for folder in _FOLDERS)
        if all(half.exists() for half in folders):
            pairs[path] = (folders[0], folders[1])
            continue
        lower = path.name.lower()
        core = re.match(r"(.*?)(_vol)?(\.[^.]+(\.gz|\.bz2)?)$", lower)
        if core is None:
            continue
        head, volume, suffix = core[1], core[2] or "", core[3]
        for first, second in zip(_FIRST_HALF, _SECOND_HALF, strict=True):
            one = path_of.get((path.parent, f"{head}{first}{volume}{suffix}"))
            other = path_of.get((path.parent, f"{head}{second}{volume}{suffix}"))
            if one is not None and other is not None:
                pairs[path] = (one, other)
    return pairs


def find_lone_halves(paths: list[Path], pairs: Mapping[Path, tuple[Path, Path]]) -> dict[Path, tuple[Path, Path]]:
    """Return where the whole tomogram would be, and both halves, of each whose whole is not among the paths.

    Parameters
    ----------
    paths
        Whole and half tomograms in any order.
    pairs
        Halves of whole tomograms, as of `find_half_tomograms`.
    """
    used = {half for pair in pairs.values() for half in pair}
    path_of = {(path.parent, path.name.lower()): path for path in paths if path not in used}
    lone: dict[Path, tuple[Path, Path]] = {}
    for path in path_of.values():
        for first, second in zip(_FIRST_HALF, _SECOND_HALF, strict=True):
            head, mark, tail = path.name.lower().rpartition(first)
            if not mark or not re.fullmatch(r"(_vol)?(\.[^.]+(\.gz|\.bz2)?)", tail):
                continue
            other = path_of.get((path.parent, f"{head}{second}{tail}"))
            if other is not None:
                lone[path.with_name(path.name[: len(head)] + tail.removeprefix("_vol"))] = (path, other)
    return lone
