"""MACs of each module and operator under ptflops' options."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from torchgauge.compat.running import ModelRun
from torchgauge.estimate.compute.flops import op_cost
from torchgauge.estimate.compute.registry import find_flop_formula
from torchgauge.facts.trace import ArgumentValue, OpRecord, TensorSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class OpMacs:
    """An operator of the forward."""

    packet: str
    """``aten.convolution``"""
    path: str
    """Of the innermost module that it ran in."""
    macs: int
    is_counted: bool
    """Whether it has a formula and is not ignored."""
    is_ignored: bool = False


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Everything that the printed figures are made of."""

    run: ModelRun
    ops: tuple[OpMacs, ...]
    hooked: Mapping[str, int]
    """MACs that custom hooks added, by path."""

    @cached_property
    def own_macs(self) -> dict[str, int]:
        """Return MACs by the path of the module that spent them itself."""
        found = Counter(self.hooked)
        for op in self.ops:
            found[op.path] += op.macs
        return found

    @cached_property
    def total_macs(self) -> int:
        """Return the MACs of the forward."""
        return sum(self.own_macs.values())


def hook_observer(hooks: Mapping[Any, Any]) -> Callable[..., Any] | None:
    """Return what calls the user's hooks, each after a forward, with the simulated module.

    The modules they see are the analysed copy: what they set there is gone with it.
    """
    by_type = {kind: hook for kind, hook in hooks.items() if isinstance(kind, type)}
    if not by_type:
        return None

    def observe(path: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> int | None:
        hook = by_type.get(type(module))
        if hook is None:
            return None
        state: Any = module
        state.__flops__ = 0
        state.__params__ = sum(parameter.numel() for parameter in module.parameters())
        hook(module, inputs, output)
        return int(state.__flops__)

    return observe


def costs_of(
    run: ModelRun, *, ignored: Sequence[Any], hooks: Mapping[Any, Any], functional: bool
) -> Costs:
    """Return what each operator of a run costs under the options."""
    types = {kind for kind in ignored if isinstance(kind, type)}
    packets = {str(kind) for kind in ignored if not isinstance(kind, type)}
    by_packet = {str(kind): hook for kind, hook in hooks.items() if not isinstance(kind, type)}
    hooked_types = {kind for kind in hooks if isinstance(kind, type)} - types
    inside = run.calls_inside(lambda call: type(run.modules.get(call.path)) in hooked_types)
    kinds = [type(run.modules.get(call.path)) for call in run.trace.calls]
    ops: list[OpMacs] = []
    for op in run.forward_ops:
        kind = kinds[op.call] if op.call >= 0 else type(run.model)
        packet = op.name.rpartition(".")[0] or op.name
        if op.call in inside:  # the hook speaks for it
            continue
        is_ignored = kind in types or packet in packets
        is_left_out = is_ignored or (not functional and not kind.__module__.startswith("torch.nn."))
        macs = None if is_left_out else _macs(op, packet, by_packet)
        ops.append(
            OpMacs(
                packet=packet,
                path=run.trace.calls[op.call].path if op.call >= 0 else "",
                macs=macs or 0,
                is_counted=macs is not None,
                is_ignored=is_ignored,
            )
        )
    return Costs(run=run, ops=tuple(ops), hooked=_hook_macs(run, inside))


def _macs(op: OpRecord, packet: str, hooks: Mapping[str, Callable[..., Any]]) -> int | None:
    """Return an operator's MACs by the user's function, else by ours; ``None`` without one."""
    hook = hooks.get(packet)
    if hook is not None:
        return int(hook([_tensor(value) for value in op.args], tuple(map(_tensor, op.outputs))))
    if find_flop_formula(op.name) is None:
        return None
    cost = op_cost(op)
    return None if cost is None else cost.flops // 2


def _tensor(value: ArgumentValue) -> Any:
    """Return an argument with meta tensors for the tensors."""
    if isinstance(value, TensorSpec):
        return torch.empty(value.shape, dtype=getattr(torch, value.dtype), device="meta")
    if isinstance(value, tuple):
        return [_tensor(item) for item in value]
    return value


def _hook_macs(run: ModelRun, inside: Mapping[int, int]) -> dict[str, int]:
    """Return the hooks' MACs by path; a hook inside of a module with a hook does not count."""
    found: Counter[str] = Counter()
    for index, macs in run.observed:
        if inside.get(index) == index:
            found[run.trace.calls[index].path] += macs
    return found
