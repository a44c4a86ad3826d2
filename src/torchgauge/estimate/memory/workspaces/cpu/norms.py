"""Scratch memory of the CPU's normalisations.

Sources are below ``aten/src/ATen/native`` in PyTorch (2.6–2.13).
"""

from __future__ import annotations

from math import prod

from torchgauge.estimate.arguments import integer, integers, mask, tensor
from torchgauge.estimate.memory.workspaces.operands import FLOAT, copy_bytes, layout
from torchgauge.estimate.memory.workspaces.platform import Platform
from torchgauge.facts.trace import Layout, OpRecord, TensorSpec


def batch_norm(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """A factor and a summand per channel, and sums per thread with channels last in training.

    Where the input is neither contiguous nor channels last, the reciprocal deviation instead: the
    sum with epsilon, its root and ones (in training of float32 it is saved before).

    Source: ``batch_norm_cpu_collect_linear_and_constant_terms``,
    ``batch_norm_cpu_collect_stats_channels_last_impl`` in ``cpu/batch_norm_kernel.cpp`` and
    ``batch_norm_cpu_transform_input_template`` in ``Normalization.cpp``.
    """
    data, order, training = tensor(op, 0), layout(op, 0), bool(op.args[5])
    channel = data.shape[1] * FLOAT
    if not order & (Layout.CONTIGUOUS | Layout.CHANNELS_LAST):
        if training and data.dtype == "float32":
            ones_and_zeros = 0 if isinstance(op.args[1], TensorSpec) else 2 * FLOAT
            return (max(ones_and_zeros, 12 - channel),)  # 12: the count that means are divided by
        return (max(3 * channel, 12 + channel),)
    flat = len(data.shape) == 2 or Layout.CHANNELS_LAST in order
    return channel, channel, platform.threads * channel if training and flat else 0


def batch_norm_backward(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """The input's gradient a second time, where it is asked for and the layouts agree.

    Then, with channels last, sums of two kinds per thread. Source:
    ``batch_norm_backward_cpu_template`` in ``Normalization.cpp`` and
    ``batch_norm_cpu_backward_channels_last_impl`` in ``cpu/batch_norm_kernel.cpp``.
    """
    ours, theirs = layout(op, 0), layout(op, 1)
    suggests = Layout.SUGGESTS_CHANNELS_LAST
    dense = Layout.CONTIGUOUS | Layout.CHANNELS_LAST
    shape = tensor(op, 1).shape
    channel = shape[1] * FLOAT
    if (suggests in ours) != (suggests in theirs) or not (ours & dense and theirs & dense):
        return (channel,)
    flat = len(shape) == 2 or Layout.CONTIGUOUS not in ours
    again = tensor(op, 1).nbytes if mask(op, 9)[0] else 0
    return (max(again, 2 * platform.threads * channel if flat else 0),)


def layer_norm_backward(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """Contiguous copies, and sums of the weight's and the bias' gradients per thread.

    Source: ``LayerNormBackwardKernelImpl`` in ``cpu/layer_norm_kernel.cpp``.
    """
    copies = copy_bytes(op, 0), copy_bytes(op, 1)
    if not any(mask(op, 7)[1:]) or tensor(op, 1).numel == 0:
        return copies
    return *copies, 2 * platform.threads * prod(integers(op, 2)) * FLOAT


def group_norm(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """With channels last, a factor and a summand per sample and channel.

    Source: ``GroupNormKernelImplChannelsLastInternal`` in ``cpu/group_norm_kernel.cpp``.
    """
    last = Layout.SUGGESTS_CHANNELS_LAST in layout(op, 0)
    return (2 * integer(op, 3) * integer(op, 4) * FLOAT if last else 0,)


def group_norm_backward(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """Two sums per sample and channel (``GroupNormBackwardKernelImpl``)."""
    return (integer(op, 5) * integer(op, 6) * FLOAT,) * 2
