"""A number beside a tensor becomes a tensor itself, and is cast to the common dtype.

Source: ``wrapped_scalar_tensor`` (``aten/src/ATen/ScalarOps.cpp``) in ``BinaryOps.cpp``, and
``TensorIteratorBase::compute_types`` in ``TensorIterator.cpp``, which casts operands on the CPU.
"""

from __future__ import annotations

from torchgauge.estimate.workspaces.target import Rule, Target
from torchgauge.report.model import OpRecord, TensorSpec

_NUMBER = 8
"""Bytes of a Python number as a tensor: float64 or int64."""
_CAST = {"float32": 4, "bfloat16": 4, "float16": 4, "complex64": 8}
"""Bytes of a number in the arithmetic of a dtype, where it is another than its own."""
_BASES = (
    "add",
    "sub",
    "mul",
    "div",
    "floor_divide",
    "remainder",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
)


def _scalar_operand(op: OpRecord, target: Target) -> tuple[int, ...]:
    """The number, and the number in the tensor's dtype."""
    tensor, other = op.args[0], op.args[1]
    if not isinstance(tensor, TensorSpec) or isinstance(other, (TensorSpec, bool)):
        return ()
    if not isinstance(other, (int, float)):
        return ()
    return _NUMBER, _CAST.get(tensor.dtype, 0)


def _mean(op: OpRecord, target: Target) -> tuple[int, ...]:
    """The count that the sum is divided by (``mean_out`` in ``ReduceOps.cpp``)."""
    return _NUMBER, _CAST.get(op.outputs[0].dtype, 0)


_BINARY: dict[str, Rule] = {
    f"aten.{base}{suffix}.{overload}": _scalar_operand
    for base in _BASES
    for suffix in ("", "_")
    for overload in ("Tensor", "Scalar", "default")
}
RULES: dict[str, Rule] = {**_BINARY, "aten.mean.default": _mean, "aten.mean.dim": _mean}
"""By operator, overload included."""
