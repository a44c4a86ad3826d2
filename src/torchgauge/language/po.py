"""Catalogues in gettext's ``.po`` format, read and written.

A template numbers its values: ``{1} is not a package`` may become ``没有名为 {1} 的包``.
In a translation ``{1:text}`` says that a value of one word is a text too, not a name, and
``{1:name}`` that a value of several words is none: an error of another program. A template with
``{1:number}`` or ``{1:size}`` is that of texts with a number, or a number of bytes, there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_ESCAPES = {"\\n": "\n", "\\t": "\t", '\\"': '"', "\\\\": "\\"}
_HEADER = ("Content-Type: text/plain; charset=UTF-8\n", "Content-Transfer-Encoding: 8bit\n")


@dataclass(frozen=True, slots=True)
class Entry:
    """One text, its translation (empty when it has none) and where it stands."""

    msgid: str
    msgstr: str
    places: tuple[str, ...] = ()


def parse(text: str) -> list[Entry]:
    r"""Return the entries of a catalogue without its header.

    Raises:
        ValueError: for a line that is no part of an entry, or a part that is there twice.

    >>> parse('#: a.py\nmsgid "size {1}"\nmsgstr ""\n"大小 "\n"{1}"\n')
    [Entry(msgid='size {1}', msgstr='大小 {1}', places=('a.py',))]
    """
    entries: list[Entry] = []
    places: list[str] = []
    parts: dict[str, str] = {}
    keyword = ""
    for number, line in enumerate([*text.splitlines(), ""], 1):
        if match := re.fullmatch(r'(msgid|msgstr)? ?"(.*)"', line):
            if match[1] in parts:  # what a merge may leave
                raise ValueError(f"line {number}: {match[1]} is there twice in one entry")
            keyword = match[1] or keyword
            parts[keyword] = parts.get(keyword, "") + _unescaped(match[2])
        elif line.startswith("#"):
            if line.startswith("#: "):
                places.append(line.removeprefix("#: "))
        elif line.strip():
            raise ValueError(f"line {number} is no part of a catalogue: {line}")
        elif parts:
            if parts.get("msgid"):
                entries.append(Entry(parts["msgid"], parts.get("msgstr", ""), tuple(places)))
            parts, places = {}, []
    return entries


def written(language: str, entries: Iterable[Entry]) -> str:
    """Return a catalogue as text."""
    head = [f"Language: {language}\n", *_HEADER]
    lines = ['msgid ""', 'msgstr ""', *(f'"{_escaped(line)}"' for line in head), ""]
    for entry in entries:
        lines += [f"#: {place}" for place in entry.places]
        lines += [*_string("msgid", entry.msgid), *_string("msgstr", entry.msgstr), ""]
    return "\n".join(lines)


def _string(keyword: str, text: str) -> Iterator[str]:
    """Yield a keyword with its text, each line of a longer text in a line of its own."""
    pieces = text.splitlines(keepends=True)
    if len(pieces) < 2:
        yield f'{keyword} "{_escaped(text)}"'
        return
    yield f'{keyword} ""'
    yield from (f'"{_escaped(piece)}"' for piece in pieces)


def _escaped(text: str) -> str:
    return "".join({value: key for key, value in _ESCAPES.items()}.get(char, char) for char in text)


def _unescaped(text: str) -> str:
    return re.sub(r"\\.", lambda match: _ESCAPES.get(match[0], match[0]), text)
