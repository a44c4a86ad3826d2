"""Where an answer finds what draws it.

The facts are the lowest room and import no other; what lies above is found by name when it is
asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_PLACES = {
    "frame": "torchgauge.figures.frames:frame",
    "graph": "torchgauge.figures.graph:graph_text",
    "plot": "torchgauge.figures.plot:Plot",
}


def load(door: str) -> Any:
    """Return what stands behind a door."""
    module, _, name = _PLACES[door].partition(":")
    return getattr(import_module(module), name)
