"""PyTorch's own choice of what to recompute, on the facts of our traces.

``torch.distributed._tools.sac_ilp`` chooses modules and what share of their activations each drops.
Its estimators measure on CUDA; here the fields of its ``Graph`` are filled from a trace. What a
field means is read in ``ilp_utils.aggregate_stats``, ``mem_tracker`` and ``sac_estimator`` of
PyTorch 2.13. Everything that is rounded is rounded in its favour:

- its cost of an operator is ours (FLOPs, an element-wise operation as one), not a measured time;
- its curve of cost over dropped memory, which it fits by two lines, is the whole lower hull.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.utils.checkpoint import (
    SAC_IGNORED_OPS,
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
)

import torchgauge as tg
from torchgauge.checkpoints.price import price_of
from torchgauge.checkpoints.step.saved import Times
from torchgauge.facts.loop.checkpoints import Least
from torchgauge.facts.trace import ModuleCall, OpRecord, Phase, Role, Trace

if TYPE_CHECKING:  # these need PuLP and a PyTorch that has them
    from torch.distributed._tools.ilp_utils import Graph
    from torch.distributed._tools.sac_estimator import SACStats

ROOT = "model"
"""Stands before each path, as the class of the model does in PyTorch's trackers."""
_IGNORED = frozenset(str(op) for op in SAC_IGNORED_OPS) | {"aten.lift_fresh.default"}
_GB = 1e9
"""Costs are given in these, so that the program's numbers are near one."""
_LEAST = 1e-9
"""Of an operator that costs nothing: PyTorch's rounding fails where it takes no memory either."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What PyTorch's program decides."""

    shares: Mapping[str, float]
    """By path: what share of the memory of a module's operators it drops."""
    flops: float
    """What that costs by its own account, in FLOPs and element-wise operations."""
    peak_bytes: int
    """What the peak is by its own account, as near to a trace's as its model of memory allows."""


