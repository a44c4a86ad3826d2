"""``Report`` → ``str``: one small class per format, chosen by name. No torch.

>>> from torchgauge.render import get_renderer
>>> get_renderer("text", width=100).width
100
"""

from __future__ import annotations

from dataclasses import fields
from importlib import import_module
from typing import Any, Protocol

from torchgauge.errors import UsageError
from torchgauge.facts.report import Report

_RENDERERS = {
    "text": ("torchgauge.render.text", "TextRenderer"),
    "json": ("torchgauge.render.json", "JsonRenderer"),
    "markdown": ("torchgauge.render.markdown", "MarkdownRenderer"),
    "csv": ("torchgauge.render.csv", "CsvRenderer"),
    "latex": ("torchgauge.render.latex", "LatexRenderer"),
}

FORMATS = tuple(_RENDERERS)
"""The names that ``get_renderer`` takes."""


class Renderer(Protocol):
    """Turns a report into text; computes nothing and prints nothing."""

    def render(self, report: Report) -> str:
        """Return the report as text of this format."""


def get_renderer(name: str, **options: Any) -> Renderer:
    """Return the renderer of a format.

    Args:
        name: one of ``FORMATS``.
        options: what the renderer's constructor takes.

    Raises:
        UsageError: for an unknown format, or an option that the format does not have.
    """
    if name not in _RENDERERS:
        raise UsageError(f"there is no format {name!r}", hint="one of " + ", ".join(FORMATS))
    module, kind = _RENDERERS[name]
    renderer = getattr(import_module(module), kind)
    known = [field.name for field in fields(renderer)]
    for option in options:
        if option not in known:
            raise UsageError(
                f"{option!r} has no meaning in {name}",
                hint=f"its options are {', '.join(known)}",
            )
    made: Renderer = renderer(**options)
    return made
