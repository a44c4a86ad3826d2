"""Where a tensor comes from and who else reads it, in what ran."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from torchgauge.advise.subject import Subject
from torchgauge.facts.trace import ModuleCall, OpRecord, Phase, Role

_OWN: Final = (Role.PARAMETER, Role.BUFFER)


@dataclass(frozen=True, slots=True)
class Source:
    """What made a tensor."""

    op: OpRecord
    alone: bool
    """Whether one module alone reads it, and the model does not return it."""


def is_forward(op: OpRecord) -> bool:
    """Return whether an operator belongs to the forward or the loss."""
    return op.phase in (Phase.FORWARD, Phase.LOSS) and not op.recompute


def entry(subject: Subject, call: ModuleCall) -> tuple[OpRecord, int] | None:
    """Return the first operator of a call that reads data from outside of it, with its storage."""
    storages = subject.trace.storages
    for op in subject.trace.ops[call.first_op : call.end_op]:
        for storage in op.reads:
            record = storages[storage]
            is_older = record.op < call.first_op
            if is_older and record.role not in _OWN and not op.is_view:
                return op, storage
    return None


def source_of(
    subject: Subject, reader: OpRecord, storage: int, *, through_dropout: bool = True
) -> Source | None:
    """Return what wrote a storage last before an operator reads it."""
    trace = subject.trace
    alone = True
    while True:
        writer = _last_writer(subject, storage, reader.index)
        if writer is None:
            return None
        others = {
            op.call for op in subject.readers.get(storage, ()) if is_forward(op)
        } - {reader.call}  # fmt: skip
        returned = bool(trace.calls) and storage in trace.calls[0].output_storages
        alone = alone and not others and not returned
        is_dropout = isinstance(subject.modules.get(subject.path_of(writer)), _DropoutNd)
        if not (is_dropout and through_dropout):
            return Source(writer, alone)
        found = entry(subject, trace.calls[writer.call])
        if found is None:
            return None
        reader, storage = found


def call_before(
    subject: Subject, call: ModuleCall, *, through_dropout: bool = True
) -> tuple[str, nn.Module] | None:
    """Return the module whose output a call reads, where that call is the only reader.

    The tensor has the same shape at both ends.
    """
    found = entry(subject, call)
    if found is None:
        return None
    source = source_of(subject, *found, through_dropout=through_dropout)
    if source is None or not source.alone or source.op.call < 0:
        return None
    before = subject.trace.calls[source.op.call]
    module = subject.modules.get(before.path)
    given = next((value.tensor for value in call.inputs if value.tensor), None)
    made = next((value.tensor for value in before.outputs if value.tensor), None)
    if module is None or given is None or made is None or given.shape != made.shape:
        return None
    return before.path, module


def _last_writer(subject: Subject, storage: int, before: int) -> OpRecord | None:
    found = None
    for op in subject.writers.get(storage, ()):
        if op.index >= before:
            break
        found = op
    return found
