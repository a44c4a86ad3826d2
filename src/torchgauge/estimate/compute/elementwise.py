"""How much element-wise work an operator is; which operator counts how is in ``elementwise.csv``.

Convention: one operation per element of the largest tensor read or made — a pointwise op counts
its output, a reduction its input, a pooling whichever is larger. A list of tensors (``_foreach_*``,
fused optimizers) is one operand with the elements of all of them. Indexing counts the elements
moved, not the table behind them. Few ops weigh more.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import log2, prod
from typing import TypeAlias

from torchgauge.devices.tables import function_of, rows_beside
from torchgauge.estimate.arguments import argument, integers, mask, output_numel, shape
from torchgauge.estimate.compute.formulas.matmul import uses_matmul
from torchgauge.estimate.compute.registry import packets
from torchgauge.facts.trace import ArgumentValue, OpRecord, TensorSpec

ElementCount: TypeAlias = Callable[[OpRecord], int]

_FREE_NAMESPACES = ("_c10d_functional.", "_c10d_functional_autograd.", "c10d.", "profiler.")
"""Collectives move data; the additions of an all-reduce are the network's, not the model's."""
_FREE_FAMILIES = ("aten._nested_", "aten._validate_sparse_", "aten._cast_", "aten.sym_")
"""What names begin with that stand in no table and are free."""
_WHOLE_TENSOR_FAMILIES = (
    "aten.special_", "aten.fake_quantize_", "aten._fake_quantize_", "quantized_decomposed."
)  # fmt: skip
"""The same of those that count one operation per element of the largest tensor."""
_SHARING_NAMESPACES = ("prims", "quantized")
"""Whose operators follow those of ``aten`` that have the same name."""


def no_elements(op: OpRecord) -> int:
    """Return 0: the op moves data or makes a view."""
    return 0


@cache
def find_element_count(name: str) -> ElementCount | None:
    """Return the rule for a qualified overload, ``None`` where none of the tables has it."""
    if name.startswith(_FREE_NAMESPACES):
        return no_elements
    for packet in packets(name):
        namespace, _, base = packet.partition(".")
        own = (packet, packet.removesuffix("_copy"), packet.removesuffix("_backward"))
        shared = (f"aten.{base}" if namespace in _SHARING_NAMESPACES else packet,)
        for known in (*own, packet.replace("._foreach_", "."), *shared):
            if known in _RULES:
                return _RULES[known]
        if packet.startswith(_FREE_FAMILIES):
            return no_elements
        if packet.startswith(_WHOLE_TENSOR_FAMILIES):
            return largest_operand
    return None


def largest_operand(op: OpRecord) -> int:
    """Return the elements of the largest tensor (or list of tensors) read or made."""
    return max(map(_numel, (*op.args, *op.outputs)), default=0)


def _numel(value: ArgumentValue) -> int:
    if isinstance(value, TensorSpec):
        return prod(value.shape)
    if isinstance(value, tuple):
        return sum(map(_numel, value))
    return 0


def made(op: OpRecord) -> int:
    """One operation per element that is made."""
    return prod(op.outputs[0].shape) if op.outputs else 0


def written(op: OpRecord) -> int:
    """One per element of the largest argument after the first, which is only touched."""
    return max(map(_numel, op.args[1:]), default=0)


def first_argument(op: OpRecord) -> int:
    """One per element of the first argument."""
    return _numel(op.args[0])


def rows_looked_up(op: OpRecord) -> int:
    """``(weight or gradient: [n, d], indices, …)``: ``numel(indices) · d``."""
    return prod(shape(op, 1)) * shape(op, 0)[-1]


def weighted(op: OpRecord, weight: int) -> int:
    """So many operations per element of the largest tensor (or list of tensors) read or made."""
    return weight * largest_operand(op)


def batch_norm(op: OpRecord) -> int:
    """More in training, where statistics are computed."""
    return largest_operand(op) * (5 if argument(op, 5, "training") else 2)


def fourier(op: OpRecord) -> int:
    """``5 n log₂ n`` per complex transform of ``n`` points, half of it for a real one.

    Source: the FFTW benchmark's convention (fftw.org/speed, "mflops").
    """
    real_side = op.outputs[0].shape if "c2r" in op.name else shape(op, 0)
    points = prod(real_side[dim] for dim in integers(op, 1, "dim"))
    weight = 5.0 if "c2c" in op.name else 2.5
    return round(weight * prod(real_side) * log2(points)) if points > 1 else 0


def pairs_of_rows(op: OpRecord) -> int:
    """``x: […, p, m]`` against ``y: […, r, m]``: three operations per pair and coordinate.

    None where ``cdist`` runs as a matrix product.
    """
    is_product = "cdist" in op.name and uses_matmul(op)
    return 0 if is_product else 3 * output_numel(op) * shape(op, 0)[-1]


def pairs_backward(op: OpRecord) -> int:
    """``(grad: one per pair, x: […, m], …)``: three operations per pair and coordinate."""
    return 3 * first_argument(op) * shape(op, 1)[-1]


def bias(op: OpRecord, gradient: int, mask_at: int) -> int:
    """The bias' gradient is a sum over the output's, if asked for."""
    return prod(shape(op, gradient)) if mask(op, mask_at)[2:] == (True,) else 0


_RULES: dict[str, ElementCount] = {
    row["operator"]: function_of(__package__, f"elementwise.{row['operations']}")
    for row in rows_beside(__file__)
}
"""Beside a FLOP formula, a rule holds the element-wise part of a matmul-like op."""
