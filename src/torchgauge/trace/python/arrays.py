"""Whether an array that becomes a tensor is a constant of the model, or was computed just now."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from itertools import islice
from types import FrameType, ModuleType
from typing import Any

import torch

from torchgauge.trace.inspect.code_lines import is_session, place

FEW_FLOATS = 16
FEW_INTEGERS = 1 << 10
"""Up to so many values may go to and fro in one call of a layer (a list of lengths, the experts of
a mixture, a threshold) before it counts as work on values."""
_DEPTH = 4
"""How deep an array may lie in the attributes of a module and still be a constant of it."""
_MOST = 100_000
"""Values that are looked at."""


def is_computed(data: Any, frame: FrameType) -> bool:
    """Return whether an array of some size is none of the constants that ``frame`` can reach."""
    if isinstance(data, (bytearray, memoryview, array)):
        size, few = memoryview(data).nbytes, FEW_FLOATS
    elif hasattr(data, "__array_interface__"):
        size, few = data.size, FEW_FLOATS if data.dtype.kind in "fc" else FEW_INTEGERS
    else:
        return False
    if size <= few:
        return False
    owner = data
    known = {id(value) for value in islice(_constants(frame), _MOST)}
    while owner is not None:
        if id(owner) in known:
            return False
        owner = getattr(owner, "base", None)
    return True


def _constants(frame: FrameType | None) -> Iterator[Any]:
    """Yield what the modules that are running hold, their classes, their files and closures."""
    while frame is not None and not is_session(frame.f_code.co_filename):
        if place(frame.f_code.co_filename):
            own = frame.f_locals.get("self")
            yield from _held(own, _DEPTH)
            yield from _held(dict(vars(type(own))), _DEPTH)
            yield from _held(frame.f_globals, 2)
            yield from (frame.f_locals.get(name) for name in frame.f_code.co_freevars)
        frame = frame.f_back


def _held(value: Any, depth: int) -> Iterator[Any]:
    """Yield a value and what it holds, down to some depth."""
    yield value
    if depth == 0 or isinstance(value, (str, type, ModuleType, torch.Tensor)):
        return
    if isinstance(value, dict):
        inside: Iterable[Any] = tuple(value.values())
    elif isinstance(value, (list, tuple, set)):
        inside = tuple(value)
    else:
        inside = tuple(getattr(value, "__dict__", {}).values())
    for item in inside:
        yield from _held(item, depth - 1)
