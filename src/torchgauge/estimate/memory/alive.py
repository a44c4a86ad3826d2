"""What is alive at a moment of the step: the largest blocks, and what is known of each."""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from torchgauge.facts.memory import AliveTensor
from torchgauge.facts.trace import Role, StorageRecord, TensorSpec, Trace

MOST = 8
"""Blocks that a report names."""


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
    if 0 <= storage.op < len(trace.ops):  # the op that made it may have failed
        op = trace.ops[storage.op]
        return next(
            (s for s, index in zip(op.outputs, op.writes, strict=False) if index == storage.index),
            None,
        )
    for op in trace.ops:
        if storage.index in op.reads:
            specs = [value for value in op.args if isinstance(value, TensorSpec)]
            for spec in specs:
                if spec.nbytes == storage.nbytes:
                    return spec
    return None


def _module(trace: Trace, storage: StorageRecord) -> str:
    if storage.role in (Role.PARAMETER, Role.BUFFER, Role.GRADIENT):
        return storage.label.rpartition(".")[0]
    return trace.calls[storage.call].path if storage.call >= 0 else ""
