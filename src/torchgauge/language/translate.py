"""Texts in the language that is spoken: looked up, matched to a template, or part by part."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from torchgauge.language import choice
from torchgauge.language.po import Entry, parse
from torchgauge.language.template import Template

_FOLDER = Path(__file__).parent
_WORD = re.compile(r"[A-Za-z]{2,}")
_JOINTS = ("\n", " · ", "; ", ": ", " + ", ", ")
"""What the program puts between texts that it joins, the widest first."""
_DEEPEST = 8
"""Texts in texts that are followed."""


def translated(text: str) -> str:
    """Return a text in the language that is spoken; one that is not known stays as it is."""
    if choice.current() == choice.ENGLISH or not text:
        return text
    return catalogue(choice.current()).translated(text)


@cache
def catalogue(language: str) -> Catalogue:
    """Return the catalogue of a language, read once."""
    return Catalogue(parse((_FOLDER / f"{language}.po").read_text(encoding="utf-8")))


class Catalogue:
    """Translations, by text and by template."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._literals: dict[str, str] = {}
        self._known: dict[str, str] = {}
        templates = []
        for entry in entries:
            if not entry.msgstr:
                continue
            template = Template(entry.msgid, entry.msgstr)
            if template.is_literal:
                self._literals[entry.msgid] = entry.msgstr
            if not template.is_literal or template.is_part:
                templates.append(template)
        self._by_word = _indexed(templates)

    def translated(self, text: str) -> str:
        """Return a text in the language; one that is not known stays as it is."""
        known = self._known.get(text)
        if known is None:
            known = self._find(text, 0) or text
            self._known[text] = known
        return known

    def _find(self, text: str, depth: int) -> str | None:
        if depth > _DEEPEST or not _WORD.search(text):
            return None
        return self._literal(text) or self._by_template(text, depth) or self._by_parts(text, depth)

    def _literal(self, text: str) -> str | None:
        """Look a text up; its first letter may have been made a capital, or be one no more."""
        core = text.strip()
        found = self._literals.get(text) or self._literals.get(core)
        found = found or self._literals.get(core[:1].swapcase() + core[1:])
        if found is None or text == core or text in self._literals:
            return found
        start = text.index(core)
        return text[:start] + found + text[start + len(core) :]

    def _by_template(self, text: str, depth: int) -> str | None:
        words = {"", *_WORD.findall(text)}
        candidates = [item for word in words for item in self._by_word.get(word, ())]
        candidates.sort(key=lambda item: -item.weight)
        for template in candidates:
            found = template.translate(text, lambda value: self._find(value, depth + 1))
            if found is not None:
                return found
        return None

    def _by_parts(self, text: str, depth: int) -> str | None:
        """Translate what was joined; a part of one word is a name, as long as nobody knows more."""
        for joint in _JOINTS:
            parts = text.split(joint)
            if len(parts) > 1:
                found = [self._find(part, depth + 1) if " " in part else None for part in parts]
                if any(found):
                    both = zip(parts, found, strict=True)
                    return joint.join(part if other is None else other for part, other in both)
        return None


def _indexed(templates: Iterable[Template]) -> dict[str, tuple[Template, ...]]:
    """Return the templates by the rarest word that a text must have; those without one by ''."""
    templates = list(templates)
    counts = Counter(word for template in templates for word in template.words)
    groups: defaultdict[str, list[Template]] = defaultdict(list)
    for template in templates:
        key = min(template.words, key=lambda word: (counts[word], word), default="")
        groups[key].append(template)
    return {word: tuple(group) for word, group in groups.items()}
