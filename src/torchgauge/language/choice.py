"""Which language is spoken: chosen by an option or by what the environment says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

ENGLISH = "en"
LANGUAGES = (ENGLISH, "zh")
"""English, and those that have a catalogue ``NAME.po`` in this folder."""
OVERRIDE = "TORCHGAUGE_LANG"
_LOCALES = ("LC_ALL", "LC_MESSAGES", "LANG")
"""As POSIX has them, the first that is set decides; ``LANGUAGE`` goes before them."""

_current = ENGLISH
"""Of the whole process: a server's threads speak as the one that started them."""


def current() -> str:
    """Return the language that texts are written in."""
    return _current


def use(name: str) -> None:
    """Write texts in this language from now on.

    Raises:
        ValueError: there is no catalogue for it.
    """
    global _current
    if name not in LANGUAGES:
        raise ValueError(f"unknown language {name!r}; one of {', '.join(LANGUAGES)}")
    _current = name


@contextmanager
def spoken(name: str) -> Iterator[None]:
    """Write texts in this language while the context is open.

    Raises:
        ValueError: there is no catalogue for it.
    """
    before = current()
    use(name)
    try:
        yield
    finally:
        use(before)


def preferred(environment: Mapping[str, str]) -> str:
    """Return the language that the environment asks for, English where there is no other.

    >>> preferred({"LANG": "zh_CN.UTF-8"}), preferred({"LANG": "fr_FR.UTF-8"})
    ('zh', 'en')
    >>> preferred({"LANG": "zh_CN.UTF-8", "TORCHGAUGE_LANG": "en"})
    'en'
    """
    if chosen := environment.get(OVERRIDE):
        return _known(chosen)
    locale = next((value for name in _LOCALES if (value := environment.get(name))), "C")
    if locale in ("C", "POSIX"):  # where gettext does not look at LANGUAGE either
        return ENGLISH
    return _known(environment.get("LANGUAGE") or locale)


def _known(wish: str) -> str:
    """Return the first language of a list such as ``zh_CN:en`` that has a catalogue."""
    for item in wish.split(":"):
        for name in LANGUAGES:
            if item.lower().startswith(name):
                return name
    return ENGLISH
