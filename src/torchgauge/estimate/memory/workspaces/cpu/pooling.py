"""Copies that pooling on the CPU makes of images whose elements lie in another order.

Sources, below ``aten/src/ATen/native`` in PyTorch 2.13: ``cpu/AvgPoolKernel.cpp``,
``cpu/MaxPoolKernel.cpp``, ``cpu/AdaptiveAvgPoolKernel.cpp``, ``AdaptiveMaxPooling2d.cpp``,
``AveragePool3d.cpp``, ``FractionalMaxPool2d.cpp``.
"""

from __future__ import annotations

from torchgauge.estimate.memory.workspaces.operands import copy_bytes, suggested, tensor
from torchgauge.estimate.memory.workspaces.platform import Platform
from torchgauge.facts.trace import OpRecord


def ordered_backward(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """The input's gradient, and the indices, in the order of the output's gradient.

    ``…_backward(gradient, input, …)``, with the indices as argument 7 if there are some.
    """
    gradient, source = op.layouts[:2]
    wanted = suggested(gradient)
    copied = copy_bytes(op, 0, wanted)
    if wanted is suggested(source):
        return (copied,)
    return copied, tensor(op, 1).nbytes, tensor(op, 7).nbytes if "indices" in op.name else 0
