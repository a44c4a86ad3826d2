"""A ``Trace`` as compact JSON: each distinct op and tensor once, everything else in columns.

Kept: modules by path and type, calls, ops, storages, events. Left out: parameters one by one and
the inputs and outputs of calls, which follow from the model.
"""

from __future__ import annotations

import json
from typing import Any

from torchgauge.facts.scenario import Scenario
from torchgauge.facts.trace import (
    ArgumentValue,
    Execution,
    ModuleCall,
    ModuleInfo,
    OpRecord,
    Phase,
    Role,
    StorageEvent,
    StorageRecord,
    TensorSpec,
    Trace,
)


class Interned:
    """A list in which each value stands once."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._index: dict[Any, int] = {}

    def add(self, value: Any, key: Any = None) -> int:
        """Return the position of the value; ``key`` stands for one that cannot be hashed."""
        key = value if key is None else key
        index = self._index.get(key)
        if index is None:
            index = self._index[key] = len(self.values)
            self.values.append(value)
        return index


def encode_trace(trace: Trace) -> dict[str, Any]:
    """Return the trace as plain data."""
    tensors, signatures, paths = Interned(), Interned(), Interned()
    rows = []
    for op in trace.ops:
        signature = [
            op.name,
            [_encode_value(value, tensors) for value in op.args],
            [[name, _encode_value(value, tensors)] for name, value in op.kwargs],
            [_encode_value(spec, tensors) for spec in op.outputs],
        ]
        rows.append(signatures.add(signature, key=json.dumps(signature)))
    return {
        "torch_version": trace.torch_version,
        "execution": trace.execution,
        "model_name": trace.model_name,
        "scenario": trace.scenario.to_dict(),
        "modules": [[m.path, m.type, m.depth, m.shared_with, m.has_forward] for m in trace.modules],
        "calls": [
            [paths.add(c.path), c.parent, c.first_op, c.end_op, c.first_event, c.end_event,
             c.phase, list(c.output_storages), c.completed]
            for c in trace.calls
        ],
        "paths": paths.values,
        "tensors": tensors.values,
        "signatures": signatures.values,
        "ops": {
            "signature": rows,
            "call": [op.call for op in trace.ops],
            "phase": [op.phase for op in trace.ops],
            "recompute": [int(op.recompute) for op in trace.ops],
            "view": [int(op.is_view) for op in trace.ops],
            "reads": [list(op.reads) for op in trace.ops],
            "writes": [list(op.writes) for op in trace.ops],
        },
        "storages": [[s.nbytes, s.role, s.label, s.op, s.call] for s in trace.storages],
        "events": [[e.storage, int(e.is_free), e.op] for e in trace.events],
        "phase_ends": [[phase, events] for phase, events in trace.phase_ends],
        "assumptions": list(trace.assumptions),
        "warnings": list(trace.warnings),
    }  # fmt: skip


def decode_trace(data: dict[str, Any]) -> Trace:
    """Return the trace that ``encode_trace`` wrote."""
    tensors = [
        TensorSpec(shape=tuple(shape), dtype=dtype, device=device, nbytes=nbytes)
        for shape, dtype, device, nbytes in data["tensors"]
    ]
    signatures = [
        (
            name,
            tuple(_decode_value(value, tensors) for value in args),
            tuple((key, _decode_value(value, tensors)) for key, value in kwargs),
            tuple(tensors[value["t"]] for value in outputs),
        )
        for name, args, kwargs, outputs in data["signatures"]
    ]
    return Trace(
        torch_version=data["torch_version"],
        execution=Execution(data["execution"]),
        model_name=data["model_name"],
        scenario=Scenario(**data["scenario"]),
        modules=tuple(
            ModuleInfo(path=path, type=kind, depth=depth, shared_with=shared, has_forward=forward)
            for path, kind, depth, shared, forward in data["modules"]
        ),
        calls=tuple(_decode_call(index, row, data) for index, row in enumerate(data["calls"])),
        ops=tuple(_decode_op(index, data["ops"], signatures)
                  for index in range(len(data["ops"]["signature"]))),
        storages=tuple(
            StorageRecord(index=i, nbytes=nbytes, role=Role(role), label=label, op=op, call=call)
            for i, (nbytes, role, label, op, call) in enumerate(data["storages"])
        ),
        events=tuple(
            StorageEvent(storage=storage, is_free=bool(is_free), op=op)
            for storage, is_free, op in data["events"]
        ),
        phase_ends=tuple((Phase(phase), events) for phase, events in data["phase_ends"]),
        assumptions=tuple(data["assumptions"]),
        warnings=tuple(data["warnings"]),
    )  # fmt: skip


def _decode_call(index: int, row: list[Any], data: dict[str, Any]) -> ModuleCall:
    path, parent, first_op, end_op, first_event, end_event, phase, storages, completed = row
    return ModuleCall(
        index=index,
        path=data["paths"][path],
        parent=parent,
        inputs=(),
        outputs=(),
        first_op=first_op,
        end_op=end_op,
        first_event=first_event,
        end_event=end_event,
        phase=Phase(phase),
        output_storages=tuple(storages),
        completed=completed,
    )


def _decode_op(index: int, columns: dict[str, Any], signatures: list[Any]) -> OpRecord:
    name, args, kwargs, outputs = signatures[columns["signature"][index]]
    return OpRecord(
        index=index,
        name=name,
        args=args,
        kwargs=kwargs,
        outputs=outputs,
        call=columns["call"][index],
        phase=Phase(columns["phase"][index]),
        recompute=bool(columns["recompute"][index]),
        reads=tuple(columns["reads"][index]),
        writes=tuple(columns["writes"][index]),
        is_view=bool(columns["view"][index]),
    )


def _encode_value(value: ArgumentValue, tensors: Interned) -> Any:
    if isinstance(value, TensorSpec):
        spec = [list(value.shape), value.dtype, value.device, value.nbytes]
        return {"t": tensors.add(spec, key=value)}
    if isinstance(value, tuple):
        return [_encode_value(item, tensors) for item in value]
    if isinstance(value, complex):
        return {"c": [value.real, value.imag]}
    return value


def _decode_value(value: Any, tensors: list[TensorSpec]) -> ArgumentValue:
    if isinstance(value, list):
        return tuple(_decode_value(item, tensors) for item in value)
    if isinstance(value, dict):
        return tensors[value["t"]] if "t" in value else complex(*value["c"])
    return value
