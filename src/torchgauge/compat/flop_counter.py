"""``torch.utils.flop_counter`` with nothing missing: ``FlopCounterMode`` around a real run.

The same class, methods, names and table; 1 MAC = 2 FLOPs, forward and backward as they run. The
formulas are torchgauge's, so attention on the CPU, recurrent layers and the fused encoder layer
count too. Nothing is simulated here: the user's code runs, and only its operators are watched.
"""

from __future__ import annotations

import warnings
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import torch
from torch import nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.utils.flop_counter import flop_registry, register_flop_formula

from torchgauge.compat.tables import simple_table
from torchgauge.estimate.compute.elementwise import find_element_count
from torchgauge.estimate.compute.registry import ShapeNotVisibleError, find_flop_formula
from torchgauge.facts.trace import NotCounted, OpRecord, Phase
from torchgauge.trace.inspect.describe import SpecTable, argument, tensors_in
from torchgauge.trace.operators.op_facts import facts_of
from torchgauge.trace.torch_internals.autograd import (
    NO_SEQUENCE_NR,
    current_autograd_node,
    next_sequence_nr,
    node_sequence_nr,
)
from torchgauge.trace.torch_internals.higher_order import higher_order_operators
from torchgauge.trace.torch_internals.modes import DispatchMode

__all__ = ["FlopCounterMode", "flop_registry", "register_flop_formula"]

GLOBAL = "Global"
"""The row of everything that ran, inside of modules and outside."""
_SUFFIXES = ("", "K", "M", "B", "T")
_ALL_DEPTHS = 1 << 30


class FlopCounterMode:
    """Count the FLOPs of everything that runs inside the ``with`` block.

    Args:
        mods: Not needed; modules are found when they are called. A warning says so.
        depth: Levels of modules in the printed table; ``None`` for all.
        display: Print the table at the end of the block.
        custom_mapping: Formulas by operator packet (``torch.ops.mylib.myop``), which come before
            all others. Each gets the operator's arguments with shapes in place of tensors, and
            the shape of the output as ``out_shape``; one with a true attribute ``_get_raw`` gets
            the tensors, and the output as ``out_val``. Formulas registered with
            ``torch.utils.flop_counter.register_flop_formula`` count as well.

    Example:
        >>> model = nn.Linear(4, 3)
        >>> with FlopCounterMode(display=False) as counter:
        ...     out = model(torch.ones(2, 4))
        >>> counter.get_total_flops()
        48
    """

    def __init__(
        self,
        mods: nn.Module | list[nn.Module] | None = None,
        depth: int | None = 2,
        display: bool = True,
        custom_mapping: Mapping[Any, Callable[..., Any]] | None = None,
    ) -> None:
        if mods is not None:
            warnings.warn("mods argument is not needed anymore, you can stop passing it",
                          stacklevel=2)  # fmt: skip
        self.depth = depth
        self.display = display
        self.custom_mapping = dict(custom_mapping or {})
        self.flop_counts: dict[str, dict[Any, int]] = defaultdict(lambda: defaultdict(int))
        self._unknown: Counter[str] = Counter()
        self._contexts = ExitStack()

    @property
    def not_counted(self) -> tuple[NotCounted, ...]:
        """Return the operators that ran and have no formula."""
        return tuple(
            NotCounted(op=name, calls=calls, why="no formula; name one in custom_mapping")
            for name, calls in self._unknown.most_common()
        )

    def get_total_flops(self) -> int:
        """Return the FLOPs of everything that ran in the block."""
        return sum(self.flop_counts[GLOBAL].values())

    def get_flop_counts(self) -> dict[str, dict[Any, int]]:
        """Return FLOPs by module and operator packet; ``"Global"`` holds all."""
        return {name: dict(counts) for name, counts in self.flop_counts.items()}

    def get_table(self, depth: int | None = None) -> str:
        """Return the table of modules down to ``depth`` (the mode's own when left out)."""
        if depth is None:
            depth = _ALL_DEPTHS if self.depth is None else self.depth
        total = self.get_total_flops()
        rows: list[list[str]] = []
        is_covered = False
        for name in sorted(self.flop_counts.keys() - {GLOBAL}):
            level = name.count(".")
            if level < depth:
                is_covered |= sum(self.flop_counts[name].values()) >= total
                rows += self._rows(name, level, total)
        if not is_covered:  # something ran outside of the modules shown
            rows = self._rows(GLOBAL, 0, total) + [[f" {row[0]}", *row[1:]] for row in rows]
        if not self.flop_counts[GLOBAL]:
            rows = [[GLOBAL, "0", "0%"]]
        return simple_table(("Module", "FLOP", "% Total"), rows, (False, True, True))

    def _rows(self, name: str, level: int, total: int) -> list[list[str]]:
        counts = self.flop_counts[name]
        padding = " " * level
        named = [(name, sum(counts.values())), *((f" - {op}", n) for op, n in counts.items())]
        return [
            [padding + text, _scaled(n, total), f"{n / total:.2%}" if total else "0%"]
            for text, n in named
        ]

    def __enter__(self) -> FlopCounterMode:
        self.flop_counts.clear()
        self._unknown.clear()
        with ExitStack() as opened:
            calls = _Calls()
            opened.enter_context(calls)
            opened.enter_context(higher_order_operators())
            opened.enter_context(_Watcher(self, calls))
            self._contexts = opened.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._contexts.close()
        if self.display:
            print(self.get_table(self.depth))


# ---------------------------------------------------------------------------- which module


