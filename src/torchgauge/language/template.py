"""One text with values in it: found in what a program says, and written in another language."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cached_property

_FIELD = re.compile(r"\{(\d+)(?::(text|name))?\}")
_BETWEEN = re.compile(r"\{\d+\}")
_PARTS = re.compile(r"(\{\d+(?::\w+)?\})")
_WORD = re.compile(r"[A-Za-z]{2,}")
_OPENINGS, _ENDINGS = (" ", ",", ";", ":"), " "
_STRONG = 12
"""Letters of a template that cannot be there by chance."""
_FEW_WORDS = 4
"""Words that a value of a short template may have when it is no known text itself."""

Find = Callable[[str], "str | None"]


class Template:
    """A text and its translation; a value is numbered, so that its place may change.

    A text that begins with a space, a comma or a colon, or ends in a space, is a part of a larger
    one: what stands before it, or after it, is translated by itself.
    """

    def __init__(self, msgid: str, msgstr: str) -> None:
        self._made_of = _PARTS.split(msgstr)
        self._pieces = [_plain(piece) for piece in _BETWEEN.split(msgid)]
        letters = "".join(self._pieces)
        self.weight = len(letters)
        """How many characters are given: the largest of the templates that match is meant."""
        self._is_strong = len(re.sub(r"[^A-Za-z]", "", letters)) >= _STRONG
        self._is_end = msgid.startswith(_OPENINGS) and not msgid.isspace()
        self._is_beginning = msgid.endswith(_ENDINGS) and not self._is_end
        self.is_literal = len(self._pieces) == 1
        self.is_part = self._is_end or self._is_beginning

    @property
    def words(self) -> set[str]:
        """Return the words that a text must have to match."""
        found: set[str] = set()
        last = len(self._pieces) - 1
        for number, piece in enumerate(self._pieces):
            for match in _WORD.finditer(piece):
                touches_before = match.start() == 0 and (number > 0 or self._is_end)
                touches_after = match.end() == len(piece) and (number < last)
                if not touches_before and not touches_after:
                    found.add(match[0])
        return found

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        body = "(.*?)".join(map(re.escape, self._pieces))
        before = "(.+?)" if self._is_end else ""
        after = "(.+)" if self._is_beginning else ""
        return re.compile(f"{before}{body}{after}", re.DOTALL)

    def translate(self, text: str, find: Find) -> str | None:
        """Return the text in the other language, ``None`` where it is not this template's.

        ``find`` translates a value; it returns ``None`` for what is no text.
        """
        match = self._pattern.fullmatch(text)
        if match is None:
            return None
        values = list(match.groups())
        rest = values.pop(0 if self._is_end else -1) if self.is_part else None
        known = [find(value) for value in values]
        if not self._is_strong and any(
            other is None and len(value.split()) > _FEW_WORDS
            for value, other in zip(values, known, strict=True)
        ):
            return None
        made = "".join(
            _filled(field, values, known) if (field := _FIELD.fullmatch(piece)) else _plain(piece)
            for piece in self._made_of
        )
        if rest is None:
            return made
        other = find(rest) or rest
        return other + made if self._is_end else made + other


def _filled(field: re.Match[str], values: list[str], known: list[str | None]) -> str:
    """Return a value in its place: one word is a name, more are a text, if nothing else is said."""
    value, other = values[int(field[1]) - 1], known[int(field[1]) - 1]
    is_text = field[2] == "text" or (field[2] is None and " " in value)
    return other if is_text and other is not None else value


def fields(text: str) -> set[str]:
    """Return the numbers of the values that a template has.

    >>> sorted(fields("{2} of {1:text}"))
    ['1', '2']
    """
    return {match[1] for match in _FIELD.finditer(text)}


def _plain(piece: str) -> str:
    return piece.replace("{{", "{").replace("}}", "}")
