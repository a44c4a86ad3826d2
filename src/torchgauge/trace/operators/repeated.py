"""What layers of PyTorch did in an inference, so that an equal one costs its record alone.

A layer without children whose forward is PyTorch's own does what its class, its attributes and the
looks of its tensors say. Where all that ran were plain operators, and what came out is a new
tensor, the next equal call is noted from the first one's record. Everything that may see a
layer's operators, or change them, makes it run: gradients, modes and transforms of the user's,
known values, other threads, Python functions in the place of PyTorch's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from torch import nn

from torchgauge.facts.trace import TensorSpec
from torchgauge.trace.inspect.modules import STATE, cached_by_class
from torchgauge.trace.operators.op_facts import OpFacts


class Layer:
    """What decides the operators of a layer besides its arguments."""

    __slots__ = ("_count", "_functions", "_module", "kind", "names")

    def __init__(self, module: nn.Module) -> None:
        self.kind = type(module)
        self._functions = _functions_of(self.kind)
        self._module = module
        state = module.__dict__
        self.names = tuple(name for name in state if name not in STATE)
        self._count = len(state) + 1  # with the forward that is put in its place

    def values(self) -> list[Any] | None:
        """Return all of it, ``None`` where attributes have come or gone."""
        state = self._module.__dict__
        if len(state) != self._count or state["_modules"]:
            return None
        return [
            state["training"],
            *state["_parameters"].values(),
            *state["_buffers"].values(),
            *[state.get(name, Layer) for name in self.names],
        ]

    @property
    def functions(self) -> tuple[Any, ...]:
        """Return what its forward calls in ``torch.nn.functional``: others may be put there."""
        return tuple(map(vars(nn.functional).get, self._functions))


@cached_by_class
def _functions_of(kind: type[nn.Module]) -> tuple[str, ...]:
    return tuple(name for name in kind.forward.__code__.co_names if name in vars(nn.functional))


def repeatable(module: nn.Module) -> Layer | None:
    """Return what decides about a leaf of ``torch.nn``, ``None`` where its forward is another."""
    forward: Any = type(module).forward
    if type(forward) is not FunctionType:
        return None
    return Layer(module) if str(forward.__module__).startswith("torch.nn.modules.") else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One operator of a layer, with storages by their position among those of its arguments."""

    facts: OpFacts
    noted: tuple[Any, ...]
    specs: tuple[TensorSpec, ...]
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    layouts: tuple[Any, ...]


NEW = -1
"""The position of the storage that a layer makes."""


def steps_of(
    ops: Sequence[tuple[Any, ...]], storages: Sequence[int], made: int
) -> tuple[Step, ...] | None:
    """Return the operators of one call of a layer, ``None`` where they cannot stand for another's.

    ``storages`` are those of the arguments and of what the layer holds, ``made`` is the new one.
    """
    return steps_at(ops, {made: NEW, **{i: place for place, i in reversed([*enumerate(storages)])}})


def steps_at(ops: Sequence[tuple[Any, ...]], places: Mapping[int, int]) -> tuple[Step, ...] | None:
    """Return operators with storages by their places, ``None`` where they stand for no others."""
    steps: list[Step] = []
    for facts, noted, kwargs, specs, _, _, recompute, reads, writes, layouts in ops:
        is_known = places.keys() >= {*reads, *writes}
        if not facts.is_plain or kwargs or recompute or not is_known:
            return None
        steps.append(
            Step(
                facts=facts,
                noted=noted,
                specs=tuple(specs),
                reads=tuple(places[index] for index in reads),
                writes=tuple(places[index] for index in writes),
                layouts=tuple(layouts),
            )
        )
    return tuple(steps)