@dataclass(frozen=True, slots=True)
class _Call:
    module: nn.Module | None
    names: frozenset[str]
    """Of the module and of those that were running when it was called."""


_OUTSIDE = _Call(None, frozenset())


class _Calls:
    """Which modules are running, by hooks that are gone when the context ends.

    A backward operator belongs to the call whose forward made its node of the graph: nodes carry
    numbers that count up in the forward.
    """

    def __init__(self) -> None:
        self._names: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()
        self._walked: WeakSet[nn.Module] = WeakSet()
        self._stack: list[_Call] = []
        self._boundaries: list[int] = [0]
        self._boundary_calls: list[_Call] = [_OUTSIDE]
        self._handles = ExitStack()

    def __enter__(self) -> _Calls:
        before = register_module_forward_pre_hook(self._entered)
        self._handles.callback(before.remove)
        after = register_module_forward_hook(self._left, always_call=True)
        self._handles.callback(after.remove)
        return self

    def __exit__(self, *_: object) -> None:
        self._handles.close()

    def current(self) -> _Call:
        """Return the innermost call that the operator which runs now belongs to."""
        if self._stack:
            return self._stack[-1]
        node = current_autograd_node()
        number = NO_SEQUENCE_NR if node is None else node_sequence_nr(node)
        if number >= NO_SEQUENCE_NR:
            return _OUTSIDE
        return self._boundary_calls[bisect_right(self._boundaries, number) - 1]

    def _entered(self, module: nn.Module, inputs: Any) -> None:
        call = _Call(module, self.current().names | {self._name(module)})
        self._stack.append(call)
        self._mark(call)

    def _left(self, module: nn.Module, inputs: Any, output: Any) -> None:
        if any(call.module is module for call in self._stack):
            while self._stack.pop().module is not module:
                pass
            self._mark(self._stack[-1] if self._stack else _OUTSIDE)

    def _mark(self, call: _Call) -> None:
        self._boundaries.append(next_sequence_nr())
        self._boundary_calls.append(call)

    def _name(self, module: nn.Module) -> str:
        """Return a module's name: its class for one called from outside, else its path below."""
        name = self._names.setdefault(module, type(module).__name__)
        if module not in self._walked:
            self._walked.add(module)
            for child, inner in module.named_children():
                self._names[inner] = f"{name}.{child}"
                self._name(inner)
        return name


# ---------------------------------------------------------------------------- which operator


class _Watcher(DispatchMode):
    """Runs every operator as it is and notes what it costs."""

    def __init__(self, counter: FlopCounterMode, calls: _Calls) -> None:
        super().__init__()
        self._counter = counter
        self._calls = calls
        self._specs = SpecTable("cpu")

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if any(kind.__name__ == "NestedTensor" for kind in types):
            return NotImplemented  # its class runs operators on the values inside, which come here
        kwargs = kwargs or {}
        packet = getattr(func, "overloadpacket", func)
        facts = facts_of(func)
        if facts.is_composite and packet not in self._counter.custom_mapping:
            with self:
                output = func.decompose(*args, **kwargs)
            if output is not NotImplemented:
                return output
        if facts.name == "cond" and facts.is_higher_order:  # the branch that is taken counts
            predicate, when_true, when_false, operands = args
            with self:
                return (when_true if predicate else when_false)(*operands)
        output = func(*args, **kwargs)
        if not facts.is_marker:
            self._count(func, packet, args, kwargs, output)
        return output

    def _count(
        self, func: Any, packet: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> None:
        name, counter = str(func), self._counter
        theirs = counter.custom_mapping.get(packet)
        ours = None if theirs is not None else find_flop_formula(name)
        if theirs is None and ours is None:
            theirs = flop_registry.get(packet)
        if theirs is not None:
            wrapped = packet not in counter.custom_mapping  # torch's own read their shapes
            flops = _apply(theirs, args, kwargs, output, is_raw=wrapped)
        elif ours is None:
            if find_element_count(name) is None and not facts_of(func).may_be_view:
                counter._unknown[name] += 1
            return
        else:
            try:
                flops = ours(self._record(name, args, kwargs, output))
            except (ShapeNotVisibleError, RuntimeError):  # packed weights; a nested tensor
                counter._unknown[name] += 1
                return
        for module in (GLOBAL, *self._calls.current().names):
            counter.flop_counts[module][packet] += flops

    def _record(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> OpRecord:
        specs = self._specs
        return OpRecord(
            index=0,
            name=name,
            args=tuple(argument(value, specs) for value in args),
            kwargs=tuple((key, argument(value, specs)) for key, value in kwargs.items()),
            outputs=tuple(specs.of(tensor) for tensor in tensors_in(output)),
            call=-1,
            phase=Phase.FORWARD,
        )


def _apply(
    formula: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    output: Any,
    *,
    is_raw: bool,
) -> int:
    """Call a formula in one of the two forms that PyTorch's counter defines."""
    if is_raw or getattr(formula, "_get_raw", False):
        return int(formula(*args, **kwargs, out_val=output))
    return int(formula(*_shapes(args), **_shapes(kwargs), out_shape=_shapes(output)))


def _shapes(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.shape
    if isinstance(value, dict):
        return {key: _shapes(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        shapes = [_shapes(item) for item in value]
        return shapes if isinstance(value, list) else tuple(shapes)
    return value


def _scaled(flops: int, total: int) -> str:
    """Return a figure in the unit of the total: 1.01 B is shown as 1010 M."""
    index = max(0, min(len(_SUFFIXES) - 1, (len(str(total)) - 2) // 3))
    return f"{flops / 1000**index:.3f}{_SUFFIXES[index]}"