@dataclass(kw_only=True)
class TorchProgram:
    """PyTorch's program over a traced training step."""

    report: tg.Report
    trace: Trace = field(init=False)
    times: Times = field(init=False)
    calls: dict[str, ModuleCall] = field(init=False)
    """The first forward of each module."""

    def __post_init__(self) -> None:
        assert self.report.trace is not None
        self.trace = self.report.trace
        self.times = Times(self.trace)
        self.calls = {}
        for call in self.trace.calls:
            if call.phase is not Phase.BACKWARD:
                self.calls.setdefault(call.path, call)
        self._price, _ = price_of(self.report, Least.FLOPS)
        self._alive = {
            role: list(_alive(self.trace, role))
            for role in (Role.SAVED_ACTIVATION, Role.TEMPORARY, Role.GRADIENT)
        }

    def chosen(self, most_bytes: int, units: Iterable[str]) -> Choice | None:
        """Return its choice among some modules for a peak; ``None`` where it finds none."""
        from torch.distributed._tools.ilp_utils import get_peak_memory_runtime_baseline
        from torch.distributed._tools.sac_ilp import sac_milp

        graph = self.graph()
        assert self.report.memory is not None
        unseen = (
            self.report.memory.peak_allocated_bytes - get_peak_memory_runtime_baseline(graph)[0]
        )
        named = [_named(path) for path in units]
        shares, cost, peak = sac_milp(graph, (most_bytes - unseen) / 2**30, ac_units=named)
        if peak < 0:
            return None
        return Choice(
            shares={name.partition(".")[2]: share for name, share in shares.items() if share > 0},
            flops=cost * _GB,
            peak_bytes=peak + unseen,
        )

    # ---------------------------------------------------------------- what it is told

    def graph(self) -> Graph:
        """Return the modules with their memory and costs."""
        from torch.distributed._tools.ilp_utils import parse_module_info

        pre = sorted(self.calls.values(), key=lambda call: call.index)
        post = sorted(pre, key=lambda call: (call.end_op, -call.index))
        info: Any = {
            "mod_order": {
                "fw_pre_order": [_named(call.path) for call in pre],
                "fw_post_order": [_named(call.path) for call in _post_order(self.trace, post)],
                "bw_pre_order": [],
                "bw_post_order": [],
            },
            "mod_stats": [self._module(call) for call in pre],
        }
        return parse_module_info(info)

    def _module(self, call: ModuleCall) -> dict[str, Any]:
        acts = self._alive[Role.SAVED_ACTIVATION]
        before, after = self.times.before(call.first_op), self.times.before(call.end_op)
        output = sum(self.trace.storages[index].nbytes for index in call.output_storages)
        backward = [op.index for op in self.trace.ops if op.phase is Phase.BACKWARD
                    and op.call in self._inside(call)]  # fmt: skip
        gradients = self._alive[Role.GRADIENT]
        start = self.times.before(min(backward)) if backward else 0
        stats = self.operators(call)
        return {
            "fqn": _named(call.path),
            "param_per_module": self.report.modules[call.path].param_bytes,
            "grad_per_module": self.report.modules[call.path].param_bytes,
            "grad_total": gradients[start] if backward else 0,
            "act_fw_per_module": max(0, acts[after] - acts[before] - output),
            "act_bw_per_module": 0,  # the program does not read it
            "act_grad_per_module": self._gradient_of_activations(start, backward),
            "act_total": acts[after],
            "input_per_module": 0,
            "output_per_module": output,
            "fw_runtime_per_module": 0.0,
            "bw_runtime_per_module": 0.0,
            **_trade_off(stats),
        }

    def _inside(self, call: ModuleCall) -> range:
        end = call.index + 1
        parents = {call.index}
        while end < len(self.trace.calls) and self.trace.calls[end].parent in parents:
            parents.add(end)
            end += 1
        return range(call.index, end)

    def _gradient_of_activations(self, start: int, backward: list[int]) -> int:
        """Return what the module's backward adds of its own at the moment of its peak."""
        if not backward:
            return 0
        temporary = self._alive[Role.TEMPORARY]
        end = self.times.after(max(backward))
        total = [sum(alive[time] for alive in self._alive.values()) for time in range(start, end)]
        peak = start + max(range(len(total)), key=total.__getitem__) if total else start
        return max(0, temporary[peak] - temporary[start])

    def operators(self, call: ModuleCall) -> SACStats | None:
        """Return the operators of a module's forward as its estimator lists them.

        ``None`` for a module without children, or without an operator that makes a tensor.
        """
        from torch.distributed._tools.sac_estimator import SACStats

        has_children = any(other.parent == call.index for other in self.trace.calls)
        ops = [op for op in self.trace.ops[call.first_op : call.end_op] if op.name not in _IGNORED]
        if not has_children or not ops:
            return None
        made = {storage.op: 0 for storage in self.trace.storages}
        for storage in self.trace.storages:
            made[storage.op] += storage.nbytes
        memory = [0 if op.is_view else made.get(op.index, 0) for op in ops]
        views = [number for number, op in enumerate(ops) if op.is_view]
        in_place = list(self._in_place(ops, memory, views))
        skipped = {*views, *(number for number, _ in in_place)}
        last = max((n for n in range(len(ops)) if n not in skipped), default=len(ops) - 1)
        memory[last] = 0  # the output of the block is kept in any case
        if not sum(memory):
            return None
        return SACStats(
            func_names=[op.name for op in ops],
            runtimes=[max(self._price(op)[0] / _GB, _LEAST) for op in ops],
            memory=memory,
            view_like_ops=views,
            rand_ops=[n for n, op in enumerate(ops) if "dropout" in op.name],
            saved_autograd_ops=[],
            inplace_ops=in_place,
            force_store_random=False,
        )

    def _in_place(
        self, ops: list[OpRecord], memory: list[int], views: list[int]
    ) -> Iterator[tuple[int, int]]:
        """Yield the operators that write into a tensor that was there, each with what made it."""
        makers: dict[int, int] = {}
        for number, op in enumerate(ops):
            for storage in op.writes:
                if self.trace.storages[storage].op == op.index:
                    makers[storage] = number
        for number, op in enumerate(ops):
            if number not in views and op.writes and not memory[number]:
                yield number, makers.get(op.writes[0], number)

    # ---------------------------------------------------------------- what it means

    def applied(self, model: nn.Module, choice: Choice) -> nn.Module:
        """Return a copy of a model that keeps and drops operators as PyTorch's own rounding says.

        ``get_optimal_checkpointing_policy_per_module`` turns a share into operators.
        """
        from torch.distributed._tools.sac_ilp import get_optimal_checkpointing_policy_per_module

        model = copy.deepcopy(model)
        for path, share in choice.shares.items():
            stats = self.operators(self.calls[path])
            assert stats is not None
            kept = get_optimal_checkpointing_policy_per_module(stats, 1.0 - share)
            module = model.get_submodule(path)
            policy = partial(_contexts, tuple(kept), tuple(stats.func_names))
            module.__dict__["forward"] = partial(
                checkpoint, module.forward, use_reentrant=False, context_fn=policy
            )
        return model


