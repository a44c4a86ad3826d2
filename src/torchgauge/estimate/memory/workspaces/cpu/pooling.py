"""Copies that pooling on the CPU makes of images whose elements lie in another order.

Sources, below ``aten/src/ATen/native`` in PyTorch 2.13: ``cpu/AvgPoolKernel.cpp``,
``cpu/MaxPoolKernel.cpp``, ``cpu/AdaptiveAvgPoolKernel.cpp``, ``AdaptiveMaxPooling2d.cpp``,
``AveragePool3d.cpp``, ``FractionalMaxPool2d.cpp``.
"""

from __future__ import annotations

from torchgauge.estimate.memory.workspaces.operands import contiguous, copy_bytes, default, tensor
from torchgauge.estimate.memory.workspaces.platform import Platform, Rule, Rules
from torchgauge.facts.trace import Layout, OpRecord


def _suggested(layout: Layout) -> Layout:
    """Return the order that an image asks for."""
    last = Layout.SUGGESTS_CHANNELS_LAST in layout
    return Layout.CHANNELS_LAST if last else Layout.CONTIGUOUS


def _as_suggested(position: int) -> Rule:
    """The first argument, where it is not in the order that the one at a position asks for."""

    def rule(op: OpRecord, platform: Platform) -> tuple[int, ...]:
        return (copy_bytes(op, 0, _suggested(op.layouts[position])),)

    return rule


def _ordered_backward(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """The input's gradient, and the indices, in the order of the output's gradient.

    ``…_backward(gradient, input, …)``, with the indices as argument 7 if there are some.
    """
    gradient, source = op.layouts[:2]
    wanted = _suggested(gradient)
    copied = copy_bytes(op, 0, wanted)
    if wanted is _suggested(source):
        return (copied,)
    return copied, tensor(op, 1).nbytes, tensor(op, 7).nbytes if "indices" in op.name else 0


RULES: Rules = {
    **default(_as_suggested(0), """
        avg_pool2d max_pool2d_with_indices _adaptive_avg_pool2d adaptive_max_pool2d
        max_pool3d_with_indices
    """),
    **default(contiguous(0), """
        mkldnn_max_pool2d avg_pool3d fractional_max_pool2d avg_pool3d_backward
        _adaptive_avg_pool3d_backward adaptive_max_pool3d_backward fractional_max_pool2d_backward
    """),
    **default(_ordered_backward, """
        avg_pool2d_backward _adaptive_avg_pool2d_backward max_pool2d_with_indices_backward
        max_pool3d_with_indices_backward
    """),
    **default(_as_suggested(1), "adaptive_max_pool2d_backward"),
}  # fmt: skip
