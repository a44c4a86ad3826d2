"""Figures of a page: what each names is looked up in the page's data, and its text is checked."""

from __future__ import annotations

from collections.abc import Iterator
from math import isclose
from typing import Any

from torchgauge.units import (
    format_bytes,
    format_count,
    format_integer,
    format_milliseconds,
    format_percent,
    format_rate,
)

_ALL = """() => [...document.querySelectorAll('[data-field]')].map(element =>
    [element.dataset.field, Number(element.dataset.value), element.textContent])"""


def figures(page: Any) -> list[tuple[str, float, str]]:
    """Return the name, the exact number and the text of each figure that the page shows."""
    return [(field, value, text) for field, value, text in page.evaluate(_ALL)]


def wrong(page: Any, answer: dict[str, Any]) -> Iterator[str]:
    """Yield the figures that are not what the data say, or not written as the terminal does."""
    for field, shown, text in figures(page):
        value = look_up(answer, field)
        if not isclose(shown, value, rel_tol=1e-9, abs_tol=1e-6):
            yield f"{field}: {shown} is shown, the data have {value}"
        # Shares in percent are rounded first, to whole percents.
        elif not any(written in text for written in (*_texts(value), *_texts(round(value, 2)))):
            yield f"{field}: {value} is written as {text!r}"


def look_up(answer: dict[str, Any], field: str) -> float:
    """Return the number of an answer that ``web/src/figure.ts`` names so.

    Figures of advice are looked up where the answer holds it, as ``answer["advice"]``.
    """
    kind, _, rest = field.partition(".")
    report = answer["report"]
    if kind in ("own", "modules"):
        indices, _, cost = rest.partition(".")
        return _cost(answer, kind, [int(index) for index in indices.split(",")], cost)
    if kind == "kinds":
        operators = report["time"]["ops"]
        return float(sum(item["time_ms"] for item in operators if item["kernel"] == rest))
    at: Any = answer if kind in ("devices", "step", "advice") else report
    for key in field.split("."):
        at = at[int(key)] if isinstance(at, list) else at[key]
    return float(at)


def _cost(answer: dict[str, Any], kind: str, indices: list[int], cost: str) -> float:
    own = answer["own"][cost]
    if kind == "own":
        values = [own[index] for index in indices]
    else:
        paths = [module["path"] for module in answer["report"]["modules"]]
        values = [
            own[place]
            for index in indices
            for place, path in enumerate(paths)
            if path == paths[index] or not paths[index] or path.startswith(f"{paths[index]}.")
        ]
    return float(max(values) if cost == "peak_allocated_bytes" else sum(values))


def _texts(value: float) -> list[str]:
    whole = [format_integer(int(value))] if float(value).is_integer() else []
    return [
        format_bytes(value),
        format_count(value),
        format_milliseconds(value),
        format_percent(value, 1),
        format_rate(value),
        *whole,
    ]
