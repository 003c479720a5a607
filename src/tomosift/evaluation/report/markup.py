"""Small pieces of HTML; every string from the data passes `escape` here."""

import base64
import html
import math
import struct
import zlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from tomosift.evaluation.metrics.intervals import Interval


def escape(value: object) -> str:
    """Return text for an element or a quoted attribute."""
    return html.escape(str(value), quote=True)


def format_number(value: float, digits: int = 2) -> str:
    """Return a number, or a dash where it is not defined."""
    return f"{value:.{digits}f}" if math.isfinite(value) else '<span title="not defined">–</span>'


def format_count(count: int, noun: str, plural: str | None = None) -> str:
    """Return a count with its noun.

    Examples
    --------
    >>> format_count(1234, "particle"), format_count(1, "class", "classes")
    ('1,234 particles', '1 class')
    """
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def format_interval(interval: Interval) -> str:
    """Return a value and its interval, the interval in a lighter tone."""
    if not math.isfinite(interval.low):
        return format_number(interval.value)
    return f'{interval.value:.2f} <span class="ci">{interval.low:.2f}–{interval.high:.2f}</span>'


def render_track(interval: Interval) -> str:
    """Return a value as a dot, its interval as a band, on a scale from 0 to 1; the numbers stand beside it as text."""
    if not math.isfinite(interval.value):
        return '<span class="track" aria-hidden="true"></span>'
    band = ""
    if math.isfinite(interval.low):
        width = max(interval.high - interval.low, 0) * 100
        band = f'<i class="band" style="left:{interval.low * 100:.1f}%;width:{width:.1f}%"></i>'
    dot = f'<i class="dot" style="left:{interval.value * 100:.1f}%"></i>'
    return f'<span class="track" aria-hidden="true">{band}{dot}</span>'


def render_section(identifier: str, title: str, body: str, introduction: str = "") -> str:
    """Return a section with a heading; ``body`` and ``introduction`` are HTML."""
    lead = f'<p class="lead">{introduction}</p>' if introduction else ""
    return (
        f'<section id="{identifier}" aria-labelledby="{identifier}-title">'
        f'<h2 id="{identifier}-title">{escape(title)}</h2>{lead}{body}</section>'
    )


def render_table(caption: str, header: Sequence[str], rows: Sequence[Sequence[str]], classes: str = "") -> str:
    """Return a table of HTML cells whose first column names the row; it scrolls sideways when it is too wide."""
    head = "".join(f'<th scope="col">{cell}</th>' for cell in header)
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>{"".join(f"<td>{cell}</td>" for cell in row[1:])}</tr>' for row in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="group" aria-label="{escape(caption)}">'
        f'<table class="{classes}"><caption>{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def render_picture(gray: UInt8[np.ndarray, "h w"], description: str, caption: str = "") -> str:
    """Return a figure of a gray picture; ``description`` is plain text, ``caption`` is HTML."""
    below = f"<figcaption>{caption}</figcaption>" if caption else ""
    return f'<figure><img src="{encode_png_uri(gray)}" alt="{escape(description)}">{below}</figure>'


def encode_png(gray: UInt8[np.ndarray, "h w"]) -> bytes:
    """Return an 8-bit gray PNG file. Source: PNG specification, 3rd edition; no filter, which suits noise best."""
    height, width = gray.shape
    lines = np.zeros((height, width + 1), dtype=np.uint8)
    lines[:, 1:] = gray

    def encode_chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = encode_chunk(b"IDAT", zlib.compress(lines.tobytes(), 9))
    return b"\x89PNG\r\n\x1a\n" + encode_chunk(b"IHDR", header) + body + encode_chunk(b"IEND", b"")


def encode_png_uri(gray: UInt8[np.ndarray, "h w"]) -> str:
    """Return the PNG file as a ``data:`` address."""
    return "data:image/png;base64," + base64.b64encode(encode_png(gray)).decode("ascii")
