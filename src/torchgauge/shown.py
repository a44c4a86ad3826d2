"""What lets an answer show itself: in the cell of a notebook, and as one line at a prompt.

Answers lie in the lowest rooms, and what draws them above. So the drawings are found by name, when
an answer is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from importlib import import_module
from typing import Any, Final

_DOORS: Final = {
    "apply a plan": "torchgauge.checkpoints.apply:apply",
    "apply a suggestion": "torchgauge.advise.apply:apply",
    "bundle": "torchgauge.render.cells:bundle_of",
    "dataframe": "torchgauge.figures.frames:frame",
    "figures": "torchgauge.figures.plot:Plot",
    "graph": "torchgauge.figures.graph:graph_text",
    "is shown": "torchgauge.render.shell:is_shown",
    "page as HTML": "torchgauge.web.page:answer_html",
    "lines of an error": "torchgauge.notebook.failures:lines_of",
    "view": "torchgauge.notebook.views:view",
}
"""Rooms above this one that are entered from it, each at one place."""


def door(name: str) -> Callable[..., Any]:
    """Return the function behind a name, its module imported."""
    module, _, function = _DOORS[name].partition(":")
    found: Callable[..., Any] = getattr(import_module(module), function)
    return found


class Shown:
    """An answer that a notebook draws; a class of these says in ``__str__`` what it holds."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self}>"

    def _repr_mimebundle_(
        self, include: Container[str] | None = None, exclude: Container[str] | None = None
    ) -> dict[str, str]:
        """Return the answer as text and as HTML without a script, for a notebook."""
        bundle: dict[str, str] = door("bundle")(self)
        return {
            kind: text
            for kind, text in bundle.items()
            if (include is None or kind in include) and (exclude is None or kind not in exclude)
        }

    @property
    def _ipython_display_(self) -> Callable[[], None]:
        """Return what shows nothing: the cell that ends in this answer has shown it already.

        Raises:
            AttributeError: it has not, so it is shown as it is everywhere else.
        """
        if not door("is shown")(self, as_value=True):
            raise AttributeError("the answer was not shown in this cell")
        return _nothing


def _nothing() -> None:
    """Show nothing."""
