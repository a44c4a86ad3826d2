"""Text measured as terminals show it: made safe, shortened, padded and wrapped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from rich.cells import cell_len

_NO_BREAK = "\u00a0"
_KEPT_TOGETHER = re.compile(r"(?<=\d) (?=%|[KMGTPE]?(i?B|MACs|FLOPs)\b)|(?<=\d %) |(?<=<) ")
_OPENING, _CLOSING = "（「『“‘《【", "，。：；、！？）」』”’》】"
_WIDE = "\u2e80-\u2fff\u3040-\u9fff\uac00-\ud7a3\uf900-\ufaff"
_UNBROKEN = re.compile(
    rf"[{_OPENING}]*(?:[{_WIDE}]|[^{_WIDE}{_OPENING}{_CLOSING}]+)?[{_CLOSING}]+"
    rf"|[{_OPENING}]*(?:[{_WIDE}]|[^{_WIDE}{_OPENING}{_CLOSING}]+)|[{_OPENING}]+"
)
_LOOK_ALIKES = str.maketrans(
    {
        "–": "-", "—": "-", "−": "-", "─": "-", "×": "x", "·": "|", "…": "..", "µ": "u",
        "→": "->", "≈": "~", "±": "+/-", "✓": "+", "✗": "x",
        "▁": "_", "▂": ".", "▃": ":", "▄": "=", "▅": "+", "▆": "*", "▇": "%", "█": "#",
    }
)  # fmt: skip


def one_line(text: str) -> str:
    r"""Return text with everything that is not printable written as an escape.

    >>> one_line("a\tb\x1b[31m")
    'a\\tb\\x1b[31m'
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def to_ascii(text: str) -> str:
    r"""Write text in ASCII: the signs used here by their look-alikes, all others escaped.

    >>> to_ascii("layers.0–11 × 12 · 3.0 µs …")
    'layers.0-11 x 12 | 3.0 us ..'
    >>> to_ascii("编码器")
    '\\u7f16\\u7801\\u5668'
    """
    if text.isascii():
        return text
    text = text.translate(_LOOK_ALIKES)
    return text.encode("ascii", "backslashreplace").decode()


def shorten(text: str, width: int, ellipsis: str = "…") -> str:
    """Cut out the middle of a text that is too wide.

    >>> shorten("features.denseblock", 9)
    'feat…lock'
    """
    if cell_len(text) <= width:
        return text
    room = width - cell_len(ellipsis)
    if room <= 0:
        return _head(text, width)
    tail = _tail(text, room // 2)
    return _head(text, room - cell_len(tail)) + ellipsis + tail


def pad(text: str, width: int, *, right: bool = False) -> str:
    """Fill a text with spaces; flush right if so wished."""
    space = " " * max(width - cell_len(text), 0)
    return space + text if right else text + space


def wrap(
    segments: Sequence[str], width: int, *, indent: str = "", first: str = "", dot: str = "·"
) -> Iterator[str]:
    """Yield lines of segments joined by a dot, broken between segments, else between words.

    ``first`` stands before the first line, ``indent`` before the others. A number and its unit
    stay together.
    """
    kept = (_KEPT_TOGETHER.sub(_NO_BREAK, segment) for segment in segments)
    for line in _wrapped(kept, width, indent, first, dot):
        yield line.replace(_NO_BREAK, " ").rstrip()


def _wrapped(
    segments: Iterable[str], width: int, indent: str, first: str, dot: str
) -> Iterator[str]:
    line, empty = first, True
    for segment in segments:
        joined = f"{line}{segment}" if empty else f"{line} {dot} {segment}"
        if cell_len(joined) <= width:
            line, empty = joined, False
            continue
        if not empty:
            yield line
            line = indent
        *full, line = _words(segment, width, line, indent)
        yield from full
        empty = False
    yield line.rstrip()


def _words(text: str, width: int, line: str, indent: str) -> Iterator[str]:
    empty = True
    for space, word in _unbroken(text):
        joined = f"{line}{word}" if empty else f"{line}{space}{word}"
        if cell_len(joined) <= width:
            line, empty = joined, False
            continue
        if not empty:
            yield line.rstrip()
            line = indent
        rest = word
        while cell_len(line + rest) > width:
            head = _head(rest, width - cell_len(line)) or rest[:1]
            yield line + head
            rest, line = rest[len(head) :], indent
        line, empty = line + rest, False
    yield line


def _unbroken(text: str) -> Iterator[tuple[str, str]]:
    """Yield what stays in one line, each after what stands before it: a space or nothing.

    A line may end between two Chinese characters, but not before a mark that closes, nor after one
    that opens.

    >>> [word for _, word in _unbroken("装得下（2 步）。yes")]
    ['装', '得', '下', '（2', '步）。', 'yes']
    """
    for word in text.split(" "):
        space = " "
        for piece in [word] if word.isascii() else _UNBROKEN.findall(word):
            yield space, piece
            space = ""


def _head(text: str, width: int) -> str:
    end = min(len(text), width)
    while end and cell_len(text[:end]) > width:
        end -= 1
    return text[:end]


def _tail(text: str, width: int) -> str:
    start = max(len(text) - width, 0)
    while start < len(text) and cell_len(text[start:]) > width:
        start += 1
    return text[start:]
