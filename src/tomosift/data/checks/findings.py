"""What a check says: one finding per question, each a plain sentence."""

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
    """The answer to one question about the input."""

    about: str
    """What was looked at, in two or three words."""
    level: Level
    sentence: str
    """What was seen and, unless all is well, what to do."""
    measured: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    """The numbers behind the sentence, as JSON values."""

    def as_json(self) -> dict[str, Any]:
        """The finding as JSON values."""
        fields = {"about": self.about, "level": self.level, "sentence": self.sentence}
        return {**fields, "measured": dict(self.measured)}


def listed(names: list[str], most: int = 4) -> str:
    """Some names for a sentence."""
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def plural(count: int, noun: str) -> str:
    """``1 pick``, ``2 picks``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
