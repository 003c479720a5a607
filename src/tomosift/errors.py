"""What can go wrong, as types.

::

    Exception
    ├── ValueError                 a wrong argument
    │   └── FormatError            a file breaks its format, or lacks what is needed from it
    └── RuntimeError
        └── NonFiniteLossError     training met a loss that is not a number

A message says what was got, what was expected and what to do. The command line prints it as one sentence and exits
with 2; it never shows a traceback for these.
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
        What stands there and what should.
    advice
        What the user can do about it, as an imperative clause.
    """

    def __init__(self, path: Path | str, field: str, got: str, expected: str, advice: str = "") -> None:
        self.path, self.field, self.got, self.expected, self.advice = Path(path), field, got, expected, advice
        sentence = f"{path}: {field} is {got}, expected {expected}"
        super().__init__(f"{sentence}; {advice}" if advice else sentence)

    def __reduce__(self) -> tuple[Any, ...]:
        # Pickle would call this class with the sentence alone; a worker sends its error home that way.
        return type(self), (self.path, self.field, self.got, self.expected, self.advice)


class NonFiniteLossError(RuntimeError):
    """Training met a loss that is NaN or infinite; the last checkpoint is intact."""
