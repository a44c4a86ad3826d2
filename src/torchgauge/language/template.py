"""One text with values in it: found in what a program says, and written in another language."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

_FIELD = re.compile(r"\{(\d+)(?::(text|name|number|size))?\}")
_BETWEEN = re.compile(r"\{\d+\}")
_PARTS = re.compile(r"(\{\d+(?::\w+)?\})")
_WORD = re.compile(r"[A-Za-z]{2,}")
_FIGURES = {"number": r"(\d[\d,.]*)", "size": r"((?:\d[\d,.]*) [KMGTP]?i?B)"}
_OPENINGS, _ENDING = (" ", ",", ";", ":", "\n"), " "
_STRONG = 12
"""Letters of a template that cannot be there by chance."""
_QUOTING = 8
"""Letters of a template that says where another program's words begin."""
_QUOTED = 0.5
"""What a quoted word counts: less than one that is left by chance, but the fewer the better."""
_LINE = 20
"""Words that a line counts for when a value swallows it: what has its own line is a text."""
_MEETING = re.compile(r"[\u4e00-\u9fff][A-Za-z0-9]|[A-Za-z0-9][\u4e00-\u9fff]")
_PLAIN_WORD = re.compile(r"(?<![^\s(])[a-z]{2,}(?=[\s,;:)]|$)")
"""A word as sentences have it: a name such as ``layer (Linear)`` has one at most."""


@dataclass(frozen=True, slots=True)
class Found:
    """A translation, and how many words of the text it leaves as they are."""

    text: str
    unknown: float = 0


Find = Callable[[str], "Found | None"]


class Template:
    """A text and its translation; a value is numbered, so that its place may change.

    A text that begins with a space, a comma or a colon, or ends in a space, is a part of a larger
    one: the rest of that text has its own translation.
    """

    def __init__(self, msgid: str, msgstr: str) -> None:
        self._made_of = _PARTS.split(msgstr)
        self._kinds = {int(field[1]): field[2] for field in _FIELD.finditer(msgstr)}
        self._pieces = [plain(piece) for piece in _BETWEEN.split(msgid)]
        letters = "".join(self._pieces)
        self.weight = len(letters)
        """How many characters are given."""
        given = len(re.sub(r"[^A-Za-z]", "", letters))
        self._is_strong, self._has_letters = given >= _STRONG or "\n" in letters, given > 0
        self._quotes = given >= _QUOTING or "\n" in letters
        self._is_end = msgid.startswith(_OPENINGS)
        self._is_beginning = msgid.endswith(_ENDING) and not self._is_end
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
                touches_after = match.end() == len(piece) and number < last
                if not touches_before and not touches_after:
                    found.add(match[0])
        return found

    @cached_property
    def _patterns(self) -> tuple[re.Pattern[str], ...]:
        """Values as short as can be, then as long as can be."""
        made = []
        for value in ("(.*?)", "(.*)"):
            first, *others = map(re.escape, self._pieces)
            body = first + "".join(
                _FIGURES.get(self._kinds.get(number) or "", value) + piece
                for number, piece in enumerate(others, 1)
            )
            before = "(.*?)" if self._is_end else ""
            after = "(.+)" if self._is_beginning else ""
            made.append(re.compile(f"{before}{body}{after}", re.DOTALL))
            if len(self._pieces) < 3 and not self.is_part:
                break  # there is one way to match
        return tuple(made)

    def translations(self, text: str, find: Find) -> Iterator[Found]:
        """Yield the text in the other language, in each way in which it can be this template's.

        ``find`` translates a value; it returns ``None`` for what is no text.
        """
        for pattern in self._patterns:
            match = pattern.fullmatch(text)
            if match is None:
                return
            values = list(match.groups())
            rest = values.pop(0 if self._is_end else -1) if self.is_part else None
            known = [find(value) for value in values]
            if self._is_meant(values, known) and (rest is None or self._goes_on(rest, find)):
                yield self._found(values, known, rest, find)

    def _is_meant(self, values: Sequence[str], known: Sequence[Found | None]) -> bool:
        """Return whether a text that has the same words can be this template's."""
        numbered = list(enumerate(zip(values, known, strict=True), 1))
        if not all(_is_closed(value) for n, (value, _) in numbered if self._kinds.get(n) != "name"):
            return False
        if self._is_strong:
            return True
        if not self._has_letters and not any(self._is_text(n, *both) for n, both in numbered):
            return False
        return all(
            other is not None or self._kinds.get(number) == "name" or _is_a_name(value)
            for number, (value, other) in numbered
        )

    def _goes_on(self, rest: str, find: Find) -> bool:
        """Return whether a part that is short can belong to the rest of the text."""
        return self._is_strong or _is_a_name(rest) or find(rest) is not None

    def _found(
        self, values: Sequence[str], known: Sequence[Found | None], rest: str | None, find: Find
    ) -> Found:
        filled = [
            self._filled(number, value, other)
            for number, (value, other) in enumerate(zip(values, known, strict=True), 1)
        ]
        text = spaced(
            filled[int(field[1]) - 1].text if (field := _FIELD.fullmatch(piece)) else plain(piece)
            for piece in self._made_of
        )
        unknown = sum(item.unknown for item in filled)
        if not rest:
            return Found(text, unknown)
        other = find(rest) or as_it_is(rest)
        both = (other.text, text) if self._is_end else (text, other.text)
        return Found(spaced(both), unknown + other.unknown)

    def _filled(self, number: int, value: str, other: Found | None) -> Found:
        """Return a value in its place."""
        if self._kinds.get(number) == "name" and self._quotes:
            return Found(value, as_it_is(value).unknown * _QUOTED)
        return (
            other if other is not None and self._is_text(number, value, other) else as_it_is(value)
        )

    def _is_text(self, number: int, value: str, other: Found | None) -> bool:
        """Return whether a value is translated: one word is a name if nothing else is said."""
        kind = self._kinds.get(number)
        return other is not None and (kind == "text" or (kind is None and " " in value))


def as_it_is(text: str) -> Found:
    """Return a text that nobody knows."""
    return Found(text, len(_WORD.findall(text)) + _LINE * text.count("\n"))


def fields(text: str) -> list[str]:
    """Return the numbers of the values that a template has, in their order.

    >>> fields("{2} of {1:text}")
    ['1', '2']
    """
    return sorted(match[1] for match in _FIELD.finditer(text))


def _is_a_name(value: str) -> bool:
    return len(_PLAIN_WORD.findall(value)) < 2


def _is_closed(value: str) -> bool:
    """Return whether each bracket is closed, and none before it is opened.

    >>> _is_closed("x [2] (y)"), _is_closed("2 %) (+1.96 %"), _is_closed("f(")
    (True, False, False)
    """
    for opening, closing in ("()", "[]"):
        depth = 0
        for char in value:
            depth += (char == opening) - (char == closing)
            if depth < 0:
                return False
        if depth:
            return False
    return True


def spaced(parts: Iterable[str]) -> str:
    """Join parts of a text; a space stands between a Chinese character and a word or a number.

    >>> spaced(["这是", "fits 的回答"]), spaced(["这是", "列表", "。"])
    ('这是 fits 的回答', '这是列表。')
    """
    text = ""
    for part in parts:
        gap = " " if _MEETING.search(text[-1:] + part[:1]) else ""
        text += gap + part
    return text


def plain(piece: str) -> str:
    """Return text of a template as the program writes it: a brace once."""
    return piece.replace("{{", "{").replace("}}", "}")
