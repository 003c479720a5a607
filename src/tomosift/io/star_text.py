"""STAR text, to and from tables, with every value as it is in the file.

A column becomes numbers only where writing the numbers again gives equal values: names such as ``017`` or ``000001``
stay text. A `FormatError` on malformed text names the block, the column or the line.
"""

import gzip
import re
from collections.abc import Mapping
from contextlib import suppress
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from tomosift.errors import FormatError
from tomosift.files import written_then_renamed
from tomosift.io.file_content import named_errors, read_text

_TEXT_LABEL = re.compile(r"(Name|File|Image|Path|Hash|Directory|VisibleFrames|tomosiftClass|tomosiftParticleId)\d*$")
"""Labels that hold text in RELION and Warp whatever their values are."""

_ZERO_PADDED = r"^0\d+$"
_ZERO_PADDED_IN_ROWS = re.compile(r"[ \t\n]0\d+(?=[ \t\n])")
_SINGLE_QUOTED = re.compile(r"(?<!\S)'([^'\"\n]*)'(?!\S)")
_TOKEN = re.compile(r'"[^"]*"|\'[^\']*\'|\S+')


def read_star(path: Path) -> dict[str, pd.DataFrame]:
    """Return every block of a STAR file by name, without the leading ``data_``; one without ``loop_`` has one row.

    Raises
    ------
    FormatError
        The text is no STAR file, repeats a label or a block, or has rows of another length or without ``loop_``.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "a.star")
    ...     write_star(path, {"particles": pd.DataFrame({"rlnTomoName": ["017"], "rlnCoordinateX": [2.5]})})
    ...     read_star(path)["particles"].to_dict("list")
    {'rlnTomoName': ['017'], 'rlnCoordinateX': [2.5]}
    """
    with named_errors(path, "STAR text"):
        return _read_star(path)


def _read_star(path: Path) -> dict[str, pd.DataFrame]:
    lines = [line.strip() for line in read_text(path).splitlines()]
    starts = [k for k, line in enumerate(lines) if line.startswith("data_") and _is_header(line)]
    if not starts:
        got = "empty" if not any(lines) else "text without one"
        raise FormatError(path, "data_ block", got, "a line that starts with data_", "is this a STAR file?")
    blocks: dict[str, pd.DataFrame] = {}
    for start, end in pairwise([*starts, len(lines)]):
        name = lines[start][5:].split("#")[0].strip()
        if name in blocks:
            raise FormatError(path, f"block data_{name}", "given twice", "one block of each name")
        blocks[name] = _parse_block(path, name, lines[start + 1 : end], first_line=start + 2)
    return blocks


def _is_header(line: str) -> bool:
    """Whether a line is the name of a block alone; a row may start with a name such as ``data_02.mrc``."""
    tokens = line.split("#")[0].split()
    return len(tokens) == 1


def _parse_block(path: Path, name: str, lines: list[str], first_line: int) -> pd.DataFrame:
    """Return the table of a block's lines, loop or list of values."""
    numbered = [(k, line) for k, line in enumerate(lines, first_line) if line and not line.startswith("#")]
    if numbered and numbered[0][1].split()[0].lower() == "loop_":
        labels = [line.split()[0][1:] for _, line in _leading_labels(numbered[1:])]
        _check_labels(path, name, labels)
        return _parse_loop(path, name, labels, numbered[1 + len(labels) :])
    values: dict[str, str] = {}
    for k, line in numbered:
        tokens = _TOKEN.findall(line)
        if not line.startswith("_") or len(tokens) < 2 or tokens[1].startswith("#"):
            raise FormatError(path, f"line {k} of block data_{name}", repr(line[:60]), "a label and its value",
                              "put loop_ above the labels of a table")  # fmt: skip
        if tokens[0][1:] in values:
            raise FormatError(path, f"column {tokens[0][1:]} of block data_{name}", "given twice", "each label once")
        values[tokens[0][1:]] = _unquoted(tokens[1])
    table = pd.DataFrame({label: pd.Series([value], dtype=object) for label, value in values.items()})
    return _convert_numbers(table)


