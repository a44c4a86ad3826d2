"""The data of a page in full, as the page's program reads them: undoes ``torchgauge.web.lean``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import accumulate, islice
from typing import Any

_BEFORE, _BEHIND = '<script type="application/json" id="data">', "</script>"


def data_in(html: str) -> dict[str, Any]:
    """Return what a page holds."""
    found: dict[str, Any] = whole(json.loads(html.partition(_BEFORE)[2].partition(_BEHIND)[0]))
    return found


def whole(short: Any) -> Any:
    """Return what ``lean`` made its short form from."""
    if isinstance(short, list):
        return [whole(item) for item in short]
    if not isinstance(short, dict):
        return short
    if "$" not in short:
        return {key: whole(item) for key, item in short.items()}
    kind = short["$"]
    if kind == "runs":
        values: Iterator[Any] = iter(short["of"])
        return [value for value in values for _ in range(next(values))]
    of = whole(short["of"])
    if kind == "rows":
        return [dict(zip(short["keys"], row, strict=True)) for row in zip(*of, strict=True)]
    if kind == "sums":
        return list(accumulate(of))
    if kind == "same":
        return [of[number] for number in whole(short["at"])]
    if kind == "parts":
        flat = iter(of)
        return [list(islice(flat, size)) for size in whole(short["sizes"])]
    assert kind == "object"
    return dict(zip(short["keys"], of, strict=True))
