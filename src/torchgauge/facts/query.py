"""Questions to a report: what is below a module, what it costs itself, what costs most.

All functions are pure. A *cost* is what a part of the model owns and does itself, so that the
costs of disjoint parts add up to the model's totals, also where modules are shared.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, fields

from torchgauge.facts.report import CallCost, ModuleReport, Report


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a part of the model costs. Costs of disjoint parts add up.

    >>> (Cost(params=2, macs=3) + Cost(params=5)).params
    7
    """

    params: int = 0
    """Each parameter once, where it is first met."""
    trainable_params: int = 0
    param_bytes: int = 0
    macs: int = 0
    backward_flops: int = 0
    elementwise_flops: int = 0
    activation_bytes: int = 0
    """Output bytes allocated by modules that call no other module, over all calls."""
    saved_activation_bytes: int = 0
    gradient_bytes: int = 0
    """Of the parameters that count here."""
    peak_allocated_bytes: int = 0
    """When costs are added, the larger peak counts."""
    time_ms: float = 0.0
    """Forward and backward time; zero where nothing was measured."""
    backward_time_ms: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        sums = {
            name: getattr(self, name) + getattr(other, name)
            for name in COST_FIELDS
            if name != "peak_allocated_bytes"
        }
        peak = max(self.peak_allocated_bytes, other.peak_allocated_bytes)
        return Cost(**sums, peak_allocated_bytes=peak)


COST_FIELDS = tuple(field.name for field in fields(Cost))


def parent_path(path: str) -> str | None:
    """Return the path of the enclosing module, ``None`` for the root.

    >>> parent_path("layer1.0"), parent_path("layer1"), parent_path("")
    ('layer1', '', None)
    """
    return path.rpartition(".")[0] if path else None


def children_by_path(report: Report) -> dict[str, tuple[ModuleReport, ...]]:
    """Return the direct children of every module, in registration order."""
    found: dict[str, list[ModuleReport]] = {path: [] for path in report.modules}
    for path, module in report.modules.items():
        parent = parent_path(path)
        while parent is not None and parent not in found:
            parent = parent_path(parent)
        if parent is not None:
            found[parent].append(module)
    return {path: tuple(modules) for path, modules in found.items()}


def children(report: Report, path: str = "") -> tuple[ModuleReport, ...]:
    """Return the modules directly below ``path``, in registration order.

    Raises:
        KeyError: no module has that path.
    """
    return children_by_path(report)[path]


def subtree(report: Report, path: str = "") -> tuple[ModuleReport, ...]:
    """Return the module and everything below it, in registration order.

    Raises:
        KeyError: no module has that path.
    """
    root = report.modules[path]
    if not path:
        return tuple(report.modules.values())
    prefix = f"{path}."
    below = (module for key, module in report.modules.items() if key.startswith(prefix))
    return (root, *below)


def leaf_rows(report: Report) -> tuple[ModuleReport, ...]:
    """Return the modules without children, each module object once."""
    return tuple(
        report.modules[path]
        for path, below in children_by_path(report).items()
        if not below and report.modules[path].shared_with is None
    )


def forward_calls(module: ModuleReport) -> tuple[CallCost, ...]:
    """Return the calls of the forward, without those that recompute a checkpointed block."""
    return tuple(call for call in module.calls if not call.recompute)


def own_costs(report: Report) -> dict[str, Cost]:
    """Return what each module owns and does itself, sub-modules not included.

    The MACs of all modules sum to what ran inside the model, the parameters to
    ``report.totals.params``.
    """
    inner: defaultdict[str, Cost] = defaultdict(Cost)
    for module in report.modules.values():
        for call in module.calls:
            if call.parent is not None:
                inner[call.parent] += call_cost(call)
    return {path: _own_cost(module, inner.get(path)) for path, module in report.modules.items()}


def subtree_cost(report: Report, path: str = "") -> Cost:
    """Return the sum of the own costs of a module and everything below it."""
    own = own_costs(report)
    return sum((own[module.path] for module in subtree(report, path)), start=Cost())


def top_modules(report: Report, by: str, count: int = 3) -> tuple[tuple[str, float], ...]:
    """Return the paths that cost most, sub-modules not included, with their figures.

    Args:
        report: the report.
        by: a field of ``Cost``, such as ``"params"``, ``"macs"`` or ``"time_ms"``.
        count: how many to return; those that cost nothing are left out.
    """
    figures = [(path, getattr(cost, by)) for path, cost in own_costs(report).items()]
    figures.sort(key=lambda item: -item[1])
    return tuple(item for item in figures[:count] if item[1] > 0)


