"""Texts in the language that is spoken: looked up, matched to a template, or part by part."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from torchgauge.language import choice
from torchgauge.language.po import Entry, parse
from torchgauge.language.template import Find, Found, Template, as_it_is, plain

_FOLDER = Path(__file__).parent
_WORD = re.compile(r"[A-Za-z]{2,}")
_CITATION = re.compile(r"[A-Z]\w+(, [A-Z]\w+)*( et al\.)?, .*(\barXiv \d|\b(19|20)\d\d\b)")
"""Who wrote what, where: a title stays as its authors wrote it."""
_JOINTS = ("\n", " · ", "; ", ": ", " + ", ", ")
"""What the program puts between texts that it joins, the widest first."""
_DEEPEST = 8
"""Texts in texts that are followed."""
_MOST_KEPT = 50_000
"""Texts that are remembered: a page of 10,000 layers has fewer."""


def translated(text: str) -> str:
    """Return a text in the language that is spoken; one that is not known stays as it is."""
    if choice.current() == choice.ENGLISH or not text:
        return text
    return catalogue(choice.current()).translated(text)


def joined(texts: Iterable[str]) -> str:
    """Return texts that are in the language already as a list of it; none is looked at again."""
    comma = ", "
    if choice.current() != choice.ENGLISH:
        comma = catalogue(choice.current()).joint(comma)
    return comma.join(texts)


@cache
def catalogue(language: str) -> Catalogue:
    """Return the catalogue of a language, read once."""
    return Catalogue(parse((_FOLDER / f"{language}.po").read_text(encoding="utf-8")))


class Catalogue:
    """Translations, by text and by template."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._literals: dict[str, str] = {}
        self._known: dict[str, Found | None] = {}
        templates = []
        for entry in entries:
            if not entry.msgstr:
                continue
            template = Template(entry.msgid, entry.msgstr)
            if template.is_literal:
                self._literals[plain(entry.msgid)] = plain(entry.msgstr)
            if not template.is_literal or template.is_part:
                templates.append(template)
        self._by_word = _indexed(templates)

    def translated(self, text: str) -> str:
        """Return a text in the language; one that is not known stays as it is."""
        found = self._find(text, 0)
        return text if found is None else found.text

    def joint(self, text: str) -> str:
        """Return what stands between two texts, where the source has this."""
        return self._literals.get(text, text)

    def _find(self, text: str, depth: int) -> Found | None:
        """Return what leaves the fewest words as they are; of equals the closest template's."""
        if text in self._known:
            return self._known[text]
        if depth > _DEEPEST or not _WORD.search(text) or _CITATION.match(text):
            return None
        found = self._literal(text)
        if found is None:
            best = min(self._candidates(text, depth), key=lambda item: item[0], default=None)
            found = None if best is None else best[1]
        if len(self._known) >= _MOST_KEPT:
            self._known.clear()
        self._known[text] = found
        return found

    def _literal(self, text: str) -> Found | None:
        """Look a text up; its first letter may have been made a capital, or be one no more."""
        core = text.strip()
        found = self._literals.get(text) or self._literals.get(core)
        found = found or self._literals.get(core[:1].swapcase() + core[1:])
        if found is None:
            return None
        return Found(found if text in self._literals else _spaced(found, text))

    def _candidates(self, text: str, depth: int) -> Iterator[tuple[tuple[float, int], Found]]:
        """Yield translations, each with how much it is worth: the least is the best."""

        def find(value: str) -> Found | None:
            return self._find(value, depth + 1)

        words = {"", *_WORD.findall(text)}
        for template in (item for word in words for item in self._by_word.get(word, ())):
            for found in template.translations(text, find):
                yield (found.unknown, -template.weight), found
        for other in (self._sentence(text, find), *self._by_parts(text, find)):
            if other is not None:
                yield (other.unknown, 0), other

    def _sentence(self, text: str, find: Find) -> Found | None:
        """Look a text up that was indented, or made a sentence: with a capital, a full stop."""
        if text != text.strip():
            found = find(text.strip())
            return found and Found(_spaced(found.text, text), found.unknown)
        if text[:1].isupper() and text[1:2].islower():
            lower = text[0].lower() + text[1:]
            if (found := find(lower)) and found.text[:1] != lower[:1]:
                return found
        if text.endswith(".") and (found := find(text[:-1])):
            return Found(found.text + self._literals.get(".", "."), found.unknown)
        return None

    def _by_parts(self, text: str, find: Find) -> Iterator[Found]:
        """Yield what was joined, part by part; a part of one word is a name if nobody says more."""
        for joint in _JOINTS:
            parts = _split(text, joint)
            if len(parts) < 2:
                continue
            for ways in (parts, [parts[0], joint.join(parts[1:])]):
                found = [find(part) if " " in part else None for part in ways]
                if any(found):
                    known = [
                        other or as_it_is(part) for part, other in zip(ways, found, strict=True)
                    ]
                    unknown = sum(item.unknown for item in known)
                    yield Found(self.joint(joint).join(item.text for item in known), unknown)
                    if not unknown:
                        break


def _split(text: str, joint: str) -> list[str]:
    """Split a text outside of brackets.

    >>> _split("x [2, 3], y", ", ")
    ['x [2, 3]', 'y']
    """
    parts: list[str] = []
    for part in text.split(joint):
        if parts and any(parts[-1].count(a) > parts[-1].count(b) for a, b in ("()", "[]", "{}")):
            parts[-1] += joint + part
        else:
            parts.append(part)
    return parts


def _spaced(found: str, text: str) -> str:
    """Return a translation with the space that stood around the text."""
    core = text.strip()
    start = text.index(core)
    return text[:start] + found + text[start + len(core) :]


def _indexed(templates: Iterable[Template]) -> dict[str, tuple[Template, ...]]:
    """Return the templates by the rarest word that a text must have; those without one by ''."""
    templates = list(templates)
    counts = Counter(word for template in templates for word in template.words)
    groups: defaultdict[str, list[Template]] = defaultdict(list)
    for template in templates:
        key = min(template.words, key=lambda word: (counts[word], word), default="")
        groups[key].append(template)
    return {word: tuple(group) for word, group in groups.items()}
