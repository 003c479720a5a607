"""The benchmark entries: each module of this folder defines a table ``ENTRIES`` of them by name."""

import importlib
import pkgutil
from collections.abc import Mapping

from tomosift.evaluation.benchmark.entry import Entry
from tomosift.evaluation.benchmark.protocols import Kind, Protocol


def _collect_entries() -> dict[Kind, dict[str, Entry]]:
    """Return the entries of all modules in this folder.

    Raises
    ------
    ValueError
        Two modules define an entry of the same kind and name.
    """
    entries: dict[Kind, dict[str, Entry]] = {}
    for info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{info.name}")
        for name, entry in module.ENTRIES.items():
            known = entries.setdefault(entry.kind, {})
            if name in known:
                raise ValueError(f"{module.__name__} defines a second entry {name} of kind {entry.kind}; rename it")
            known[name] = entry
    return entries


ENTRIES: dict[Kind, dict[str, Entry]] = _collect_entries()
"""Entries by kind and name."""


def entries_of(protocol: Protocol) -> Mapping[str, Entry]:
    """Return the entries that apply to a protocol by name, its default ones first.

    Examples
    --------
    >>> from tomosift.evaluation.benchmark.protocols import PROTOCOLS
    >>> list(entries_of(PROTOCOLS["few-shot"]))[:2]
    ['general', 'prototypes-random']
    """
    known = ENTRIES[protocol.kind]
    names = dict.fromkeys((*(name for name in protocol.methods if name in known), *known))
    return {name: known[name] for name in names}