def _named(path: str) -> str:
    return f"{ROOT}.{path}" if path else ROOT


def _alive(trace: Trace, role: Role) -> Iterator[int]:
    """Yield the bytes of a role after each event."""
    total = 0
    for event in trace.events:
        storage = trace.storages[event.storage]
        if storage.role is role:
            total += -storage.nbytes if event.is_free else storage.nbytes
        yield total


def _post_order(trace: Trace, calls: list[ModuleCall]) -> Iterator[ModuleCall]:
    """Yield calls in the order in which they return."""
    children: dict[int, list[int]] = {}
    for call in trace.calls:
        children.setdefault(call.parent, []).append(call.index)
    wanted = {call.index for call in calls}
    stack = [(index, False) for index in reversed(children.get(-1, []))]
    while stack:
        index, is_done = stack.pop()
        if is_done:
            if index in wanted:
                yield trace.calls[index]
            continue
        stack.append((index, True))
        stack += [(child, False) for child in reversed(children.get(index, []))]


def _trade_off(stats: SACStats | None) -> dict[str, Any]:
    """Return the cost of dropping memory, as lines of which the highest holds."""
    if stats is None:
        return {
            "is_leaf": True, "sac_runtime": 0.0, "sac_memory": 0, "n_segments": 0, "slopes": [],
            "intercepts": [], "breakpoints": [], "tradeoff_curve": {},
        }  # fmt: skip
    memory, cost = sum(stats.memory), sum(stats.runtimes)
    hull = _lower_hull([(x / memory, y / cost if cost else 0.0) for x, y in _points(stats)])
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in pairwise(hull)]
    return {
        "is_leaf": False,
        "sac_runtime": cost,
        "sac_memory": memory,
        "n_segments": len(slopes),
        "slopes": slopes,
        "intercepts": [y - slope * x for (x, y), slope in zip(hull, slopes, strict=False)],
        "breakpoints": [x for x, _ in hull],
        "tradeoff_curve": dict(hull),
    }


def _points(stats: SACStats) -> Iterator[tuple[float, float]]:
    """Yield dropped bytes and their cost, in the order in which its estimator drops operators."""
    from torch.distributed._tools.sac_estimator import SACEstimator

    order = SACEstimator()._get_greedy_order_meta(stats)
    dropped = cost = 0.0
    yield dropped, cost
    for candidate in order.msps_meta:
        dropped, cost = dropped + candidate.memory, cost + candidate.runtime
        yield dropped, cost
    yield float(sum(stats.memory)), sum(stats.runtimes)


def _lower_hull(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the corners of the lower convex hull, from the left."""
    hull: list[tuple[float, float]] = []
    lowest: dict[float, float] = {}
    for x, y in points:
        lowest[x] = min(y, lowest.get(x, y))
    for x, y in sorted(lowest.items()):
        while len(hull) > 1 and (
            (hull[-1][1] - hull[-2][1]) * (x - hull[-1][0])
            >= (y - hull[-1][1]) * (hull[-1][0] - hull[-2][0])
        ):
            hull.pop()
        hull.append((x, y))
    return hull


def _contexts(kept: tuple[int, ...], names: tuple[str, ...]) -> Any:
    return create_selective_checkpoint_contexts(
        _InOrder(kept, names), allow_cache_entry_mutation=True
    )


class _InOrder:
    """Keep operators by their place in the forward, and in the second one alike."""

    def __init__(self, kept: tuple[int, ...], names: tuple[str, ...]) -> None:
        self._kept, self._names = kept, names
        self._next = {False: 0, True: 0}

    def __call__(self, context: Any, operator: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
        if str(operator) in _IGNORED:
            return CheckpointPolicy.PREFER_RECOMPUTE
        number = self._next[context.is_recompute]
        self._next[context.is_recompute] += 1
        # F.linear adds its bias in place where no mode looks on, and makes a tensor under one.
        seen, listed = (name.replace("_.", ".") for name in (str(operator), self._names[number]))
        assert seen == listed, (seen, listed)
        if self._kept[number]:
            return CheckpointPolicy.MUST_SAVE
        return CheckpointPolicy.PREFER_RECOMPUTE
