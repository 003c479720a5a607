"""Class names out of the values of a column: which values are no class, and which names are meant to be equal.

Every particle table is read through `clean_class_names`, so a class means the same in picks, labels and truth tables.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

NO_CLASS = frozenset({"", "<na>", "nan", "na", "n/a", "none", "null", "unknown", "unlabeled"})
"""Values that are no class, in lower case; ``unknown`` is the answer of a classification that has none."""
NUMBER_COLUMNS = ("rlnClassNumber",)
"""Columns of class numbers, in which 0 and negative numbers are no class."""
_NUMBERED = re.compile(r"(?:class )?0*(\d+)")


def clean_class_names(values: NDArray[Any] | Sequence[Any]) -> tuple[NDArray[np.object_], tuple[str, ...]]:
    """Return the class name of each value, empty for none, and notes on what was taken for granted.

    Blanks around a name are removed. Names that differ in case alone stay different and are noted.

    Parameters
    ----------
    values
        ``(n,)`` names as a file has them.

    Examples
    --------
    >>> from tomosift.io.particles.class_values import clean_class_names
    >>> names, notes = clean_class_names(["ribosome ", "<NA>", "Ribosome"])
    >>> names.tolist()
    ['ribosome', '', 'Ribosome']
    >>> notes
    ("class names differ in upper and lower case alone: 'Ribosome' and 'ribosome' are taken for two classes",)
    """
    texts = [("" if value is None else str(value)) for value in values]
    cleaned = {text: "" if text.strip().lower() in NO_CLASS else text.strip() for text in set(texts)}
    names = np.array([cleaned[text] for text in texts], dtype=object)
    notes = []
    nothing = sorted({text.strip() for text, name in cleaned.items() if not name and text.strip()})
    if nothing:
        count = sum(not cleaned[text] and bool(text.strip()) for text in texts)
        notes.append(f"{count} particles of class {', '.join(map(repr, nothing))} are taken for unlabeled")
    same: dict[str, set[str]] = defaultdict(set)
    for name in cleaned.values():
        same[name.lower()].add(name)
    if alike := [sorted(group) for group in same.values() if len(group) > 1]:
        listed = "; ".join(" and ".join(map(repr, group)) for group in alike)
        notes.append(f"class names differ in upper and lower case alone: {listed} are taken for two classes")
    return names, tuple(notes)


def name_numbered_classes(column: str, values: Iterable[Any]) -> NDArray[np.object_]:
    """Return class names of a column that was chosen by its name; the number 3.0 becomes ``3``.

    Parameters
    ----------
    column
        Name of the column; in `NUMBER_COLUMNS` 0 and negative numbers are no class.
    values
        ``(n,)`` values as read.

    Examples
    --------
    >>> from tomosift.io.particles.class_values import name_numbered_classes
    >>> name_numbered_classes("rlnClassNumber", [0, 2, 1.0]).tolist()
    ['', '2', '1']
    """
    names = []
    for value in values:
        number = _whole_number(value)
        if number is None:
            names.append(str(value))
        else:
            names.append(str(number) if number > 0 or column not in NUMBER_COLUMNS else "")
    return np.array(names, dtype=object)


def _whole_number(value: Any) -> int | None:
    """A value as a whole number; None where it is text or no whole number."""
    if isinstance(value, str):
        return int(value) if re.fullmatch(r"-?\d{1,9}", value.strip()) else None
    number = float(value) if isinstance(value, int | float | np.number) else float("nan")
    return int(number) if np.isfinite(number) and number == round(number) else None


def number_classes(names: Sequence[str]) -> dict[str, int]:
    """Return the number of each class, from 1; 0 is no class.

    It is the number in the name where every name has a different one (``class 3`` or ``3``), so class numbers that were
    given come back, and otherwise the rank.

    Parameters
    ----------
    names
        Names of all classes, in the order of their labels.

    Examples
    --------
    >>> from tomosift.io.particles.class_values import number_classes
    >>> number_classes(["class 2", "class 5"]), number_classes(["ferritin", "ribosome"])
    ({'class 2': 2, 'class 5': 5}, {'ferritin': 1, 'ribosome': 2})
    """
    matches = [_NUMBERED.fullmatch(name) for name in names]
    numbers = [int(match[1]) for match in matches if match]
    if len(set(numbers)) == len(names) and all(numbers):
        return dict(zip(names, numbers, strict=True))
    return {name: k + 1 for k, name in enumerate(names)}
