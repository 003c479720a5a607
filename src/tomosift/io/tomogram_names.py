"""Which tomogram a name means: the one rule by which particles, labels, masks and tilt series find their tomogram.

Programs call one tomogram ``TS_01``, ``TS_01_rec.mrc``, ``TS_01.tomostar`` or ``reconstruction/TS_01_10.00Apx.mrc``.
Two names mean the same tomogram if they are equal after what programs add is removed (`canonical_name`). Upper and
lower case differ, and nothing else is cut off: ``lamella_5.1`` and ``lamella_5.2`` are two tomograms. Of several
candidates

1. the one of the same name comes first, then the one whose file has that name but for its suffix,
2. then the one whose folders agree with those of the name: ``grid2/TS_01`` is ``/data/grid2/TS_01.mrc``,
3. and otherwise the name is ambiguous, which is refused.

Folders of a name that has one candidate only may differ, for tables name files where they once were. That is reported,
and two names that differ in their folders alone never mean one tomogram.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tomosift.io.volumes import VOLUME_SUFFIXES

_SUFFIXES = (*VOLUME_SUFFIXES, ".tomostar", ".star", ".xml", ".mdoc", ".gz", ".bz2")
_PREFIXES = ("rec_",)
_TRAILERS = re.compile(r"(_\d+(\.\d+)?apx|_rec|_vol|_bin\d+)$", re.IGNORECASE)


def canonical_name(name: str) -> str:
    """Return a tomogram's name without folders and without what programs add to it.

    Removes suffixes of volumes and frame series, ``rec_`` before and ``_10.00Apx``, ``_rec``, ``_Vol``, ``_bin4`` after
    the name.

    Examples
    --------
    >>> from tomosift.io.tomogram_names import canonical_name
    >>> canonical_name("reconstruction/TS_01_10.00Apx.mrc"), canonical_name("rec_TS_01.mrc")
    ('TS_01', 'TS_01')
    """
    left = _split(name)[-1]
    while True:
        before = left
        left = _without_suffixes(left)
        for prefix in _PREFIXES:
            if left.lower().startswith(prefix) and len(left) > len(prefix):
                left = left[len(prefix) :]
        left = _TRAILERS.sub("", left) or left
        if left == before:
            return left


@dataclass(frozen=True)
class NameMatch:
    """Which tomogram each name means."""

    key_of: dict[str, str]
    """Name -> key of its tomogram."""
    missing: list[str]
    """Names without a tomogram."""
    ambiguous: dict[str, list[str]]
    """Names that fit several tomograms, or none better than another name does, with the candidates."""
    other_folders: dict[str, str] = field(default_factory=dict)
    """Names whose folders are not those of their tomogram -> that tomogram."""

    def describe_fault(self, known: Sequence[str], owner: str = "the particles") -> str:
        """Return the sentence about names without one tomogram; empty where each has one."""
        total = len(self.key_of) + len(self.missing) + len(self.ambiguous)
        if self.ambiguous:
            name, keys = next(iter(self.ambiguous.items()))
            return (
                f"{len(self.ambiguous)} of {total} tomogram names of {owner} are ambiguous, for example {name!r} fits "
                f"{_join(keys)}; give each tomogram once, and put its folder before the name where two have the same"
            )
        if self.missing:
            return (
                f"{len(self.missing)} of {total} tomogram names of {owner} have no tomogram: {_join(self.missing)}; "
                f"the tomograms are {_join(known) or 'none'}; rename one side or give the missing tomograms"
            )
        return ""

    def describe_folders(self) -> str:
        """Return the sentence about names that were matched although their folders differ; empty without any."""
        if not self.other_folders:
            return ""
        name, key = next(iter(self.other_folders.items()))
        return (
            f"note: {len(self.other_folders)} tomogram names have other folders than the tomograms; they were matched "
            f"by file name, for example {name!r} is {key!r}"
        )


def match_names(names: Iterable[str], known: Mapping[str, Sequence[str]]) -> NameMatch:
    """Find the tomogram that each name means, by the rule of this module.

    Parameters
    ----------
    names
        Names to look up, as files have them.
    known
        Key of each tomogram -> its other names, such as the path of its volume.

    Examples
    --------
    >>> from tomosift.io.tomogram_names import match_names
    >>> known = {"TS_01": ["/data/TS_01_rec.mrc"], "lamella_5.1": []}
    >>> match = match_names(["TS_01.tomostar", "lamella_5.2"], known)
    >>> match.key_of, match.missing
    ({'TS_01.tomostar': 'TS_01'}, ['lamella_5.2'])
    """
    names = list(dict.fromkeys(map(str, names)))
    by_core: dict[str, list[str]] = defaultdict(list)
    aliases = {key: list(dict.fromkeys([key, *others])) for key, others in known.items()}
    for key, listed in aliases.items():
        for core in {canonical_name(alias) for alias in listed}:
            by_core[core].append(key)
    match = NameMatch({}, [], {})
    for name in names:
        candidates = _choose(name, by_core.get(canonical_name(name), []), aliases)
        if len(candidates) == 1:
            match.key_of[name] = candidates[0]
        elif candidates:
            match.ambiguous[name] = candidates
        else:
            match.missing.append(name)
    _compare_folders(match, aliases)
    return match


def _choose(name: str, candidates: list[str], aliases: Mapping[str, Sequence[str]]) -> list[str]:
    """The candidates that fit best: one where the name is not ambiguous."""
    if name in candidates or len(candidates) < 2:
        return [name] if name in candidates else candidates
    agreement = {key: max(_agreement(name, alias) for alias in aliases[key]) for key in candidates}
    best = max(agreement.values())
    candidates = [key for key in candidates if agreement[key] == best]
    stem = _without_suffixes(_split(name)[-1])
    same = [key for key in candidates if stem in {_without_suffixes(_split(alias)[-1]) for alias in aliases[key]}]
    return same if len(same) == 1 else candidates


def _compare_folders(match: NameMatch, aliases: Mapping[str, Sequence[str]]) -> None:
    """Refuse names that differ in their folders alone but mean one tomogram; note folders that differ."""
    names_of: dict[str, list[str]] = defaultdict(list)
    for name, key in match.key_of.items():
        names_of[key].append(name)
    for key, names in names_of.items():
        strangers = [name for name in names if all(_contradicts(name, alias) for alias in aliases[key])]
        if len({_split(name)[:-1] for name in names if len(_split(name)) > 1}) > 1:
            for name in strangers:
                del match.key_of[name]
                match.ambiguous[name] = [key]
        else:
            match.other_folders.update(dict.fromkeys(strangers, key))


def _contradicts(name: str, alias: str) -> bool:
    """Whether both have folders, and not one list of folders is the end of the other."""
    shorter = min(len(_split(name)), len(_split(alias))) - 1
    return len(_split(name)) > 1 and (not shorter or _agreement(name, alias) < shorter)


def _agreement(name: str, alias: str) -> int:
    """Number of folders, from the last one up, that a name and another have in common."""
    one, other = _split(name)[:-1], _split(alias)[:-1]
    pairs = zip(reversed(one), reversed(other), strict=False)
    return next((k for k, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _split(name: str) -> tuple[str, ...]:
    """The folders of a name, and the name itself."""
    parts = [part for part in re.split(r"[\\/]+", name.strip()) if part not in ("", ".")]
    return tuple(parts) or ("",)


def _without_suffixes(name: str) -> str:
    while True:
        suffix = next((s for s in _SUFFIXES if name.lower().endswith(s) and len(name) > len(s)), None)
        if suffix is None:
            return name
        name = name[: -len(suffix)]


def _join(names: Sequence[str], most: int = 5) -> str:
    shown = ", ".join(repr(name) for name in names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