def top_by_params(report: Report, count: int = 3) -> tuple[tuple[str, float], ...]:
    """Return the modules that own most parameters."""
    return top_modules(report, "params", count)


def top_by_macs(report: Report, count: int = 3) -> tuple[tuple[str, float], ...]:
    """Return the modules that do most forward MACs themselves."""
    return top_modules(report, "macs", count)


def top_by_activation(report: Report, count: int = 3) -> tuple[tuple[str, float], ...]:
    """Return the modules that hold most activation bytes: saved ones in training."""
    training = report.scenario.is_training
    return top_modules(report, "saved_activation_bytes" if training else "activation_bytes", count)


def top_by_time(report: Report, count: int = 3) -> tuple[tuple[str, float], ...]:
    """Return the modules that take most milliseconds themselves; empty if nothing was measured."""
    return top_modules(report, "time_ms", count)


def has_run(report: Report) -> bool:
    """Return whether any module was called: ``False`` for a structure-only report."""
    return any(module.calls for module in report.modules.values())


def never_called(report: Report) -> tuple[ModuleReport, ...]:
    """Return the topmost modules with a forward that nothing called; empty if nothing ran."""
    if not has_run(report) or report.failure is not None:
        return ()
    found: dict[str, ModuleReport] = {}
    active = _with_called_descendants(report)
    for path, module in report.modules.items():
        if path in active or not module.has_forward or module.shared_with is not None:
            continue
        parent = parent_path(path)
        while parent is not None and parent not in found:
            parent = parent_path(parent)
        if parent is None:
            found[path] = module
    return tuple(found.values())


def _with_called_descendants(report: Report) -> set[str]:
    active: set[str] = set()
    for path, module in report.modules.items():
        if module.calls:
            current: str | None = path
            while current is not None and current not in active:
                active.add(current)
                current = parent_path(current)
    return active


def call_cost(call: CallCost) -> Cost:
    """Return a call's cost; a recomputing call counts in the backward alone."""
    spent, backward = call.time_ms or 0.0, call.backward_time_ms or 0.0
    if call.recompute:
        return Cost(backward_flops=call.backward_flops, time_ms=spent, backward_time_ms=backward)
    return Cost(
        macs=call.forward_macs,
        backward_flops=call.backward_flops,
        elementwise_flops=call.elementwise_flops,
        saved_activation_bytes=call.saved_activation_bytes,
        activation_bytes=call.output_bytes,
        peak_allocated_bytes=call.peak_allocated_bytes,
        time_ms=spent,
        backward_time_ms=backward,
    )


def _own_cost(module: ModuleReport, inner: Cost | None) -> Cost:
    outer = sum((call_cost(call) for call in module.calls), start=Cost())
    below = inner or Cost()
    own = [
        item for item in module.own_parameters if not item.is_buffer and item.shared_with is None
    ]
    return Cost(
        params=module.own_params,
        trainable_params=sum(item.numel for item in own if item.trainable),
        param_bytes=sum(item.stored_bytes for item in own),
        macs=outer.macs - below.macs,
        backward_flops=outer.backward_flops - below.backward_flops,
        elementwise_flops=outer.elementwise_flops - below.elementwise_flops,
        # A module that calls others passes on what they made: only the innermost ones count.
        activation_bytes=outer.activation_bytes if inner is None else 0,
        gradient_bytes=module.own_gradient_bytes,
        saved_activation_bytes=outer.saved_activation_bytes - below.saved_activation_bytes,
        peak_allocated_bytes=outer.peak_allocated_bytes,
        # A difference of sums may be off by what was rounded.
        time_ms=max(0.0, round(outer.time_ms - below.time_ms, 9)),
        backward_time_ms=max(0.0, round(outer.backward_time_ms - below.backward_time_ms, 9)),
    )


def named_figures(report: Report, names: Iterable[str]) -> dict[str, float]:
    """Return those of some figures that a report holds, by names such as ``"totals.params"``."""
    found = {}
    for name in names:
        part, _, field = name.partition(".")
        value = getattr(getattr(report, part), field, None)
        if value is not None:
            found[name] = value
    return found
