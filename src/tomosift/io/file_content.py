"""Content of plain and compressed files: bytes, text and XML, with one sentence for whatever is wrong with them."""

import gzip
import zlib
from pathlib import Path
from xml.etree import ElementTree

from tomosift.errors import FormatError

GZIP_MAGIC = b"\x1f\x8b"
COMPRESSED_SUFFIXES = (".gz", ".bz2")


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
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content.startswith(GZIP_MAGIC) else content
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        got = "cut short or damaged"
        raise FormatError(path, "gzip stream", got, "a complete .gz file", "copy the file again") from error
    except OSError as error:
        raise FormatError(path, "file", str(error.strerror or error), "a readable file") from error


def read_text(path: Path) -> str:
    """Return the text of a plain or gzipped file; bytes that are not UTF-8 survive as surrogates.

    Raises
    ------
    FormatError
        As `read_bytes`, or the file is binary.
    """
    content = read_bytes(path)
    if b"\0" in content[:4096]:
        raise FormatError(path, "file", "binary", "text")
    return content.decode("utf-8", errors="surrogateescape")


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
    plain = content.replace(b"\0", b"")  # UTF-16 puts a zero byte beside every letter
    if b"<!DOCTYPE" in plain or b"<!ENTITY" in plain:
        raise FormatError(path, "XML", "with a DOCTYPE or entity definitions", "plain elements")
    try:
        element = ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        raise FormatError(path, "XML", f"malformed ({error})", f"a complete <{root}>") from error
    if element.tag != root:
        raise FormatError(path, "root element", f"<{element.tag}>", f"<{root}>")
    return element
