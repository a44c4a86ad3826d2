"""What each module costs: the trace's ops and storages, summed along the module tree."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from torchgauge.estimate.compute.flops import OpCost, not_counted_reason, op_cost
from torchgauge.estimate.memory.lifetimes import LiveBytes
from torchgauge.estimate.memory.roles import saved_activations
from torchgauge.facts.report import CallCost, ModuleReport, Totals
from torchgauge.facts.trace import (
    ModuleCall,
    ModuleInfo,
    NotCounted,
    OpRecord,
    ParameterInfo,
    Phase,
    Role,
    Trace,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compute:
    """FLOPs per call (children included) and in total."""

    forward: tuple[int, ...]
    backward: tuple[int, ...]
    elementwise: tuple[int, ...]
    totals: dict[str, int]
    not_counted: tuple[NotCounted, ...]


def estimate_compute(trace: Trace, cost: Callable[[OpRecord], OpCost | None] = op_cost) -> Compute:
    """Sum the cost of every op: forward, backward and optimizer FLOPs, element-wise work."""
    count = len(trace.calls)
    forward, backward, elementwise = [0] * count, [0] * count, [0] * count
    totals = {"forward": 0, "backward": 0, "optimizer": 0, "elementwise": 0}
    unknown: Counter[str] = Counter()
    first: dict[str, OpRecord] = {}
    known: dict[tuple[Any, ...], OpCost | None] = {}
    for op in trace.ops:  # a rule sees no more than these, and like operators share them
        key = (op.name, id(op.args), id(op.kwargs), id(op.outputs), op.is_view)
        if cost is not op_cost:
            found = cost(op)
        elif key in known:
            found = known[key]
        else:
            found = known[key] = op_cost(op)
        if found is None:
            unknown[op.name] += 1
            first.setdefault(op.name, op)
            continue
        if not found.flops and not found.elementwise:
            continue
        call, phase = op.call, op.phase
        if phase is Phase.FORWARD or phase is Phase.LOSS:
            totals["forward"] += found.flops
            totals["elementwise"] += found.elementwise
            if call >= 0:
                forward[call] += found.flops
                elementwise[call] += found.elementwise
        elif phase is Phase.BACKWARD:
            totals["backward"] += found.flops
            if call >= 0:
                backward[call] += found.flops
        else:
            totals["optimizer"] += found.flops
    for index in range(count - 1, -1, -1):
        parent = trace.calls[index].parent
        if parent >= 0:
            forward[parent] += forward[index]
            backward[parent] += backward[index]
            elementwise[parent] += elementwise[index]
    return Compute(
        forward=tuple(forward),
        backward=tuple(backward),
        elementwise=tuple(elementwise),
        totals=totals,
        not_counted=tuple(
            NotCounted(op=name, calls=calls, why=not_counted_reason(first[name]))
            for name, calls in unknown.most_common()
        ),
    )


def module_reports(trace: Trace, compute: Compute, live: LiveBytes) -> tuple[ModuleReport, ...]:
    """Return one report per module path, with the costs of its calls."""
    saved = _SavedBytes(trace)
    calls: defaultdict[str, list[CallCost]] = defaultdict(list)
    for call in trace.calls:
        calls[call.path].append(_call_cost(trace, call, compute, live, saved))
    trees = _subtrees(trace.modules)
    gradients = _gradient_bytes(trace)
    return tuple(
        _module_report(
            info, trees[info.shared_with or info.path], tuple(calls[info.path]), gradients
        )
        for info in trace.modules
    )


def totals(trace: Trace, compute: Compute) -> Totals:
    """Return the sums over the model; each shared tensor once."""
    own = [
        item for module in trace.modules for item in module.parameters if item.shared_with is None
    ]
    sums, flops = _sums(own), compute.totals
    return Totals(
        **sums,
        non_trainable_params=sums["params"] - sums["trainable_params"],
        forward_macs=flops["forward"] // 2,
        forward_flops=flops["forward"],
        backward_flops=flops["backward"],
        optimizer_flops=flops["optimizer"],
        elementwise_flops=flops["elementwise"],
    )


def _sums(items: Iterable[ParameterInfo]) -> dict[str, int]:
    """Return elements and stored bytes of parameters and of buffers."""
    params = trainable = param_bytes = buffers = buffer_bytes = 0
    for item in items:
        if item.is_buffer:
            buffers += item.numel
            buffer_bytes += item.stored_bytes
        else:
            params += item.numel
            param_bytes += item.stored_bytes
            trainable += item.numel if item.trainable else 0
    return {
        "params": params,
        "trainable_params": trainable,
        "param_bytes": param_bytes,
        "buffers": buffers,
        "buffer_bytes": buffer_bytes,
    }


def never_used(trace: Trace) -> tuple[NotCounted, ...]:
    """Return the topmost modules with parameters of which nothing ran and nothing was read."""
    if not trace.calls or trace.failure is not None:
        return ()
    used = {call.path for call in trace.calls}
    names = {
        storage.label for storage in trace.storages if storage.role in (Role.PARAMETER, Role.BUFFER)
    }
    read = {index for op in trace.ops for index in op.reads}
    used_names = {trace.storages[index].label for index in read} & names
    used |= {name.rpartition(".")[0] for name in used_names}
    for path in tuple(used):
        while path:
            path = path.rpartition(".")[0]
            used.add(path)
    found: list[NotCounted] = []
    for info in trace.modules:
        if info.path in used or info.shared_with is not None:
            continue
        if any(info.path.startswith(f"{entry.op}.") for entry in found):
            continue
        prefix = f"{info.path}."
        params = sum(
            item.numel
            for module in trace.modules
            if module.path == info.path or module.path.startswith(prefix)
            for item in module.parameters
            if item.shared_with is None
        )
        if params:
            why = f"{info.type} was never called; its {params:,} parameters are counted"
            found.append(NotCounted(op=info.path, calls=0, why=why))
    return tuple(found)


class _SavedBytes:
    """Bytes saved for backward that were allocated in a range of ops."""

    def __init__(self, trace: Trace) -> None:
        saved = saved_activations(trace)
        self._ops = [storage.op for storage in saved]  # in order of appearance, so sorted
        self._sums = list(accumulate((storage.nbytes for storage in saved), initial=0))

    def between(self, first_op: int, end_op: int) -> int:
        """Return the bytes allocated by ops ``first_op <= i < end_op``."""
        low, high = bisect_left(self._ops, first_op), bisect_left(self._ops, end_op)
        return self._sums[high] - self._sums[low]


def _call_cost(
    trace: Trace, call: ModuleCall, compute: Compute, live: LiveBytes, saved: _SavedBytes
) -> CallCost:
    storages = trace.storages
    recompute = call.phase is Phase.BACKWARD
    return CallCost(
        inputs=call.inputs,
        outputs=call.outputs,
        forward_macs=compute.forward[call.index] // 2,
        backward_flops=compute.backward[call.index],
        elementwise_flops=compute.elementwise[call.index],
        output_bytes=sum(
            [
                storages[index].nbytes
                for index in call.output_storages
                if storages[index].op >= call.first_op
            ]
        ),
        saved_activation_bytes=0 if recompute else saved.between(call.first_op, call.end_op),
        peak_allocated_bytes=live.peak_between(call.first_event, call.end_event),
        parent=trace.calls[call.parent].path if call.parent >= 0 else None,
        recompute=recompute,
        completed=call.completed,
    )


def _gradient_bytes(trace: Trace) -> dict[str, int]:
    """Return the bytes of each parameter's gradient by the parameter's name."""
    found: defaultdict[str, int] = defaultdict(int)
    for storage in trace.storages:
        if storage.role is Role.GRADIENT:
            found[storage.label] += storage.nbytes
    return found


def _module_report(
    info: ModuleInfo,
    tree: dict[str, ParameterInfo],
    calls: tuple[CallCost, ...],
    gradients: dict[str, int],
) -> ModuleReport:
    own = [item for item in info.parameters if item.shared_with is None]
    return ModuleReport(
        path=info.path,
        type=info.type,
        depth=info.depth,
        **_sums(tree.values()),
        own_params=sum([item.numel for item in own if not item.is_buffer]),
        own_parameters=info.parameters,
        own_gradient_bytes=sum([gradients.get(item.name, 0) for item in own]),
        shared_with=info.shared_with,
        has_forward=info.has_forward,
        calls=calls,
    )


def _subtrees(modules: tuple[ModuleInfo, ...]) -> dict[str, dict[str, ParameterInfo]]:
    """Return, per path, the distinct tensors below it by the first name of each."""
    by_path = {info.path: info for info in modules}
    trees: dict[str, dict[str, ParameterInfo]] = {info.path: {} for info in modules}
    for info in reversed(modules):  # children come after their parents
        tree = {item.shared_with or item.name: item for item in info.parameters}
        tree.update(trees[info.path])
        trees[info.path] = tree
        if info.shared_with is None and info.path:
            _add_to_parent(trees, info.path, tree)
    for info in modules:
        if info.shared_with is not None and info.shared_with in by_path:
            path = info.path
            while path:  # a repeated module also belongs to the subtrees that repeat it
                path = path.rpartition(".")[0]
                trees[path] = {**trees[info.shared_with], **trees[path]}
    return trees


def _add_to_parent(
    trees: dict[str, dict[str, ParameterInfo]], path: str, tree: dict[str, ParameterInfo]
) -> None:
    parent = trees[path.rpartition(".")[0]]
    for name, item in tree.items():
        parent.setdefault(name, item)
