"""Types of errors.

::

    Exception
    ├── ValueError                 a wrong argument
    │   └── FormatError            a file breaks its format, or lacks what is needed from it
    └── RuntimeError
        └── NonFiniteLossError     the loss of a training step is not a number

A message states what was got, what was expected and what to do. The command line prints it as one sentence and exits
with 2, without a traceback.
"""

from pathlib import Path
from typing import Any


class FormatError(ValueError):
    """A file that breaks its format or lacks something that cannot be guessed.

    Parameters
    ----------
    path
        The file.
    field
        The column, header field, block or line that is wrong, as the file's own documentation calls it.
    got, expected
        The value that was found, and the one that belongs there.
    advice
        What the user can do about it, as an imperative clause.

    Examples
    --------
    >>> from tomosift.errors import FormatError
    >>> print(FormatError("a.star", "rlnTomoName", "missing", "a column", "write the table again"))
    a.star: rlnTomoName is missing, expected a column; write the table again
    """

    def __init__(self, path: Path | str, field: str, got: str, expected: str, advice: str = "") -> None:
        self.path, self.field, self.got, self.expected, self.advice = Path(path), field, got, expected, advice
        sentence = f"{path}: {field} is {got}, expected {expected}"
        super().__init__(f"{sentence}; {advice}" if advice else sentence)

    def __reduce__(self) -> tuple[Any, ...]:
        # By default pickle calls this class with the message alone; workers return their errors pickled.
        return type(self), (self.path, self.field, self.got, self.expected, self.advice)


def escape_controls(text: str) -> str:
    """Return text with control characters as in Python's source: names in files may hold escapes for the terminal.

    Examples
    --------
    >>> from tomosift.errors import escape_controls
    >>> escape_controls("TS_01" + chr(27) + "[2J")
    'TS_01\\\\x1b[2J'
    """
    plain = text.encode("utf-8", "backslashreplace").decode()  # file names that are no UTF-8
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in plain)


class NonFiniteLossError(RuntimeError):
    """The loss of a training step is NaN or infinite; the last checkpoint is intact."""
