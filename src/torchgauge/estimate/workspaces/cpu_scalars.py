"""Operands that are cast to a common dtype: a number beside a tensor, a tensor of another dtype.

A number becomes a tensor itself first.

Source: ``wrapped_scalar_tensor`` (``aten/src/ATen/ScalarOps.cpp``) in ``BinaryOps.cpp``, and
``TensorIteratorBase::compute_types`` in ``TensorIterator.cpp``, which casts operands on the CPU.
"""

from __future__ import annotations

from math import prod

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


def _cast_operand(op: OpRecord, target: Target) -> tuple[int, ...]:
    """The number, and the number in the tensor's dtype; or copies of what has another dtype."""
    tensor, other = op.args[0], op.args[1]
    if isinstance(tensor, TensorSpec) and isinstance(other, TensorSpec):
        return _copies(op, tensor, other)
    if not isinstance(tensor, TensorSpec) or isinstance(other, bool):
        return ()
    if not isinstance(other, (int, float)):
        return ()
    return _NUMBER, _CAST.get(tensor.dtype, 0)


def _copies(op: OpRecord, left: TensorSpec, right: TensorSpec) -> tuple[int, ...]:
    """Operands in the common dtype, and what is written to in it if its own is another.

    The common dtype of arithmetic is that of the result; of comparisons and of sums in place it is
    taken to be that of the larger elements, a floating-point one before all others.
    """
    if left.dtype == right.dtype:
        return ()
    output = op.outputs[0]
    if output.dtype == "bool" or "_." in op.name:
        common = max(
            left, right, key=lambda spec: (_is_float(spec), len(spec.shape) > 0, _width(spec))
        )
    else:
        common = output
    width = _width(common)
    copied = [spec for spec in (left, right) if spec.dtype != common.dtype]
    if "_." in op.name and output.dtype != common.dtype:
        copied.append(output)
    return tuple(prod(spec.shape) * width for spec in copied)


def _is_float(spec: TensorSpec) -> bool:
    return spec.dtype.startswith(("float", "bfloat", "complex"))


def _width(spec: TensorSpec) -> int:
    count = prod(spec.shape)
    return spec.nbytes // count if count else 0


def _mean(op: OpRecord, target: Target) -> tuple[int, ...]:
    """The count that the sum is divided by (``mean_out`` in ``ReduceOps.cpp``)."""
    return _NUMBER, _CAST.get(op.outputs[0].dtype, 0)


_BINARY: dict[str, Rule] = {
    f"aten.{base}{suffix}.{overload}": _cast_operand
    for base in _BASES
    for suffix in ("", "_")
    for overload in ("Tensor", "Scalar", "default")
}
RULES: dict[str, Rule] = {**_BINARY, "aten.mean.default": _mean, "aten.mean.dim": _mean}
"""By operator, overload included."""
