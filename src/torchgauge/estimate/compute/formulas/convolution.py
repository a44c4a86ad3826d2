"""Convolutions, forward and backward: plain, transposed, grouped, depthwise, dilated, deformable.

Every element on the dense side — the output of a convolution, the input of a transposed one —
meets one filter: ``numel(weight) / weight.shape[0]`` MACs. Groups need no term of their own,
because ``weight.shape[1]`` holds the channels of one group; without a batch it holds as well. Each
of the two gradients consists of the same products as the forward. Where the arguments' places never
change, the operators are in ``dot_products.csv``.
"""

from __future__ import annotations

from math import prod

from torchgauge.estimate.arguments import argument, mask, output_numel, shape
from torchgauge.estimate.compute.registry import register_flop_formula
from torchgauge.facts.trace import OpRecord

_FILTER = slice(1, None)
"""Of a weight ``[o, i/g, *kernel]``: what one element of the dense side meets."""


@register_flop_formula("aten.convolution", "aten._convolution", "aten.convolution_overrideable")
def convolution(op: OpRecord) -> int:
    """``x: [b, i, …]``, ``weight: [o, i/g, *kernel]`` (transposed: ``[i, o/g, *kernel]``).

    ``2 · b · o · Π(out) · i/g · Π(kernel)``; transposed ``2 · b · i · Π(in) · o/g · Π(kernel)``.
    """
    transposed = bool(argument(op, 6, "transposed"))
    dense_side = prod(shape(op, 0)) if transposed else output_numel(op)
    return 2 * dense_side * prod(shape(op, 1)[_FILTER])


@register_flop_formula("aten.convolution_backward", "aten.convolution_backward_overrideable")
def convolution_backward(op: OpRecord) -> int:
    """``(grad, x, weight, …)``: the forward's FLOPs for each of the gradients asked for."""
    mask_at = 9 if "_overrideable" in op.name else 10  # its schema has no ``bias_sizes``
    dense = 1 if argument(op, mask_at - 3, "transposed") else 0
    wanted = mask(op, mask_at)[:2] or (True, True)  # the third is the bias, a reduction
    return 2 * prod(shape(op, dense)) * prod(shape(op, 2)[_FILTER]) * sum(wanted)
