"""Operands that are cast to a common dtype: a tensor and a number, or two tensors.

A number becomes a tensor itself first.

Source: ``wrapped_scalar_tensor`` (``aten/src/ATen/ScalarOps.cpp``) in ``BinaryOps.cpp``, and
``TensorIteratorBase::compute_types`` in ``TensorIterator.cpp``, which casts operands on the CPU.
"""

from __future__ import annotations

import re

from torchgauge.estimate.memory.workspaces.losses import NUMBER, mean_scratch
from torchgauge.estimate.memory.workspaces.operands import HALF, itemsize, tensor
from torchgauge.estimate.memory.workspaces.platform import Platform
from torchgauge.facts.trace import OpRecord, TensorSpec

_NUMBERS: dict[type, tuple[str, int]] = {
    bool: ("bool", 1), int: ("int64", NUMBER), float: ("float64", NUMBER),
    complex: ("complex128", 16),
}  # fmt: skip
"""By type: the dtype of a number as a tensor, and its bytes."""


def cast_operand(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """The number, the number in the common dtype, and copies of what has another dtype."""
    tensor, number = op.args[0], op.args[1]
    if isinstance(tensor, TensorSpec) and isinstance(number, TensorSpec):
        return _copies(op, tensor, number)
    if not isinstance(tensor, TensorSpec) or type(number) not in _NUMBERS:
        return ()
    own, nbytes = _NUMBERS[type(number)]
    common = _common_dtype(op, tensor, number)
    width = _bytes_of(common)
    copied = 0 if common == tensor.dtype else tensor.numel * width
    # What autograd has kept is there already (``trace/record/kept_numbers.py``).
    made = 0 if ("kept_number", True) in op.kwargs else nbytes
    return made, 0 if common == own else width, copied


def _common_dtype(op: OpRecord, tensor: TensorSpec, number: object) -> str:
    """Return the dtype in which a tensor meets a number.

    A fraction turns whole numbers into floats, a whole number turns booleans into int64.
    """
    output = op.outputs[0] if op.outputs else tensor
    if isinstance(number, complex):
        return output.dtype
    if _is_float(tensor):
        return tensor.dtype
    if _is_float(output):
        return output.dtype
    if isinstance(number, float):
        return "float32"
    return "int64" if tensor.dtype == "bool" and not isinstance(number, bool) else tensor.dtype


def _bytes_of(dtype: str) -> int:
    """Return the bytes of an element, which its name says in bits."""
    bits = re.search(r"\d+", dtype)
    return int(bits.group()) // 8 if bits else 1


def _copies(op: OpRecord, left: TensorSpec, right: TensorSpec) -> tuple[int, ...]:
    """Operands in the common dtype, and what is written to in it if its own is another.

    The common dtype of arithmetic is that of the result; of comparisons and of sums in place it is
    taken to be that of the larger elements, a floating-point one before all others.
    """
    if left.dtype == right.dtype:
        return ()
    output = op.outputs[0]
    in_place = "_." in op.name
    halves = {left.dtype, right.dtype} == {"float16", "bfloat16"}
    if halves and bool(left.shape) == bool(right.shape):
        dtype, width = "float32", 4
    elif in_place or output.dtype == "bool":
        widest = max(left, right, key=lambda s: (_is_float(s), len(s.shape) > 0, itemsize(s)))
        dtype, width = widest.dtype, itemsize(widest)
    else:
        dtype, width = output.dtype, itemsize(output)
    copied = [spec for spec in (left, right) if spec.dtype != dtype]
    if in_place and output.dtype != dtype:
        copied.append(output)
    return tuple(spec.numel * width for spec in copied)


def cast_of_three(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """Operands that another one of three has promoted (``addcmul`` and ``addcdiv``)."""
    specs = [spec for spec in op.args[:3] if isinstance(spec, TensorSpec)]
    widest = max(specs, key=lambda s: (_is_float(s), len(s.shape) > 0, itemsize(s)))
    return tuple(s.numel * itemsize(widest) for s in specs if s.dtype != widest.dtype)


def _is_float(spec: TensorSpec) -> bool:
    return spec.dtype.startswith(("float", "bfloat", "complex"))


def mean(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """The count that the sum is divided by, and what sums half precision in float32."""
    source, output = tensor(op, 0), op.outputs[0]
    copied = 0 if source.dtype == "float32" else source.numel  # half precision, cast to float32
    scratch = mean_scratch(copied, output.numel, output.dtype, itemsize(output), platform)
    if output.dtype in HALF:
        return (scratch,)
    return (max((scratch, *summed(op, platform))),)


def summed(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """The input in the dtype of the sum (``make_reduction_from_out_ty`` in ``ReduceOpsUtils.h``).

    Half precision is summed as it is.
    """
    source, output = tensor(op, 0), op.outputs[0]
    if source.dtype == output.dtype:
        return ()
    return (source.numel * itemsize(output),)
