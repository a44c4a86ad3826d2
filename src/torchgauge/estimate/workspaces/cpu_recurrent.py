"""Scratch memory of oneDNN's LSTM. Shapes: input ``[T, B, I]``, hidden size H.

oneDNN does not publish its layouts. What it takes was read from the profiler's memory events of
single calls (oneDNN of PyTorch 2.13, float32, T 7 and 14, B 2 and 4, I and H of 64 to 1024), which
the figures below meet within 3 % from H = 64 on.
"""

from __future__ import annotations

from torchgauge.estimate.workspaces.target import Rule, Target
from torchgauge.report.model import OpRecord, TensorSpec

_FIXED_SCRATCH = 16_952


def _specs(op: OpRecord) -> tuple[TensorSpec, int, int]:
    """Return the input, the bytes of both weights, and the hidden size."""
    source, layer, recurrent = op.args[:3]
    assert isinstance(source, TensorSpec) and isinstance(layer, TensorSpec)
    assert isinstance(recurrent, TensorSpec)
    return source, layer.nbytes + recurrent.nbytes, layer.shape[0] // 4


def _scratch(source: TensorSpec, hidden: int) -> int:
    """Four gates for each step, two states, and what does not depend on sizes."""
    steps, batch = source.shape[:2]
    return 16 * steps * batch * hidden + 8 * batch * hidden + _FIXED_SCRATCH


def _forward(op: OpRecord, target: Target) -> tuple[int, ...]:
    """The sum of both biases, both weights in oneDNN's layout, and the gates."""
    source, weights, hidden = _specs(op)
    return 16 * hidden, weights, _scratch(source, hidden)


def _backward(op: OpRecord, target: Target) -> tuple[int, ...]:
    """Both weights and both their gradients in oneDNN's layout, two biases, and the gates."""
    source, weights, hidden = _specs(op)
    return 2 * weights, 32 * hidden, _scratch(source, hidden)


RULES: dict[str, Rule] = {
    "aten.mkldnn_rnn_layer.default": _forward,
    "aten.mkldnn_rnn_layer_backward.default": _backward,
}
"""By operator, overload included."""
