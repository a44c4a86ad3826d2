"""Choices that depend on unknown values: an even split, stated in the report.

A mixture of experts sends each token to the experts that ``topk`` chooses. Which ones those are
decides how many tokens each expert gets, hence shapes; their total does not depend on it. So the
indices of a choice get values: 0, 1, 2, … over the choices, in turns, for one row after another.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from torchgauge.trace.operators.op_facts import OpCall
from torchgauge.trace.shapes.rule import Args
from torchgauge.trace.values.limits import GUESS_LIMIT
from torchgauge.trace.values.values import ValueStore

CHOICES = frozenset(("topk", "argmax", "argmin", "sort", "argsort", "max", "min", "multinomial"))
"""Operators that return which elements of a dimension they chose."""
_OPTIONS_LIMIT = 4096
"""Choices from more are not routing: words of a vocabulary, keys of attention."""
_CHOSEN_LIMIT = 256
"""Elements chosen from one row up to which it is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Where values were taken to be spread evenly."""

    name: str
    options: int
    place: str


def spread(values: ValueStore, call: OpCall, output: Any, place: str) -> None:
    """Give the indices that an operator chose, by unknown values, an even spread."""
    indices = output[1] if isinstance(output, (tuple, list)) else output
    base, source = call.facts.base, call.args[0]
    dim = _dimension(base, call.args, call.kwargs)
    if dim is None or indices.dtype != torch.int64 or source.dim() == 0:
        return
    options = source.shape[dim]
    size = indices.shape[dim] if indices.dim() == source.dim() else 1
    is_routing = 1 < options <= _OPTIONS_LIMIT and size <= _CHOSEN_LIMIT
    count = indices.numel()
    if not is_routing or not 0 < count <= GUESS_LIMIT or values.get(indices) is not None:
        return
    turns = torch.arange(count, device="cpu") % options
    if indices.dim() == source.dim():
        shape = [*indices.shape[:dim], *indices.shape[dim + 1 :], size]
        turns = turns.view(shape).movedim(-1, dim)
    origin = Choice(name=base, options=options, place=place)
    values.set(indices, turns.view(indices.shape), origins=frozenset((origin,)))


def _dimension(base: str, args: Args, kwargs: Mapping[str, Any]) -> int | None:
    if base == "multinomial":
        dim = -1
    elif base in ("topk", "sort", "argsort"):
        default = 2 if base == "topk" else 1
        given = [a for a in args[1:] if isinstance(a, int) and not isinstance(a, bool)]
        position = default - 1 if base == "topk" else 0
        dim = kwargs.get("dim", given[position] if len(given) > position else -1)
    else:
        dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
        if not isinstance(dim, int):
            return None
    rank: int = args[0].dim()
    return int(dim) % max(1, rank)


def stated(decided_on: Mapping[tuple[str, Hashable], str]) -> list[str]:
    """Return what was decided on which guess, and where first, as sentences for the report."""
    sentences: dict[str, None] = {}
    places: dict[tuple[str, int], dict[str, None]] = {}
    for (what, origin), place in decided_on.items():
        if isinstance(origin, Choice):
            places.setdefault((origin.name, origin.options), {}).setdefault(origin.place)
        else:
            where = f" (first in {place})" if place else ""
            sentences.setdefault(f"{what} was decided on {origin}{where}")
    for (name, options), found in places.items():
        first = next(iter(found)) or "the model"
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        sentences.setdefault(
            f"an even split over {options} choices was assumed, because what {name} chooses "
            f"depends on values that a simulated run does not have (in {first}{more})"
        )
    return list(sentences)
