"""Before which event of a trace each kernel takes its workspaces."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from itertools import accumulate
from typing import Any

from torchgauge.estimate.memory.workspaces.platform import Workspaces
from torchgauge.facts.trace import Trace

Placed = dict[int, list[tuple[int, tuple[int, ...]]]]
"""``{event: [(op, sizes)]}``: before an event, after all that earlier ops and its own allocated."""


def placed_workspaces(trace: Trace, workspaces: Workspaces | None) -> Placed:
    """Return before which event each kernel takes its workspaces."""
    if workspaces is None:
        return {}
    known: dict[tuple[Any, ...], tuple[int, ...]] = {}
    sizes: dict[int, tuple[int, ...]] = {}
    rules = workspaces.rules
    for op in [op for op in trace.ops if op.name in rules]:
        # a rule sees no more than these, and equal operators share them
        key = (op.name, id(op.args), id(op.kwargs), id(op.outputs), id(op.layouts))
        blocks = known.get(key)
        if blocks is None:
            blocks = known[key] = workspaces(op)
        if blocks:
            sizes[op.index] = blocks
    return placed(trace, sizes)


def placed(trace: Trace, sizes: Mapping[int, tuple[int, ...]]) -> Placed:
    """Return before which event each op takes blocks, given their sizes by op."""
    before: Placed = {}
    ops = list(accumulate([event.op for event in trace.events], max)) if sizes else []
    for op, blocks in sizes.items():
        before.setdefault(bisect_right(ops, op), []).append((op, blocks))
    return before
