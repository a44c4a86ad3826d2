"""``Page`` → ``str``: one small class per format, chosen by name or import path. No torch.

>>> from torchgauge.render import get_format
>>> get_format("text", width=100).width
100
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from importlib import import_module
from typing import Any, Protocol

from torchgauge.errors import UsageError
from torchgauge.render.page import Page

_FORMATS = {
    "text": "torchgauge.render.formats.text:TextFormat",
    "markdown": "torchgauge.render.formats.markdown:MarkdownFormat",
    "html": "torchgauge.render.formats.html:HtmlFormat",
    "csv": "torchgauge.render.formats.csv:CsvFormat",
    "latex": "torchgauge.render.formats.latex:LatexFormat",
}
FORMATS = tuple(_FORMATS)
"""The names that ``get_format`` takes. JSON is not one of them: it is the answer's own."""
IMPORT = "import:"
"""Stands before the place of a format of one's own: ``import:package.module:Class``."""


class Format(Protocol):
    """Turns a page into text; computes nothing and prints nothing."""

    def render(self, page: Page) -> str:
        """Return the page as text of this format."""


def get_format(name: str, **options: Any) -> Any:
    """Return the format of a name, or the one at ``import:package.module:Class``.

    Args:
        name: one of ``FORMATS``, or the place of a class with ``render(page) -> str``.
        options: what the constructor of the format takes.

    Raises:
        UsageError: for an unknown format, or an option that the format does not have.
    """
    choice = f"one of {', '.join(FORMATS)}, or {IMPORT}package.module:Class"
    if not isinstance(name, str):
        raise UsageError(f"{name!r} is not the name of a format", hint=choice)
    if name.startswith(IMPORT):
        kind = _imported(name)
    elif name in _FORMATS:
        kind = _class_at(_FORMATS[name])
    else:
        raise UsageError(f"there is no format {name!r}", hint=choice)
    known = [field.name for field in fields(kind)] if hasattr(kind, "__dataclass_fields__") else []
    for option in options:
        if option not in known:
            options_text = f"its options are {', '.join(known)}" if known else "leave it out"
            raise UsageError(f"{option!r} has no meaning in {name}", hint=options_text)
    return Imported(name, kind, options) if name.startswith(IMPORT) else kind(**options)


class Imported:
    """A format of the user's own; what goes wrong in it is said to be the format's."""

    def __init__(self, name: str, kind: Any, options: Mapping[str, Any]) -> None:
        self._name = name
        with self._told():
            self._format = kind(**options)

    def render(self, page: Page) -> str:
        """Return the page as text of this format.

        Raises:
            UsageError: the format fails, or returns something else.
        """
        with self._told():
            text: object = self._format.render(page)
        if not isinstance(text, str):
            raise UsageError(
                f"{self._name} returned a {type(text).__name__}", hint="render(page) returns text"
            )
        return text

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (Exception, SystemExit) as error:
            raise UsageError(
                f"{self._name} failed: {type(error).__name__}: {error}", hint="mend the format"
            ) from error


def _imported(name: str) -> Any:
    hint = f"write {IMPORT}package.module:Class, a class with render(page) -> str"
    try:
        kind = _class_at(name.removeprefix(IMPORT))
    except (Exception, SystemExit) as error:  # it is the user's code
        why = f"{type(error).__name__}: {error}"
        raise UsageError(f"{name} cannot be imported: {why}", hint=hint) from error
    if not isinstance(kind, type):
        raise UsageError(f"{name} is not a class", hint=hint)
    if not callable(getattr(kind, "render", None)):
        raise UsageError(f"{name} has no method render", hint=hint)
    return kind


def _class_at(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)
