"""Scratch memory of FP8 products with scales on the CPU.

Source: ``_scaled_mm_out_cpu`` in PyTorch's ``aten/src/ATen/native/Blas.cpp``; the sizes are
measured, PyTorch 2.13 with oneDNN 3.12. Assumes: a server processor with AMX (Intel's since 2023);
without it oneDNN takes two to five times as much.
"""

from __future__ import annotations

from torchgauge.estimate.memory.workspaces.platform import Platform, Rule
from torchgauge.facts.trace import Layout, OpRecord, TensorSpec

_FLOAT = 4
_REORDER = 3600
"""Bytes that oneDNN takes to bring a matrix into rows."""
_REORDERED_FROM = 4096
"""Elements from which on it takes them."""


def _scaled_mm(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """The right operand in rows; with a scale per row both operands and the result in float32."""
    left, right, scale = op.args[0], op.args[1], op.args[2]
    assert isinstance(left, TensorSpec) and isinstance(right, TensorSpec)
    assert isinstance(scale, TensorSpec)
    output = op.outputs[0]
    in_rows = len(op.layouts) > 1 and Layout.CONTIGUOUS in op.layouts[1]
    copied = 0 if in_rows else right.numel
    if scale.numel > 1:
        product = (right.numel + output.numel) * _FLOAT + output.nbytes
        floats = left.numel * _FLOAT
        return copied, floats, max(floats, 2 * right.numel * _FLOAT, product)
    reorder = _REORDER if copied >= _REORDERED_FROM else 0
    return copied, max(3 * _FLOAT, reorder - output.nbytes)


RULES: dict[str, Rule] = {"aten._scaled_mm.default": _scaled_mm}
"""By operator, overload included."""
