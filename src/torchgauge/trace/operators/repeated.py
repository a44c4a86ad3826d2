"""What layers of PyTorch did in an inference, so that an equal one costs its record alone.

A layer without children whose forward is PyTorch's own does what its class, its attributes and the
looks of its tensors say. Where all that ran were plain operators, and what came out is a new
tensor, the next equal call is noted from the first one's record. Everything that may see a
layer's operators, or change them, makes it run: gradients, modes and transforms of the user's,
known values, other threads, Python functions in the place of PyTorch's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from types import FunctionType
from typing import Any, NamedTuple, TypeAlias

from torch import nn

from torchgauge.facts.trace import TensorSpec
from torchgauge.trace.inspect.modules import STATE, cached_by_class
from torchgauge.trace.operators.op_facts import OpFacts


class Held(NamedTuple):
    """What a layer holds."""

    tensors: list[Any]
    """Parameters and buffers, ``None`` where there is none."""
    attributes: list[Any]


class Layer:
    """What decides the operators of a layer besides its arguments."""

    __slots__ = ("_count", "_functions", "_module", "kind", "names", "noted")

    def __init__(self, module: nn.Module) -> None:
        self.kind = type(module)
        self._functions = _functions_of(self.kind)
        self._module = module
        state = module.__dict__
        self.names = tuple([name for name in state if name not in STATE])
        self._count = len(state) + 1  # with the forward that is put in its place
        self.noted: tuple[list[Any], tuple[Any, ...]] | tuple[()] | None = None
        """From the second call on: attributes that cannot change, and what they add to a key."""

    def held(self) -> Held | None:
        """Return all of it, ``None`` where attributes have come or gone."""
        state = self._module.__dict__
        if len(state) != self._count or state["_modules"]:
            return None
        return Held(
            [*state["_parameters"].values(), *state["_buffers"].values()],
            [state["training"], *[state.get(name, Layer) for name in self.names]],
        )

    @property
    def functions(self) -> tuple[Any, ...]:
        """Return what its forward calls in ``torch.nn.functional``: others may be put there."""
        return tuple(map(_FUNCTIONS.get, self._functions))


_FUNCTIONS = vars(nn.functional)


@cached_by_class
def _functions_of(kind: type[nn.Module]) -> tuple[str, ...]:
    return tuple(name for name in kind.forward.__code__.co_names if name in _FUNCTIONS)


def repeatable(module: nn.Module) -> Layer | None:
    """Return what decides about a leaf of ``torch.nn``, ``None`` where its forward is another."""
    forward: Any = type(module).forward
    if type(forward) is not FunctionType:
        return None
    return Layer(module) if str(forward.__module__).startswith("torch.nn.modules.") else None


Storages: TypeAlias = Callable[[list[int]], tuple[int, ...]]
"""Picks the storages of an operator from those of a call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One operator of a layer, with storages by their position among those of its arguments."""

    facts: OpFacts
    noted: tuple[Any, ...]
    specs: tuple[TensorSpec, ...]
    reads: tuple[int, ...]
    made: int
    """How many new storages it is the first to write."""
    read: Storages
    written: Storages | None
    """``None`` where it writes what it reads."""
    layouts: tuple[Any, ...]


def steps_of(
    ops: Sequence[tuple[Any, ...]], storages: Sequence[int], new: Sequence[int]
) -> tuple[Step, ...] | None:
    """Return the operators of one call of a layer, ``None`` where they cannot stand for another's.

    ``storages`` are those of the arguments and of what the layer holds; the ``new`` ones, in order
    of appearance, come behind them.
    """
    places = {index: place for place, index in reversed([*enumerate((*storages, *new))])}
    known = len(storages)
    steps: list[Step] = []
    for facts, noted, kwargs, specs, _, _, recompute, reads, writes, layouts in ops:
        is_known = places.keys() >= {*reads, *writes}
        if not facts.is_plain or kwargs or recompute or not is_known:
            return None
        sources = tuple([places[index] for index in reads])
        ends = tuple([places[index] for index in writes])
        made = sum([place >= known for place in {*ends}])
        known += made
        steps.append(
            Step(
                facts=facts,
                noted=noted,
                specs=tuple(specs),
                reads=sources,
                made=made,
                read=_picker(sources),
                written=None if ends == sources else _picker(ends),
                layouts=tuple(layouts),
            )
        )
    return tuple(steps)


def _picker(places: tuple[int, ...]) -> Storages:
    """Return a function that picks the items of a list at some places."""
    if len(places) > 1:
        return itemgetter(*places)
    if not places:
        return lambda items: ()
    (only,) = places
    return lambda items: (items[only],)
