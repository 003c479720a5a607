"""The result of a check: one finding per question, each a plain sentence."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

Level = Literal["ok", "note", "warning", "error"]
"""``ok``: as it should be; ``note``: worth knowing; ``warning``: probably wrong, results may suffer; ``error``: the
work cannot succeed like this."""

LEVELS: tuple[Level, ...] = ("ok", "note", "warning", "error")


@dataclass(frozen=True)
class Finding:
    """The answer to one question about the input.

    Examples
    --------
    >>> from tomosift.data.checks.findings import Finding
    >>> Finding("picks", "error", "the particle table is empty; check the file").as_json()["level"]
    'error'
    """

    about: str
    """The subject of the check, in two or three words."""
    level: Level
    sentence: str
    """What was measured and, unless all is well, what to do."""
    measured: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    """The numbers behind the sentence, as JSON values."""

    def as_json(self) -> dict[str, Any]:
        """Return the finding as JSON values."""
        fields = {"about": self.about, "level": self.level, "sentence": self.sentence}
        return {**fields, "measured": dict(self.measured)}


def join_names(names: list[str], most: int = 4) -> str:
    """Return some of the names for a sentence, and how many more there are."""
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def count_noun(count: int, noun: str) -> str:
    """Return ``1 pick``, ``2 picks``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
