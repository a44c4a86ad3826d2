"""Stage 2: what the bytes are for, and what is known of the largest blocks."""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Iterable

from torchgauge.facts.memory import AliveTensor
from torchgauge.facts.trace import Phase, Role, StorageRecord, TensorSpec, Trace

MOST = 8
"""Blocks that a report names."""


def bytes_by_role(storages: Iterable[StorageRecord]) -> dict[Role, int]:
    """Return the bytes of storages by every role, those on the host left out."""
    sums = dict.fromkeys(Role, 0)
    for storage in storages:
        if not storage.is_host:
            sums[storage.role] += storage.nbytes
    return sums


def saved_activations(trace: Trace) -> tuple[StorageRecord, ...]:
    """Return what is alive when the backward starts, of the micro-batch that saves most."""
    storages = (s for s in trace.storages if not s.is_host)
    saved = [s for s in storages if s.role is Role.SAVED_ACTIVATION]
    ends = [events for phase, events in trace.phase_ends if phase is Phase.BACKWARD]
    if len(ends) < 2:
        return tuple(saved)
    born = {e.storage: index for index, e in enumerate(trace.events) if not e.is_free}
    groups: dict[int, list[StorageRecord]] = {}
    for storage in saved:
        groups.setdefault(bisect_right(ends, born[storage.index]), []).append(storage)
    return tuple(max(groups.values(), key=lambda g: sum(s.nbytes for s in g), default=[]))


def where(trace: Trace, op: int) -> tuple[Phase, str, str]:
    """Return phase, module and name of an operator, given its number or -1 for none."""
    if not 0 <= op < len(trace.ops):  # the op that made a storage may have failed
        return Phase.FORWARD, "", ""
    record = trace.ops[op]
    path = trace.calls[record.call].path if record.call >= 0 else ""
    return record.phase, path, record.name


def largest_alive(trace: Trace, alive: Iterable[int]) -> tuple[AliveTensor, ...]:
    """Return the largest of the storages with these numbers, the largest first."""
    storages = [trace.storages[index] for index in set(alive)]
    largest = heapq.nsmallest(MOST, storages, key=lambda item: (-item.nbytes, item.index))
    return tuple(_described(trace, storage) for storage in largest if storage.nbytes)


def _described(trace: Trace, storage: StorageRecord) -> AliveTensor:
    spec = _first_tensor(trace, storage)
    return AliveTensor(
        nbytes=storage.nbytes,
        role=storage.role,
        label=storage.label,
        module=_module(trace, storage),
        shape=None if spec is None else spec.shape,
        dtype="" if spec is None else spec.dtype,
        code=storage.code,
    )


def _first_tensor(trace: Trace, storage: StorageRecord) -> TensorSpec | None:
    """Return the tensor that the storage was made for, as its operator or its name says."""
    if 0 <= storage.op < len(trace.ops):
        op = trace.ops[storage.op]
        written = zip(op.outputs, op.writes, strict=False)
        return next((spec for spec, index in written if index == storage.index), None)
    specs = (
        value
        for op in trace.ops
        if storage.index in op.reads
        for value in op.args
        if isinstance(value, TensorSpec)
    )
    return next((spec for spec in specs if spec.nbytes == storage.nbytes), None)


def _module(trace: Trace, storage: StorageRecord) -> str:
    if storage.role in (Role.PARAMETER, Role.BUFFER, Role.GRADIENT):
        return storage.label.rpartition(".")[0]
    return trace.calls[storage.call].path if storage.call >= 0 else ""
