"""Fit a table and lines of text into a width, measured as terminals show it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len


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

    ``first`` stands before the first line, ``indent`` before the others.
    """
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
    for word in text.split(" "):
        joined = f"{line}{word}" if empty else f"{line} {word}"
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


@dataclass(frozen=True, slots=True)
class ColumnSize:
    """How wide a column wants to be: step by step narrower, and when it leaves."""

    name: str
    widths: tuple[int, ...]
    """Natural width first; the last one is the narrowest that is still useful."""
    importance: int


def fit(sizes: Sequence[ColumnSize], room: int, gap: int) -> dict[str, int]:
    """Return the widths of the columns that fit into ``room``, the least important ones dropped.

    Columns become narrower before any leaves: the least important first. The most important one
    always stays, cut to the room if need be.
    """
    kept = list(sizes)
    while True:
        widths = _narrowed(kept, room - gap * (len(kept) - 1))
        if widths is not None:
            return widths
        if len(kept) == 1:
            return {kept[0].name: max(room, 1)}
        kept.remove(min(kept, key=lambda size: size.importance))


def _narrowed(sizes: Sequence[ColumnSize], room: int) -> dict[str, int] | None:
    widths = {size.name: size.widths[0] for size in sizes}
    steps = max(len(size.widths) for size in sizes)
    for step in range(1, steps + 1):
        for size in sorted(sizes, key=lambda size: size.importance):
            over = sum(widths.values()) - room
            if over <= 0:
                return widths
            if step < len(size.widths):
                # Give back what need not be taken.
                widths[size.name] = min(
                    widths[size.name], max(size.widths[step], widths[size.name] - over)
                )
    return widths if sum(widths.values()) <= room else None
