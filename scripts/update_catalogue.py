"""Bring the catalogues of other languages up to date with the source (`make languages`).

New texts are added without a translation, texts that are gone are dropped, translations are kept.
``--check`` writes nothing and exits with 1 where a catalogue is not current or not complete.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from catalogue_texts import source_texts
from list_messages import SOURCE
from torchgauge.language import ENGLISH, LANGUAGES
from torchgauge.language.po import Entry, parse, written
from torchgauge.language.template import fields

FOLDER = SOURCE / "language"


def current_entries(known: list[Entry], texts: dict[str, list[str]]) -> list[Entry]:
    """Return an entry for each text of the source, with the translation that it has."""
    # A merge may leave a text twice, once without its translation.
    translations = {entry.msgid: entry.msgstr for entry in known if entry.msgstr}
    return [
        Entry(text, translations.get(text, ""), tuple(places)) for text, places in texts.items()
    ]


def faults(entries: list[Entry]) -> Iterator[str]:
    """Yield what is wrong with a catalogue: a text without translation, a value that was lost."""
    for entry in entries:
        if not entry.msgstr:
            yield f"not translated: {entry.msgid!r}"
        elif fields(entry.msgid) != fields(entry.msgstr):
            yield f"not the same values: {entry.msgid!r} and {entry.msgstr!r}"


def catalogues() -> Iterator[tuple[str, Path]]:
    """Yield each language with its file."""
    for language in LANGUAGES:
        if language != ENGLISH:
            yield language, FOLDER / f"{language}.po"


def main(arguments: list[str]) -> int:
    texts = source_texts()
    status = 0
    for language, path in catalogues():
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        entries = current_entries(parse(before), texts)
        after = written(language, entries)
        wrong = list(faults(entries))
        if "--check" in arguments:
            status |= bool(wrong) or before != after
        elif before != after:
            path.write_text(after, encoding="utf-8")
            print(f"updated: {path.name}, {len(entries)} texts")
        for line in wrong:
            print(f"{path.name}: {line}")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
