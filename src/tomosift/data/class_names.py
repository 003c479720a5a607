"""Names of classes, and the labels that stand for them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomosift.conventions import UNKNOWN_CLASS, UNLABELED


def check_class_name(name: str) -> None:
    """Refuse a name that no table could hold, or that means something else there.

    Raises
    ------
    ValueError
        It is empty, holds a blank or a quote sign, or is the prediction for particles of no class.

    Examples
    --------
    >>> from tomosift.data.class_names import check_class_name
    >>> check_class_name("ribosome-70S")
    """
    if not name or name == UNKNOWN_CLASS or any(character.isspace() or character in "'\"" for character in name):
        raise ValueError(f"{name!r} cannot name a class: no blanks, no quote signs, and not {UNKNOWN_CLASS}")


def encode_labels(
    class_name: NDArray[Any], class_names: Sequence[str] | None
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return the label of each particle and the names of all classes.

    Parameters
    ----------
    class_name
        (n,) name of each particle's class, empty where unlabeled.
    class_names
        Names of all classes in the order of their labels; None takes those present, sorted.

    Returns
    -------
    label
        (n,) index into the class names, -1 where unlabeled.
    class_names
        Names of all classes.

    Raises
    ------
    ValueError
        A particle's class is not among ``class_names``.

    Examples
    --------
    >>> import numpy as np
    >>> from tomosift.data.class_names import encode_labels
    >>> label, class_names = encode_labels(np.array(["ribosome", "", "apoferritin"]), None)
    >>> label.tolist(), class_names
    ([1, -1, 0], ('apoferritin', 'ribosome'))
    """
    present, codes = np.unique(np.asarray(class_name, dtype=object).astype(str), return_inverse=True)
    names = tuple(class_names) if class_names is not None else tuple(str(name) for name in present if name)
    if missing := sorted({str(name) for name in present if name} - set(names)):
        raise ValueError(f"particles have classes {missing}, expected among {list(names)}; name all classes or none")
    label_of = {name: k for k, name in enumerate(names)} | {"": UNLABELED}
    return np.asarray([label_of[str(name)] for name in present], dtype=np.int64)[codes.reshape(-1)], names
