"""Scratch memory of kernels for complex numbers, the same on every device."""

from __future__ import annotations

from torchgauge.estimate.memory.workspaces.operands import tensor
from torchgauge.estimate.memory.workspaces.platform import Platform, Rules
from torchgauge.facts.trace import OpRecord


def _complex_first(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """The result as complex numbers, whose real parts are copied.

    Source: ``unary_op_impl_with_complex_to_float_out`` in ``aten/src/ATen/native/UnaryOps.cpp``.
    """
    source = tensor(op, 0)
    return (source.nbytes,) if source.dtype.startswith("complex") else ()


RULES: Rules = {"aten.abs.default": _complex_first, "aten.angle.default": _complex_first}
