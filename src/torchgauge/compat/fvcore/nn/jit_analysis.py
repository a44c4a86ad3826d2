"""``JitModelAnalysis``: counts of operators per module, from one simulated run."""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import torch
from torch import nn

from torchgauge.analyze import model_error
from torchgauge.compat.fvcore.nn.jit_handles import Handle
from torchgauge.compat.fvcore.nn.operators import (
    FOLLOWED,
    Operator,
    operators_of,
    simple_name,
)
from torchgauge.compat.running import ModelRun, run
from torchgauge.facts.report import Report

_LOGGER = logging.getLogger("fvcore.nn.jit_analysis")
"""fvcore's own logger, so that programs which set its level have it as they want it."""
_IGNORED = frozenset(
    f"aten::{name}"
    for name in (
        "__and__", "bitwise_not", "clamp", "clamp_", "constant_pad_nd", "dropout", "eq", "floor",
        "floor_divide", "ge", "gt", "masked_fill", "max", "nonzero", "relu", "relu_", "remainder",
    )
)  # fmt: skip
"""What fvcore leaves out without a word although it computes something. Source:
``_IGNORED_OPS`` in ``fvcore/nn/jit_analysis.py`` (0.1.5)."""
_MODES = ("all", "no_tracer_warning", "none")
_ANCESTORS = ("owner", "caller")
_WIDE = ("int", "float", "int64", "float64")
"""Types of a handle's numbers, those of NumPy by name: narrower ones overflow."""
_WITHOUT_FORWARD = (nn.ModuleList, nn.ModuleDict, nn.Module, nn.Identity)
_UNCALLED = (
    "The following submodules of the model were never called during the trace of the graph. They "
    "may be unused, or they were accessed by direct calls to other python methods. In the latter "
    "case they will have zeros for statistics, though their statistics will still contribute to "
    "their parent calling module.\n"
)


@dataclass(frozen=True, slots=True)
class Statistics:
    """Counts by canonical module name, and what was not counted."""

    counts: dict[str, Counter[str]]
    unsupported_ops: dict[str, Counter[str]]
    uncalled_mods: set[str]


