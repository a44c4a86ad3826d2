"""What each module costs: the trace's ops and storages, summed along the module tree."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate, chain

from torchgauge.estimate.compute.flops import not_counted_reason, op_costs
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


_TOTALS = {Phase.FORWARD: "forward", Phase.LOSS: "forward", Phase.BACKWARD: "backward"}


def estimate_compute(trace: Trace) -> Compute:
    """Sum the cost of every op: forward, backward and optimizer FLOPs, element-wise work."""
    by_call = {name: [0] * len(trace.calls) for name in ("forward", "backward", "elementwise")}
    totals = {"forward": 0, "backward": 0, "optimizer": 0, "elementwise": 0}
    unknown: Counter[str] = Counter()
    first: dict[str, OpRecord] = {}
    for op, found in op_costs(trace.ops):
        if found is None:
            unknown[op.name] += 1
            first.setdefault(op.name, op)
            continue
        work = [(_TOTALS.get(op.phase, "optimizer"), found.flops)]
        if work[0][0] == "forward":
            work.append(("elementwise", found.elementwise))
        for name, count in work:
            totals[name] += count
            if op.call >= 0 and name in by_call:
                by_call[name][op.call] += count
    for call in reversed(trace.calls):
        if call.parent >= 0:
            for counts in by_call.values():
                counts[call.parent] += counts[call.index]
    return Compute(
        **{name: tuple(counts) for name, counts in by_call.items()},
        totals=totals,
        not_counted=tuple(
            NotCounted(op=name, calls=calls, why=not_counted_reason(first[name]))
            for name, calls in unknown.most_common()
        ),
    )


def module_reports(trace: Trace, compute: Compute, live: LiveBytes) -> tuple[ModuleReport, ...]:
    """Return one report per module path, with the costs of its calls."""
    saved = saved_activations(trace)
    ops = [storage.op for storage in saved]  # in order of appearance, so sorted
    sums = list(accumulate((storage.nbytes for storage in saved), initial=0))
    calls: defaultdict[str, list[CallCost]] = defaultdict(list)
    for call in trace.calls:
        inside = sums[bisect_left(ops, call.end_op)] - sums[bisect_left(ops, call.first_op)]
        calls[call.path].append(_call_cost(trace, call, compute, live, inside))
    trees = _subtrees(trace.modules)
    gradients: Counter[str] = Counter()  # bytes of each parameter's, by the parameter's name
    for storage in trace.storages:
        if storage.role is Role.GRADIENT:
            gradients[storage.label] += storage.nbytes
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
    params: list[ParameterInfo] = []
    buffers: list[ParameterInfo] = []
    for item in items:
        (buffers if item.is_buffer else params).append(item)
    return {
        "params": sum([item.numel for item in params]),
        "trainable_params": sum([item.numel for item in params if item.trainable]),
        "param_bytes": sum([item.stored_bytes for item in params]),
        "buffers": sum([item.numel for item in buffers]),
        "buffer_bytes": sum([item.stored_bytes for item in buffers]),
    }


def never_used(trace: Trace) -> tuple[NotCounted, ...]:
    """Return the topmost modules with parameters of which nothing ran and nothing was read."""
    if not trace.calls or trace.failure is not None:
        return ()
    used = {call.path for call in trace.calls}
    names = {
        storage.label for storage in trace.storages if storage.role in (Role.PARAMETER, Role.BUFFER)
    }
    read = set(chain.from_iterable([op.reads for op in trace.ops]))
    used_names = {trace.storages[index].label for index in read} & names
    used |= {name.rpartition(".")[0] for name in used_names}
    for path in tuple(used):
        used.update(_with_parents(path))
    below: Counter[str] = Counter()
    for info in trace.modules:
        own = sum([item.numel for item in info.parameters if item.shared_with is None])
        if own:
            for path in _with_parents(info.path):
                below[path] += own
    found: dict[str, NotCounted] = {}
    for info in trace.modules:
        if info.path in used or info.shared_with is not None or not below[info.path]:
            continue
        if found.keys().isdisjoint(_with_parents(info.path)):
            params = below[info.path]
            why = f"{info.type} was never called; its {params:,} parameters are counted"
            found[info.path] = NotCounted(op=info.path, calls=0, why=why)
    return tuple(found.values())


def _with_parents(path: str) -> Iterator[str]:
    """Give a path and those of the modules that it is in, the model's own last."""
    yield path
    while path:
        path = path.rpartition(".")[0]
        yield path


def _call_cost(
    trace: Trace, call: ModuleCall, compute: Compute, live: LiveBytes, saved: int
) -> CallCost:
    outputs = [trace.storages[index] for index in call.output_storages]
    recompute = call.phase is Phase.BACKWARD
    return CallCost(
        inputs=call.inputs,
        outputs=call.outputs,
        forward_macs=compute.forward[call.index] // 2,
        backward_flops=compute.backward[call.index],
        elementwise_flops=compute.elementwise[call.index],
        output_bytes=sum([s.nbytes for s in outputs if s.op >= call.first_op]),
        saved_activation_bytes=0 if recompute else saved,
        peak_allocated_bytes=live.peak_between(call.first_event, call.end_event),
        parent=trace.calls[call.parent].path if call.parent >= 0 else None,
        recompute=recompute,
        completed=call.completed,
    )


def _module_report(
    info: ModuleInfo,
    tree: dict[str, ParameterInfo],
    calls: tuple[CallCost, ...],
    gradients: Counter[str],
) -> ModuleReport:
    own = [item for item in info.parameters if item.shared_with is None]
    return ModuleReport(
        path=info.path,
        type=info.type,
        depth=info.depth,
        **_sums(tree.values()),
        own_params=sum([item.numel for item in own if not item.is_buffer]),
        own_parameters=info.parameters,
        own_gradient_bytes=sum([gradients[item.name] for item in own]),
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
            parent = trees[info.path.rpartition(".")[0]]
            for name, item in tree.items():
                parent.setdefault(name, item)
    for info in modules:
        if info.shared_with is not None and info.shared_with in by_path:
            path = info.path
            while path:  # a repeated module also belongs to the subtrees that repeat it
                path = path.rpartition(".")[0]
                trees[path] = {**trees[info.shared_with], **trees[path]}
    return trees
