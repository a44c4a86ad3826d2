"""A layer norm over the width of a map: the channels are its second axis, not the last."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from torch import nn

from torchgauge.advise.flow import entry, source_of
from torchgauge.advise.rules.only_finds import OnlyFinds
from torchgauge.advise.subject import Subject, input_of
from torchgauge.facts.loop.advice import Fault
from torchgauge.facts.trace import OpRecord

_ELEMENTWISE: Final = (
    "aten.relu.", "aten.relu_.", "aten.gelu.", "aten.silu.", "aten.silu_.", "aten.leaky_relu.",
    "aten.hardtanh.", "aten.hardtanh_.", "aten.hardswish.", "aten.elu.", "aten.tanh.",
)  # fmt: skip
_MOVES_AXES: Final = ("permute", "transpose", "aten.t.", "movedim", "view", "unsafe_view")


class LayerNormAxis(OnlyFinds):
    """Find layer norms of one axis that read a convolution's output as it is."""

    name = "layernorm-axis"
    about = "layer norms over the last axis of a convolution's output, which is no channel"

    def look(self, subject: Subject) -> Iterator[Fault | str]:
        """Yield each such norm."""
        for path, norm in subject.of_type(nn.LayerNorm):
            call = subject.only_call(path)
            given = None if call is None else input_of(call)
            found = None if call is None else entry(subject, call)
            if given is None or found is None or len(norm.normalized_shape) != 1:
                continue
            source = _convolution(subject, *found)
            if source is None or source.outputs[0].shape != given.shape:
                continue
            yield self.fault(
                subject,
                (path,),
                text=f"{path} normalises the last axis of {list(given.shape)}, a convolution's map",
                why=f"the channels are axis 1; axis {len(given.shape) - 1} has the same "
                f"{given.shape[-1]} elements for this input only",
                remedy="use nn.GroupNorm(1, channels), or move the channels to the end before it",
            )


def _convolution(subject: Subject, reader: OpRecord, storage: int) -> OpRecord | None:
    """Return the convolution behind a tensor, where only activations lie between."""
    while True:
        source = source_of(subject, reader, storage)
        if source is None or _is_moved(subject, storage, source.op.index, reader.index):
            return None
        if source.op.name.startswith("aten.convolution"):
            return source.op
        if not source.op.name.startswith(_ELEMENTWISE) or not source.op.reads:
            return None
        reader, storage = source.op, source.op.reads[0]


def _is_moved(subject: Subject, storage: int, first: int, last: int) -> bool:
    """Return whether axes of a tensor are moved between two operators."""
    return any(
        op.is_view and storage in op.reads and any(word in op.name for word in _MOVES_AXES)
        for op in subject.trace.ops[first + 1 : last]
    )
