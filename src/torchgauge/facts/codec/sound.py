"""Whether what a trace refers to is there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torchgauge.facts.codec.damage import Damage


def check_trace(trace: Any) -> None:
    """Check the numbers and paths by which the parts of a trace refer to one another.

    Raises:
        Damage: one of them refers to nothing, or a size is negative.
    """
    for name in ("calls", "ops", "storages"):
        for index, item in enumerate(getattr(trace, name)):
            if item.index != index:
                raise Damage(f"{name}[{index}].index", f"is {item.index}")
    _check_modules(trace)
    _check_calls(trace)
    _check_ops(trace)
    _check_storages(trace)


def _check_modules(trace: Any) -> None:
    paths = [module.path for module in trace.modules]
    if not paths or paths[0]:
        raise Damage("modules", "do not begin with the root (path '')")
    known = set(paths)
    if len(known) < len(paths):
        raise Damage("modules", "hold a path twice")
    for index, module in enumerate(trace.modules):
        place = f"modules[{index}]"
        if module.shared_with is not None and module.shared_with not in known:
            raise Damage(f"{place}.shared_with", "is the path of no module")
        for number, item in enumerate(module.parameters):
            sizes = (*item.shape, item.numel, item.stored_bytes)
            _check_sizes(sizes, f"{place}.parameters[{number}]")
    for index, call in enumerate(trace.calls):
        if call.path not in known:
            raise Damage(f"calls[{index}].path", "is the path of no module")


def _check_calls(trace: Any) -> None:
    ops, events, storages = len(trace.ops), len(trace.events), len(trace.storages)
    for index, call in enumerate(trace.calls):
        place = f"calls[{index}]"
        if not -1 <= call.parent < index:
            raise Damage(f"{place}.parent", f"is {call.parent}, which is no call before it")
        for first, end, count, field, name in (
            (call.first_op, call.end_op, ops, "first_op", "operator"),
            (call.first_event, call.end_event, events, "first_event", "event"),
        ):
            if not 0 <= first <= end <= count:
                what = f"is {first}, and the end {end}; there are {_count(count, name)}"
                raise Damage(f"{place}.{field}", what)
        for number, storage in enumerate(call.output_storages):
            _check_index(storage, storages, "storage", f"{place}.output_storages[{number}]")
        for number, value in enumerate((*call.inputs, *call.outputs)):
            if value.tensor is not None:
                sizes = (*value.tensor.shape, value.tensor.nbytes, value.tensor.stored or 0)
                _check_sizes(sizes, f"{place}, tensor {number}")


def _check_ops(trace: Any) -> None:
    calls, storages = len(trace.calls), len(trace.storages)
    for index, op in enumerate(trace.ops):
        if not -1 <= op.call < calls:
            _check_index(op.call, calls, "call", f"ops[{index}].call")
        for storage in (*op.reads, *op.writes):
            if not 0 <= storage < storages:
                name = "reads" if storage in op.reads else "writes"
                _check_index(storage, storages, "storage", f"ops[{index}].{name}")
        for tensor in op.outputs:
            sizes = (*tensor.shape, tensor.nbytes, tensor.stored or 0)
            _check_sizes(sizes, f"ops[{index}].outputs")


def _check_storages(trace: Any) -> None:
    calls, ops, storages, events = map(len, (trace.calls, trace.ops, trace.storages, trace.events))
    for index, storage in enumerate(trace.storages):
        place = f"storages[{index}]"
        _check_sizes((storage.nbytes,), f"{place}.nbytes")
        if storage.call != -1:
            _check_index(storage.call, calls, "call", f"{place}.call")
        if storage.op not in (-1, ops):  # after the last: when the step had ended
            _check_index(storage.op, ops, "operator", f"{place}.op")
    for index, event in enumerate(trace.events):
        _check_index(event.storage, storages, "storage", f"events[{index}].storage")
        if event.op not in (-1, ops):
            _check_index(event.op, ops, "operator", f"events[{index}].op")
    last = 0
    for index, (_, end) in enumerate(trace.phase_ends):
        if not last <= end <= events:
            what = f"there are {_count(events, 'event')}"
            raise Damage(f"phase_ends[{index}]", f"is {end}; {what}, and they end in order")
        last = end


def _check_sizes(sizes: Iterable[int], place: str) -> None:
    for size in sizes:
        if size < 0:
            raise Damage(place, f"is {size}, which is negative")


def _check_index(index: int, count: int, name: str, place: str) -> None:
    if not 0 <= index < count:
        raise Damage(place, f"is {index}; there are {_count(count, name)}")


def _count(count: int, name: str) -> str:
    return f"{count:,} {name}{'' if count == 1 else 's'}"
