"""Values of ``#SBATCH`` lines, which SLURM parses without a shell."""

import re

_WORD = re.compile(r"[\w.+=:,@/%-]+", re.ASCII)


def check_directive(name: str, value: str, spaces: bool = False) -> str:
    """Return a value unchanged if it can be used in an ``#SBATCH`` line.

    SLURM parses such a line without a shell. Quotes and escapes would be part of the value, so a value that needs them
    is refused.

    Parameters
    ----------
    name
        Name of the setting, for the error message.
    value
        Text to check.
    spaces
        Whether it may contain single spaces.

    Raises
    ------
    ValueError
        When the value is empty or contains anything but letters, digits and ``. + = : , @ / % _ -``.

    Examples
    --------
    >>> check_directive("partition", "gpu-long")
    'gpu-long'
    """
    if not all(_WORD.fullmatch(word) for word in (value.split(" ") if spaces else [value])):
        raise ValueError(f"{name} is {value!r}, expected letters, digits and .+=:,@/%_- only")
    return value
