"""Encoders: one module each, whose name is its word on the command line and whose first line says what it is.

Adding an encoder is adding a file here: a module with a subclass of `tomosift.models.encoder.Encoder`, named in its
constant ``ENCODER``.
"""

import ast
import importlib
from pathlib import Path

from tomosift.models.encoder import Encoder


def _read_first_line(path: Path) -> str:
    """First line of the docstring of a module."""
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]


ENCODERS: dict[str, str] = {
    path.stem: _read_first_line(path) for path in sorted(Path(__file__).parent.glob("*.py")) if path.stem != "__init__"
}
"""Name of each encoder, and what it is."""


def build_encoder(name: str) -> Encoder:
    """Build a freshly initialized encoder; its weights are drawn from torch's global generator.

    Parameters
    ----------
    name
        One of `ENCODERS`.

    Returns
    -------
    Encoder
        In training mode, on the CPU.

    Raises
    ------
    ValueError
        There is no encoder of this name.

    Examples
    --------
    >>> build_encoder("radial").embedding_size
    256
    """
    if name not in ENCODERS:
        raise ValueError(f"encoder is {name!r}, expected one of {', '.join(ENCODERS)}")
    encoder: Encoder = importlib.import_module(f"{__name__}.{name}").ENCODER()
    encoder.name = name
    return encoder
