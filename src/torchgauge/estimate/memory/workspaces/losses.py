"""Full-size temporaries inside losses that are one operator each. Shapes: any, broadcast.

Source: ``Loss.cpp`` and ``cuda/Loss.cu`` in PyTorch's ``aten/src/ATen/native`` (2.6–2.13). What a
reduced loss keeps (some leave their scalar in the memory of all elements) is in its output's
storage: ``trace/shapes/losses.py``.
"""

from __future__ import annotations

from torchgauge.estimate.arguments import argument
from torchgauge.estimate.memory.workspaces.operands import HALF, broadcast, copy_bytes, itemsize
from torchgauge.estimate.memory.workspaces.platform import Platform
from torchgauge.facts.trace import OpRecord, TensorSpec

NUMBER = 8
"""Bytes of a Python number as a tensor: float64 or int64."""
_NONE, _MEAN = 0, 1
"""PyTorch's numbers for a loss that is not reduced, and for one that is averaged."""


def mean_scratch(elements: int, results: int, dtype: str, width: int, platform: Platform) -> int:
    """Return the scratch bytes of a mean of ``elements`` numbers: the count that it divides by.

    Half precision is summed in a copy of float32. Source: ``mean_out`` in ``ReduceOps.cpp``.
    """
    if platform.type != "cpu":
        return 0
    if dtype in HALF:
        return 4 * results + max(4 * elements, NUMBER + 4)
    return NUMBER + width


def _tensors(op: OpRecord, count: int) -> list[TensorSpec]:
    return [value for value in op.args[:count] if isinstance(value, TensorSpec)]


def _after(op: OpRecord, reduction: object, all_bytes: int, platform: Platform) -> int:
    """Return the scratch bytes of reducing the losses of the elements to one number."""
    if reduction != _MEAN:
        return 0
    output = op.outputs[0]
    width = itemsize(output)
    return mean_scratch(all_bytes // max(1, width), 1, output.dtype, width, platform)


def per_element(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """The loss of each element, which is then reduced; operands of another dtype are cast.

    ``loss(input, target, reduction, …)``. On the CPU an operand is cast as often as an iterator is
    built: twice, for ``huber_loss`` once.
    """
    reduction = argument(op, 2, "reduction", _MEAN)
    pair, width = _tensors(op, 2), itemsize(op.outputs[0])
    whole = broadcast(*pair) * width
    copied = [s.numel * width for s in pair if s.dtype != op.outputs[0].dtype]
    copied = copied if platform.type == "cpu" else []
    if reduction == _NONE:
        return tuple(copied)
    casts = 1 if "huber" in op.name else 2
    return whole, casts * sum(copied), _after(op, reduction, whole, platform)


def reduced_apart(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """The reduced loss, before it is copied to where the loss of each element was.

    ``binary_cross_entropy(input, target, weight, reduction)``, ``soft_margin_loss(input, target,
    reduction)``.
    """
    position = 2 if "soft_margin" in op.name else 3
    reduction = argument(op, position, "reduction", _MEAN)
    if reduction == _NONE:
        return ()
    whole = broadcast(*_tensors(op, 2)) * itemsize(op.outputs[0])
    return itemsize(op.outputs[0]), _after(op, reduction, whole, platform)


def with_logits(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """Two tensors of all elements at the worst moment.

    ``binary_cross_entropy_with_logits(input, target, weight, pos_weight, reduction)``. The weight
    of the positive class, less one and plus one, is there until it is multiplied.
    """
    reduction = argument(op, 4, "reduction", _MEAN)
    pair, width = _tensors(op, 2), itemsize(op.outputs[0])
    whole = broadcast(*pair) * width
    weight = argument(op, 3, "pos_weight")
    number = NUMBER + width if platform.type == "cpu" else 0
    moments = [2 * whole + (copy_bytes(op, 0) if platform.type == "cpu" else 0)]
    if isinstance(weight, TensorSpec):
        moments.append(2 * whole + weight.nbytes + number)
    if reduction == _NONE:
        return (max(moments) - whole,)
    moments.append(2 * whole + op.outputs[0].nbytes + _after(op, reduction, whole, platform))
    return (max(moments) - op.outputs[0].nbytes,)


def cross_entropy_backward(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """The number of elements, which an averaged gradient is divided by."""
    mean = argument(op, 4, "reduction", _MEAN) == _MEAN and platform.type == "cpu"
    return (NUMBER + itemsize(op.outputs[0]),) if mean else ()
