"""Configurations from JSON: the frozen dataclasses that were stored come back, checked by type."""

from pathlib import Path
from typing import Any, TypeVar

from tomosift.errors import FormatError

C = TypeVar("C")


def config_from_json(kind: type[C], value: Any, path: Path) -> C:
    """The configuration of this dataclass type; unknown names and wrong types are named in the error.

    Raises
    ------
    FormatError
        When the values do not fit the dataclass.
    """
    from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

    # Strict about names, lenient about JSON's lists for tuples and strings for paths.
    checked = with_config(ConfigDict(extra="forbid"))(kind)
    try:
        return TypeAdapter(checked).validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "config"
        raise FormatError(path, field, repr(first["input"]), first["msg"], "correct it in the file") from None
