"""What a row says besides its name: shared, frozen, lazy, not called, called ten times, failed."""

from __future__ import annotations

from torchgauge.facts.query import has_run
from torchgauge.facts.report import ModuleReport, Report
from torchgauge.facts.trace import ParameterInfo
from torchgauge.render.page import Remark
from torchgauge.render.tree.parts import Kind, Part, distinct_calls

FAILED_HERE, FAILED_INSIDE = "failed here", "failed inside"
OUTPUT = "Output shape"
"""The column that is empty where nothing came out."""


def marks_of(
    part: Part, report: Report, *, expanded: bool, parent_frozen: bool
) -> tuple[Remark, ...]:
    """Return the remarks of one row, the most important first."""
    if part.kind is Kind.PARAMETER:
        assert part.parameter is not None
        return _parameter_marks(part.parameter, parent_frozen=parent_frozen)
    module = part.module
    if part.kind is not Kind.MODULE or module is None:
        return ()
    found = [
        _failure_mark(part, report, expanded=expanded),
        _shared_mark(part, module),
        _call_mark(part, module, report),
        _frozen_mark(part, module, expanded=expanded, parent_frozen=parent_frozen),
        None if part.children else _lazy_mark(module.own_parameters),
    ]
    return tuple(mark for mark in found if mark is not None)


def is_frozen(part: Part) -> bool:
    """Return whether the part has parameters and trains none of them."""
    if part.parameter is not None:
        return not part.parameter.trainable
    module = part.module
    return module is not None and module.params > 0 and module.trainable_params == 0


def _parameter_marks(item: ParameterInfo, *, parent_frozen: bool) -> tuple[Remark, ...]:
    found = []
    if item.shared_with is not None:
        found.append(Remark(f"shared with {item.shared_with}", "shared"))
    if not item.trainable and not parent_frozen:
        found.append(Remark("frozen", "frozen"))
    lazy = _lazy_mark((item,))
    return (*found, lazy) if lazy is not None else tuple(found)


def _failure_mark(part: Part, report: Report, *, expanded: bool) -> Remark | None:
    failure = report.failure
    if failure is None:
        return None
    no_output = not (part.calls and part.calls[0].completed)
    if failure.path == part.path:
        return Remark(FAILED_HERE, "failed", instead_of=OUTPUT if no_output else "")
    if not expanded and failure.path.startswith(f"{part.path}."):
        return Remark(FAILED_INSIDE, "failed", instead_of=OUTPUT if no_output else "")
    return None


def _shared_mark(part: Part, module: ModuleReport) -> Remark | None:
    if module.shared_with is not None:
        target = module.shared_with or "the model"
        return Remark(f"shared with {target}", "shared", instead_of=OUTPUT)
    if part.children:
        return None
    shared = [item for item in module.own_parameters if item.shared_with is not None]
    if not shared:
        return None
    names = ", ".join(item.name.rpartition(".")[2] for item in shared)
    targets = ", ".join(dict.fromkeys(str(item.shared_with) for item in shared))
    return Remark(f"{names} shared with {targets}", "shared")


def _call_mark(part: Part, module: ModuleReport, report: Report) -> Remark | None:
    if not module.calls:
        silent = module.shared_with is not None or not module.has_forward or not has_run(report)
        if silent or any(_was_called(child) for child in part.children):
            return None
        if report.failure is not None:
            return Remark("not reached", "unreached", instead_of=OUTPUT)
        return Remark("not called", "uncalled", instead_of=OUTPUT)
    recomputed = len(part.calls) < len(module.calls)
    if len(part.calls) > 1:
        count, kinds = len(part.calls), distinct_calls(part.calls)
        text = f"called × {count}"
        return Remark(f"{text}, {kinds} differ" if kinds > 1 else text, text)
    return Remark("recomputed", "recomputed") if recomputed else None


def _was_called(part: Part) -> bool:
    return bool(part.calls) or any(_was_called(child) for child in part.children)


def _frozen_mark(
    part: Part, module: ModuleReport, *, expanded: bool, parent_frozen: bool
) -> Remark | None:
    if is_frozen(part):
        return None if parent_frozen else Remark("frozen", "frozen")
    if 0 < module.trainable_params < module.params and not expanded:
        return Remark("partly frozen", "partly frozen")
    return None


def _lazy_mark(items: tuple[ParameterInfo, ...]) -> Remark | None:
    lazy = [item for item in items if item.is_lazy]
    if not lazy:
        return None
    if any(item.numel == 0 for item in lazy):
        return Remark("lazy, no shape yet", "lazy")
    return Remark("lazy", "lazy")
