"""Content of plain and compressed files: bytes, text and XML, with one sentence for whatever is wrong with them."""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from xml.etree import ElementTree

from tomosift.errors import FormatError

MAX_BYTES = 1 << 30
"""Unpacked size of the largest table."""
_PART_BYTES = 1 << 22
GZIP_MAGIC = b"\x1f\x8b"
COMPRESSED_SUFFIXES = (".gz", ".bz2")


class _EntityError(ValueError):
    """The XML has a document type."""


class _Builder(ElementTree.TreeBuilder):
    """Builds elements and refuses a document type, which the parser reports whatever the encoding is."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        """Refuse the document type."""
        raise _EntityError(name)


def _plain_parser() -> ElementTree.XMLParser:
    """Return a parser of plain elements."""
    return ElementTree.XMLParser(target=_Builder())


def suffix_of(path: Path) -> str:
    """Return the suffix in lower case, without a closing ``.gz`` or ``.bz2``.

    Examples
    --------
    >>> suffix_of(Path("run_data.STAR.gz"))
    '.star'
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSED_SUFFIXES:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def read_bytes(path: Path) -> bytes:
    """Return the content of a plain or gzipped file; gzip is recognized by content, not by name.

    Raises
    ------
    FormatError
        The file cannot be read, or its gzip stream is cut short or damaged.
    """
    check_regular(path)
    try:
        content = path.read_bytes()
        return _unpack(path, content) if content.startswith(GZIP_MAGIC) else content
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        got = "cut short or damaged"
        raise FormatError(path, "gzip stream", got, "a complete .gz file", "copy the file again") from error
    except OSError as error:
        raise FormatError(path, "file", str(error.strerror or error), "a readable file") from error


def _unpack(path: Path, content: bytes) -> bytes:
    """Return unpacked gzip; a stream that grows beyond all tables is refused before it takes the memory."""
    parts, size = [], 0
    with gzip.GzipFile(fileobj=BytesIO(content)) as stream:
        while part := stream.read(_PART_BYTES):
            size += len(part)
            if size > MAX_BYTES:
                got, expected = f"more than {MAX_BYTES >> 20} MiB unpacked", "a particle table"
                raise FormatError(path, "gzip stream", got, expected, "unpack it and check what it is")
            parts.append(part)
    return b"".join(parts)


def check_regular(path: Path) -> None:
    """Refuse pipes, sockets and devices, which would be waited for.

    Raises
    ------
    FormatError
        The path is neither a file nor a folder.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise FormatError(path, "input", "a pipe, a socket or a device", "a file or a folder", "name a file")


@contextmanager
def named_errors(path: Path, expected: str) -> Iterator[None]:
    """Turn any error of a library that reads ``path`` into a sentence that names the file.

    Parameters
    ----------
    path
        The file.
    expected
        What it should be.

    Raises
    ------
    FormatError
        Instead of every other error.
    """
    try:
        yield
    except FormatError:
        raise
    except OSError as error:
        raise FormatError(path, "file", str(error.strerror or error), "a readable file") from error
    except Exception as error:
        text = " ".join(str(error).split())[:120]
        got = f"unreadable ({type(error).__name__}{': ' if text else ''}{text})"
        raise FormatError(path, "content", got, expected, "check that the file is complete and what it is") from error


def read_text(path: Path) -> str:
    """Return the text of a plain or gzipped file: UTF-8, or Latin-1 where it is not, without a byte order mark.

    Raises
    ------
    FormatError
        As `read_bytes`, or the file is binary.
    """
    content = read_bytes(path)
    if b"\0" in content[:4096]:
        raise FormatError(path, "file", "binary", "text")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def parse_xml(path: Path, root: str) -> ElementTree.Element:
    """Return the root element of an XML file, plain or gzipped.

    A file with entity definitions is refused unparsed: they have no place in these formats and can grow without end.

    Parameters
    ----------
    path
        The file; its encoding may be UTF-16.
    root
        Expected name of the root element.

    Raises
    ------
    FormatError
        The file defines entities, is malformed, or has another root element.
    """
    content = read_bytes(path)
    try:
        element = ElementTree.fromstring(content, parser=_plain_parser())
    except _EntityError:
        raise FormatError(path, "XML", "with a DOCTYPE or entity definitions", "plain elements") from None
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise FormatError(path, "XML", f"malformed ({error})", f"a complete <{root}>") from error
    if element.tag != root:
        raise FormatError(path, "root element", f"<{element.tag}>", f"<{root}>")
    return element