def _leading_labels(numbered: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """Return the lines before the first row."""
    count = next((k for k, (_, line) in enumerate(numbered) if not line.startswith("_")), len(numbered))
    return numbered[:count]


def _check_labels(path: Path, name: str, labels: list[str]) -> None:
    """Raise a `FormatError` unless there are labels, each once."""
    if not labels:
        raise FormatError(path, f"block data_{name}", "a loop_ without labels", "lines such as _rlnCoordinateX #1")
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise FormatError(path, f"column {twice[0]} of block data_{name}", "given twice", "each label once")


def _parse_loop(path: Path, name: str, labels: list[str], numbered: list[tuple[int, str]]) -> pd.DataFrame:
    """Return the table of numbered rows."""
    if not numbered:
        return pd.DataFrame({label: pd.Series([], dtype=object) for label in labels})
    rows = [line for _, line in numbered]
    if any(" #" in row or "\t#" in row for row in rows):
        rows = [_without_comment(row) for row in rows]
    body = "\n".join(rows) + "\n"
    if "'" in body:
        body = _SINGLE_QUOTED.sub(r'"\1"', body)
    as_text = [k for k, label in enumerate(labels) if _TEXT_LABEL.search(label)]
    try:
        if len(_TOKEN.findall(rows[0])) != len(labels):
            raise pd.errors.ParserError
        table = _parse_rows(body, as_text)
        if _has_lost_text(body, table, as_text):
            table = _parse_rows(body, list(range(len(labels))))
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise _explain_rows(path, name, labels, numbered) from error
    if table.shape != (len(rows), len(labels)) or table.iloc[:, -1].isin([""]).any():
        _check_every_row(path, name, labels, numbered)
    table.columns = pd.Index(labels)
    return _convert_numbers(table)


def _without_comment(row: str) -> str:
    """Return a row up to the first ``#`` outside quotes."""
    tokens = _TOKEN.findall(row)
    return " ".join(tokens[: next((k for k, token in enumerate(tokens) if token.startswith("#")), None)])


def _parse_rows(body: str, as_text: list[int]) -> pd.DataFrame:
    """Return columns by number: strings where ``as_text``, what pandas infers elsewhere."""
    kinds: dict[Any, Any] = dict.fromkeys(as_text, str)
    text = StringIO(body)
    return pd.read_csv(text, sep=r"\s+", header=None, dtype=kinds, na_filter=False, engine="c", low_memory=False)


def _has_lost_text(body: str, table: pd.DataFrame, as_text: list[int]) -> bool:
    """Whether a column that pandas converted holds numbers padded with zeros, or truth values."""
    padded = sum(1 for _ in _ZERO_PADDED_IN_ROWS.finditer(f"\n{body}"))
    if padded:
        texts = [pa.array(table[k], type=pa.string()) for k in as_text]
        padded -= sum(pc.sum(pc.match_substring_regex(text, _ZERO_PADDED)).as_py() or 0 for text in texts)
    return padded > 0 or any(kind == np.bool_ for kind in table.dtypes)


def _explain_rows(path: Path, name: str, labels: list[str], numbered: list[tuple[int, str]]) -> FormatError:
    """Return the error of the first row with too few or too many values."""
    try:
        _check_every_row(path, name, labels, numbered)
    except FormatError as error:
        return error
    return FormatError(path, f"block data_{name}", "a table that cannot be read", "values separated by blanks")


def _check_every_row(path: Path, name: str, labels: list[str], numbered: list[tuple[int, str]]) -> None:
    """Raise a `FormatError` unless every row has one value for each label."""
    for k, line in numbered:
        count = len(_TOKEN.findall(_without_comment(line)))
        if count != len(labels):
            missing = f"; {labels[count]} is the first column without a value" if count < len(labels) else ""
            raise FormatError(path, f"line {k} of block data_{name}", f"{count} values{missing}",
                              f"{len(labels)}, one for each column",
                              "the file may be cut short or a name may hold a blank")  # fmt: skip


def _unquoted(token: str) -> str:
    """Return a value without the quotes around it."""
    return token[1:-1] if len(token) > 1 and token[0] in "\"'" and token[-1] == token[0] else token


def _convert_numbers(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with those text columns as numbers that hold nothing but numbers."""
    columns: dict[str, Any] = {}
    for label in table.columns:
        columns[label] = table[label]
        if table[label].dtype.kind in "iuf":
            continue
        columns[label] = table[label].astype(object)
        text = pa.array(table[label], type=pa.string())
        if not _TEXT_LABEL.search(label) and not pc.any(pc.match_substring_regex(text, _ZERO_PADDED)).as_py():
            # Arrow's cast rounds correctly and, unlike Python's, knows no underscores.
            for kind in (pa.float64(), pa.int64()):
                with suppress(pa.ArrowInvalid):
                    columns[label] = text.cast(kind).to_numpy()
    return pd.DataFrame(columns, columns=table.columns)


def write_star(path: Path, blocks: Mapping[str, pd.DataFrame], version: str | None = None) -> None:
    """Write blocks by name; one-row blocks named ``general`` or without a name become plain label-value lists.

    Numbers are written in the fewest digits that read back equal, and text with blanks is quoted.

    Parameters
    ----------
    path
        The file, gzipped for ``.gz``; it is complete or absent.
    blocks
        Tables by block name.
    version
        RELION's version line above each block, such as ``30001`` or ``50001``.
    """
    parts = []
    for name, table in blocks.items():
        heading = f"# version {version}\n\n" if version else ""
        labels = [re.sub(r"\s+", "_", str(label)) for label in table.columns]
        cells = [_cells(table.iloc[:, k]) for k in range(len(labels))]
        if len(table) == 1 and name in ("", "general") and "Coordinate" not in "".join(labels):
            pairs = "\n".join(f"_{label} {cell[0]}" for label, cell in zip(labels, cells, strict=True))
            parts.append(f"{heading}data_{name}\n\n{pairs}\n\n")
        else:
            header = "\n".join(f"_{label} #{k}" for k, label in enumerate(labels, 1))
            # Joining columns is several times faster than to_csv, and nothing is quoted a second time.
            rows = "\n".join(map("\t".join, zip(*cells, strict=True)))
            parts.append(f"{heading}data_{name}\n\nloop_\n{header}\n{rows}\n\n")
    content = "\n".join(parts).encode("utf-8", errors="surrogateescape")
    with written_then_renamed(path) as temporary:
        temporary.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def _cells(column: "pd.Series[Any]") -> list[str]:
    """Return the text of each value ``(n,)``; floats by ``repr``, which reads back equal."""
    values = column.tolist()
    if column.dtype == np.float64:
        return list(map(repr, values))
    return list(map(str, values)) if column.dtype.kind in "iub" else list(map(_quoted, values))


def _quoted(value: object) -> str:
    """Return the text of a value, in quotes where STAR needs them."""
    text = repr(value) if isinstance(value, float) else str(value)
    if text == "" or text[0] in "#_\"'" or text.startswith(("data_", "loop_")) or re.search(r"\s", text):
        return f"'{text}'" if '"' in text else f'"{text}"'
    return text
