"""Scratch memory of kernels for complex numbers, the same on every device."""

from __future__ import annotations

from torchgauge.estimate.memory.workspaces.platform import Platform, Rule
from torchgauge.facts.trace import OpRecord, TensorSpec


def _complex_first(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """The result as complex numbers, whose real parts are copied.

    Source: ``unary_op_impl_with_complex_to_float_out`` in ``aten/src/ATen/native/UnaryOps.cpp``.
    """
    source = op.args[0]
    is_complex = isinstance(source, TensorSpec) and source.dtype.startswith("complex")
    return (source.nbytes,) if is_complex and isinstance(source, TensorSpec) else ()


RULES: dict[str, Rule] = {"aten.abs.default": _complex_first, "aten.angle.default": _complex_first}
"""By operator, overload included."""