class JitModelAnalysis:
    """Count what operators do, per module and per operator, when the model runs once.

    Nothing runs before the first figure is asked for, and changing the handles counts anew. Module
    names are those of ``named_modules()``, ``""`` is the model; a module with several names is
    counted under its first (``canonical_module_name``) and found under all.

    Args:
        model: The model; it runs simulated and is left as it is.
        inputs: A tensor, a tuple of arguments, or a dict of keyword arguments.
    """

    def __init__(self, model: nn.Module, inputs: Any) -> None:
        self._model = model
        self._inputs = (None,) if inputs is None else inputs  # None is an argument like any other
        self._aliases = dict(_names(model))
        """The first name by every name."""
        self._op_handles: dict[str, Handle] = {}
        self._product_handle: Callable[[Operator], Counter[str]] | None = None
        """Counts every operator that multiplies and accumulates and has no handle."""
        self._ignored_ops = set(_IGNORED)
        self._stats: Statistics | None = None
        self._enable_warn_unsupported_ops = True
        self._enable_warn_uncalled_mods = True
        self._warn_trace = "no_tracer_warning"
        self._ancestor_mode = "owner"
        self._belonging: dict[int, frozenset[str]] = {}

    # ------------------------------------------------------------------ reading

    def total(self, module_name: str = "") -> int:
        """Return the count of a module, everything that ran inside of it included."""
        counts = self._analyze().counts[self.canonical_module_name(module_name)]
        return sum(counts.values())

    def by_operator(self, module_name: str = "") -> Counter[str]:
        """Return the counts of a module by operator."""
        return self._analyze().counts[self.canonical_module_name(module_name)]

    def by_module_and_operator(self) -> dict[str, Counter[str]]:
        """Return the counts by module, then by operator."""
        return self._analyze().counts

    def by_module(self) -> Counter[str]:
        """Return the counts by module."""
        counts = self._analyze().counts
        return Counter({name: sum(found.values()) for name, found in counts.items()})

    def unsupported_ops(self, module_name: str = "") -> Counter[str]:
        """Return how often each operator ran that computes something and has no handle."""
        return self._analyze().unsupported_ops[self.canonical_module_name(module_name)]

    def uncalled_modules(self) -> set[str]:
        """Return the modules that never ran."""
        return self._analyze().uncalled_mods

    @property
    def report(self) -> Report:
        """Return torchgauge's report of the run: shapes, MACs, memory, what was not counted."""
        return self._run.report

    def canonical_module_name(self, name: str) -> str:
        """Return the name under which a module is counted: the first of its names.

        Raises:
            KeyError: the model has no such module.
        """
        if not isinstance(name, str):
            raise AssertionError(f"a module's name is text, got {type(name).__name__}")
        if name not in self._aliases:
            raise KeyError(f"the analyzed model has no module {name!r}")
        return self._aliases[name]

    # ------------------------------------------------------------------ settings

    def set_op_handle(self, *args: Any, **kwargs: Handle | None) -> Self:
        """Count an operator with a function of one's own, or leave it out with ``None``.

        Args:
            *args: Names (``"aten::linear"``) and handles in turn.
            **kwargs: Handles by name.

        A handle is called with the inputs and the outputs of the operator, lists of objects that
        answer what handles ask of TorchScript's values; it returns a number or a ``Counter``.

        Raises:
            TypeError: the names and handles do not come in pairs.
        """
        if len(args) % 2 != 0:
            raise TypeError("set_op_handle should be called with pairs of names and handles!")
        given = {**dict(zip(args[::2], args[1::2], strict=True)), **kwargs}
        for name, handle in given.items():
            if handle is None:
                self._ignored_ops.add(name)
                self._op_handles.pop(name, None)
            else:
                self._op_handles[name] = handle
                self._ignored_ops.discard(name)
        self._stats = None
        return self

    def clear_op_handles(self) -> Self:
        """Forget all handles, those that were there from the start included."""
        self._op_handles = {}
        self._product_handle = None
        self._ignored_ops = set(_IGNORED)
        self._stats = None
        return self

    def copy(self, new_model: nn.Module | None = None, new_inputs: Any = None) -> Self:
        """Return an analysis of another model or input with the same settings."""
        other = type(self)(
            self._model if new_model is None else new_model,
            self._inputs if new_inputs is None else new_inputs,
        )
        other._op_handles = dict(self._op_handles)
        other._product_handle = self._product_handle
        other._ignored_ops = set(self._ignored_ops)
        other._enable_warn_unsupported_ops = self._enable_warn_unsupported_ops
        other._enable_warn_uncalled_mods = self._enable_warn_uncalled_mods
        other._warn_trace = self._warn_trace
        other._ancestor_mode = self._ancestor_mode
        return other

    def tracer_warnings(self, mode: str) -> Self:
        """Choose which warnings of the model's own code are heard while it runs.

        ``"all"`` and ``"no_tracer_warning"`` let them through (no TorchScript tracer is at work
        that could add its own), ``"none"`` keeps them quiet.
        """
        if mode not in _MODES:
            raise ValueError(f"Unrecognized tracer warning mode {mode}.")
        self._warn_trace = mode
        return self

    def ancestor_mode(self, mode: str) -> Self:
        """Choose which modules an operator belongs to beside the one that called it.

        ``"owner"``: those that own that module, by its name. ``"caller"``: those that were
        running at that moment. Totals of the model are the same.
        """
        if mode not in _ANCESTORS:
            raise ValueError(f"Unrecognized ancestor mode: {mode}")
        self._ancestor_mode = mode
        self._belonging = {}
        self._stats = None
        return self

    def unsupported_ops_warnings(self, enabled: bool) -> Self:
        """Choose whether operators without a handle are logged."""
        self._enable_warn_unsupported_ops = enabled
        return self

    def uncalled_modules_warnings(self, enabled: bool) -> Self:
        """Choose whether modules that never ran are logged."""
        self._enable_warn_uncalled_mods = enabled
        return self

    # ------------------------------------------------------------------ counting

    @cached_property
    def _run(self) -> ModelRun:
        """Run the model, once; an error of the model comes out as it was raised, with a note."""
        with warnings.catch_warnings():
            if self._warn_trace == "none":
                warnings.simplefilter("ignore")
            result = run(self._model, input_data=self._inputs, note_composites=True)
            if result.error is not None:  # code that wants gradients refuses inference mode
                result = run(self._model, input_data=self._inputs)
        if result.error is not None:
            result.error.add_note(str(model_error(result.run.outcome, result.report)))
            raise result.error
        return result

    @cached_property
    def _operators(self) -> tuple[Operator, ...]:
        return operators_of(self._run)

    @cached_property
    def _prefix(self) -> str:
        """Return the name of the model behind wrappers such as DataParallel."""
        inner = self._run.model
        return next((name for name, module in _walk(self._model) if module is inner), "")

    def _analyze(self) -> Statistics:
        if self._stats is None:
            self._stats = self._count()
            self._warn_unsupported_ops(self._stats.unsupported_ops[""])
            self._warn_uncalled_mods(self._stats.uncalled_mods)
        return self._stats

    def _count(self) -> Statistics:
        names = dict.fromkeys(self._aliases.values())
        counts: dict[str, Counter[str]] = {name: Counter() for name in names}
        unsupported: dict[str, Counter[str]] = {name: Counter() for name in names}
        for operator in self._handled(self._operators):
            found = self._apply(operator)
            for name in self._belongs_to(operator.call):
                if found is None:
                    unsupported[name][operator.kind] += 1
                else:
                    counts[name] += found
        called = {name for call in self._run.trace.calls for name in self._belongs_to(call.index)}
        return Statistics(counts, unsupported, set(names) - called - {""})

    def _handled(self, operators: Iterable[Operator]) -> Iterator[Operator]:
        """Yield the outermost operators that somebody has an answer for, or nobody inside."""
        for operator in operators:
            if operator.kind in FOLLOWED:
                yield from self._handled(operator.inner)
            elif operator.kind in self._op_handles:
                yield operator
            elif operator.kind in self._ignored_ops:
                continue
            elif self._product_handle is not None and operator.macs:
                yield operator
            elif any(self._is_asked_for(inner) for inner in operator.inner):
                yield from self._handled(operator.inner)
            elif not operator.is_free:
                yield operator

    def _is_asked_for(self, operator: Operator) -> bool:
        if operator.kind in self._op_handles:
            return True
        return any(self._is_asked_for(inner) for inner in operator.inner)

    def _apply(self, operator: Operator) -> Counter[str] | None:
        """Return an operator's count, ``None`` where nobody knows one."""
        handle = self._op_handles.get(operator.kind)
        if handle is None:
            if self._product_handle is not None and operator.macs:
                return self._product_handle(operator)
            return None
        inputs = operator.input_values(is_training=self._is_training(operator))
        found = handle(inputs, operator.output_values())
        counted = (
            found if isinstance(found, Counter) else Counter({simple_name(operator.kind): found})
        )
        for value in counted.values():
            if isinstance(value, bool) or type(value).__name__ not in _WIDE:
                raise ValueError(
                    f"Invalid type {type(value)} for the flop count! "
                    "Please use a wider type to avoid overflow."
                )
        return counted

    def _is_training(self, operator: Operator) -> bool | None:
        """Return the user's flag of a batch norm; the simulated model is in evaluation mode."""
        call = self._run.trace.calls[operator.call] if operator.call >= 0 else None
        module = None if call is None else self._run.modules.get(call.path)
        is_norm = isinstance(module, nn.modules.batchnorm._NormBase)
        return True if is_norm and module is not None and module.training else None

    def _belongs_to(self, index: int) -> frozenset[str]:
        """Return the canonical names of the modules that a call belongs to, its own included."""
        found = self._belonging.get(index)
        if found is None:
            find = self._callers if self._ancestor_mode == "caller" else self._owners
            found = self._belonging[index] = frozenset({"", self._prefix, *find(index)})
        return found

    def _callers(self, index: int) -> Iterator[str]:
        calls = self._run.trace.calls
        while index >= 0:
            yield self._name_of(calls[index].path)
            index = calls[index].parent

    def _owners(self, index: int) -> Iterator[str]:
        name = self._name_of(self._run.trace.calls[index].path) if index >= 0 else ""
        while name:
            yield name
            name = name.rpartition(".")[0]

    def _name_of(self, path: str) -> str:
        name = ".".join(part for part in (self._prefix, path) if part)
        return self._aliases.get(name, name)

    def _warn_unsupported_ops(self, ops: Counter[str]) -> None:
        if self._enable_warn_unsupported_ops:
            for op, times in ops.items():
                _LOGGER.warning("Unsupported operator %s encountered %s time(s)", op, times)

    def _warn_uncalled_mods(self, names: set[str]) -> None:
        modules = dict(_walk(self._model))
        shown = sorted(
            name
            for name in names
            if not any(type(modules[name]).forward is c.forward for c in _WITHOUT_FORWARD)
        )
        if self._enable_warn_uncalled_mods and shown:
            _LOGGER.warning("%s%s", _UNCALLED, ", ".join(shown))


def _names(model: nn.Module) -> Iterator[tuple[str, str]]:
    """Yield every name of every module, and the first name of the same module."""
    first: dict[int, str] = {}
    for name, module in _walk(model):
        yield name, first.setdefault(id(module), name)


def _walk(
    module: nn.Module, name: str = "", above: tuple[nn.Module, ...] = ()
) -> Iterator[tuple[str, nn.Module]]:
    """Yield all modules under all their names; one that contains itself is entered once."""
    yield name, module
    if isinstance(module, torch.jit.ScriptModule):
        yield from ((inner, m) for inner, m in module.named_modules(prefix=name) if inner != name)
        return
    for child_name, child in module._modules.items():
        if child is not None and all(child is not outer for outer in (*above, module)):
            path = f"{name}.{child_name}" if name else child_name
            yield from _walk(child, path, (*above, module))
