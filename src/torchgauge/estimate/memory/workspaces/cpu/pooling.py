"""Copies that pooling on the CPU makes of images whose elements lie in another order.

Sources, below ``aten/src/ATen/native`` in PyTorch 2.13: ``cpu/AvgPoolKernel.cpp``,
``cpu/MaxPoolKernel.cpp``, ``cpu/AdaptiveAvgPoolKernel.cpp``, ``AdaptiveMaxPooling2d.cpp``,
``AveragePool3d.cpp``, ``FractionalMaxPool2d.cpp``.
"""

from __future__ import annotations

from torchgauge.estimate.memory.workspaces.operands import copy_bytes, layout, tensor
from torchgauge.estimate.memory.workspaces.platform import Platform
from torchgauge.facts.trace import Layout, OpRecord


def _suggested(layout: Layout) -> Layout:
    """Return the order that an image asks for."""
    last = Layout.SUGGESTS_CHANNELS_LAST in layout
    return Layout.CHANNELS_LAST if last else Layout.CONTIGUOUS


def as_suggested(op: OpRecord, platform: Platform, position: int, *copied: int) -> tuple[int, ...]:
    """Arguments (the first, unless named) not in the order that the one at a position asks for."""
    wanted = _suggested(layout(op, position))
    return tuple(copy_bytes(op, place, wanted) for place in copied or (0,))


def ordered_backward(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """The input's gradient, and the indices, in the order of the output's gradient.

    ``…_backward(gradient, input, …)``, with the indices as argument 7 if there are some.
    """
    gradient, source = op.layouts[:2]
    wanted = _suggested(gradient)
    copied = copy_bytes(op, 0, wanted)
    if wanted is _suggested(source):
        return (copied,)
    return copied, tensor(op, 1).nbytes, tensor(op, 7).nbytes if "indices" in op.name else 0
