"""Configurations from JSON: stored values become frozen dataclasses again, checked by type."""

import copy
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from tomosift.errors import FormatError

C = TypeVar("C")

NO_RENAMED_FIELDS: Mapping[str, str] = MappingProxyType({})
"""Every field still has the name it was stored with."""

NO_RENAMED_VALUES: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
"""Every value still has the name it was stored with."""


def config_from_json(
    kind: type[C],
    value: Any,
    path: Path,
    renamed: Mapping[str, str] = NO_RENAMED_FIELDS,
    renamed_values: Mapping[str, Mapping[str, Any]] = NO_RENAMED_VALUES,
) -> C:
    """Return the configuration that a JSON value describes.

    Fields that the value lacks take their defaults. Lists become tuples and strings become paths where the dataclass
    has these types.

    Parameters
    ----------
    kind
        Dataclass of the configuration.
    value
        Parsed JSON, usually an object with one entry per field.
    path
        File that the value was read from; error messages name it.
    renamed, renamed_values
        Names of fields and values in files of earlier versions; see `rename_fields`.

    Raises
    ------
    FormatError
        When a name is unknown or a value has the wrong type. The error names the field.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tomosift.train.config import config_from_json
    >>> from tomosift.train.loop import Training
    >>> config_from_json(Training, {"epochs": 5}, Path("config.json"), {"epochs": "steps"}).steps
    5
    """
    from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

    # Strict about names, lenient about JSON's lists for tuples and strings for paths.
    checked = with_config(ConfigDict(extra="forbid"))(kind)
    try:
        return TypeAdapter(checked).validate_python(rename_fields(value, renamed, renamed_values))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "config"
        raise FormatError(path, field, repr(first["input"]), first["msg"], "correct it in the file") from None


def rename_fields(
    value: Any, renamed: Mapping[str, str], renamed_values: Mapping[str, Mapping[str, Any]] = NO_RENAMED_VALUES
) -> Any:
    """Return a copy of a JSON value in which fields and values of earlier versions have their new names.

    A field that is present under both names keeps both, so that validation refuses the old one by name.

    Parameters
    ----------
    value
        Parsed JSON. Anything but an object is returned unchanged.
    renamed
        Old name -> new name. Dots separate the levels of nested objects. Old names are looked up in the order of the
        mapping, each in the result of the renaming before it.
    renamed_values
        New name of a field -> old value, a string -> new value.

    Examples
    --------
    >>> from tomosift.train.config import rename_fields
    >>> rename_fields({"training": {"epochs": 5}}, {"training.epochs": "training.steps"})
    {'training': {'steps': 5}}
    >>> rename_fields({"head": "discriminant"}, {}, {"head": {"discriminant": "plda"}})
    {'head': 'plda'}
    """
    result = copy.deepcopy(value)
    for old, new in renamed.items():
        *old_parents, old_name = old.split(".")
        source = _descend(result, old_parents)
        if source is None or old_name not in source or _has_field(result, new):
            continue
        entry = source.pop(old_name)
        *new_parents, new_name = new.split(".")
        target = result
        for parent in new_parents:
            target = target.setdefault(parent, {})
        target[new_name] = entry
    for field, values in renamed_values.items():
        *parents, name = field.split(".")
        target = _descend(result, parents)
        if target is not None and isinstance(target.get(name), str):
            target[name] = values.get(target[name], target[name])
    return result


def _descend(value: Any, names: list[str]) -> dict[str, Any] | None:
    """Return the nested object behind these names, or None where there is none."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else None


def _has_field(value: Any, dotted: str) -> bool:
    *parents, name = dotted.split(".")
    target = _descend(value, parents)
    return target is not None and name in target
