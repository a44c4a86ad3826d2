"""The live page as HTML: the page's program with the data that it opens with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torchgauge.language import ENGLISH, current
from torchgauge.web.live.workbench import Bench, page_of
from torchgauge.web.page import filled

_NEEDS_SCRIPTS = "<p>This page needs JavaScript. torchgauge summary prints the same figures.</p>"


def page_html(benches: Sequence[Bench]) -> str:
    """Return the page that opens with the first model."""
    names = " · ".join(bench.first["answer"]["report"]["model"]["name"] for bench in benches)
    return live_html(page_of(benches, wanted_language()), names)


def live_html(data: Mapping[str, Any], names: str) -> str:
    """Return a page that asks the server; ``names`` are those of the models."""
    return filled(data, title=f"{names} · torchgauge", static=_NEEDS_SCRIPTS)


def wanted_language() -> str | None:
    """Return the language that was asked for; ``None`` for the browser's."""
    return None if current() == ENGLISH else current()
