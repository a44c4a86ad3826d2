"""How much element-wise work an operator is; the operators' names are in ``elementwise_ops.py``.

Convention: one operation per element of the largest tensor read or made — a pointwise op counts
its output, a reduction its input, a pooling whichever is larger. A list of tensors (``_foreach_*``,
fused optimizers) is one operand with the elements of all of them. Indexing counts the elements
moved, not the table behind them. Few ops weigh more: see ``WEIGHTS``.
"""

from __future__ import annotations

from collections.abc import Callable
from math import log2, prod
from typing import TypeAlias

from torchgauge.estimate.compute.elementwise_ops import (
    BATCH_NORMS_WITH_FLAG,
    EMBEDDING_BAGS,
    READS_BY_INDEX,
    READS_FIRST_ARGUMENT,
    WEIGHTS,
    WHOLE_TENSOR_OPS,
    WHOLE_TENSOR_OPS_ELSEWHERE,
    WRITES_BY_INDEX,
)
from torchgauge.estimate.compute.formulas.arguments import (
    argument,
    integers,
    mask,
    output_numel,
    shape,
)
from torchgauge.estimate.compute.formulas.distance import uses_matmul
from torchgauge.estimate.compute.free_ops import FREE_NAMESPACES, FREE_OPS, FREE_OPS_ELSEWHERE
from torchgauge.estimate.compute.registry import packets
from torchgauge.facts.trace import ArgumentValue, OpRecord, TensorSpec

ElementCount: TypeAlias = Callable[[OpRecord], int]

_counts: dict[str, ElementCount | None] = {}
"""What each op name resolved to."""


def no_elements(op: OpRecord) -> int:
    """Return 0: the op moves data or makes a view."""
    return 0


def find_element_count(name: str) -> ElementCount | None:
    """Return the rule for a qualified overload, ``None`` where none of the tables has it."""
    try:
        return _counts[name]
    except KeyError:
        _counts[name] = count = _search(name)
        return count


def _search(name: str) -> ElementCount | None:
    namespace = name.partition(".")[0]
    if namespace in FREE_NAMESPACES:
        return no_elements
    for packet in packets(name):
        rule = _RULES.get(packet) or _RULES.get(packet.removesuffix("_copy"))
        if rule is None and "._foreach_" in packet:
            rule = _RULES.get(packet.replace("._foreach_", "."))
        if rule is not None:
            return rule
    return None


def largest_operand(op: OpRecord) -> int:
    """Return the elements of the largest tensor (or list of tensors) read or made."""
    most = 0
    for value in op.args:
        count = _numel(value)
        if count > most:
            most = count
    for output in op.outputs:
        count = prod(output.shape)
        if count > most:
            most = count
    return most


def _numel(value: ArgumentValue) -> int:
    if isinstance(value, TensorSpec):
        return prod(value.shape)
    if isinstance(value, tuple):
        return sum(map(_numel, value))
    return 0


def _made(op: OpRecord) -> int:
    return prod(op.outputs[0].shape) if op.outputs else 0


def _written(op: OpRecord) -> int:
    return max(map(_numel, op.args[1:]), default=0)


def _first_argument(op: OpRecord) -> int:
    return _numel(op.args[0])


def _rows_looked_up(op: OpRecord) -> int:
    """``(weight or gradient: [n, d], indices, …)``: ``numel(indices) · d``."""
    return prod(shape(op, 1)) * shape(op, 0)[-1]


def _weighted(weight: int) -> ElementCount:
    def count(op: OpRecord) -> int:
        return weight * largest_operand(op)

    return count


def _batch_norm(op: OpRecord) -> int:
    return largest_operand(op) * (5 if argument(op, 5, "training") else 2)


def _fourier(op: OpRecord) -> int:
    """``5 n log₂ n`` per complex transform of ``n`` points, half of it for a real one.

    Source: the FFTW benchmark's convention (fftw.org/speed, "mflops").
    """
    real_side = op.outputs[0].shape if "c2r" in op.name else shape(op, 0)
    points = prod(real_side[dim] for dim in integers(op, 1, "dim"))
    weight = 5.0 if "c2c" in op.name else 2.5
    return round(weight * prod(real_side) * log2(points)) if points > 1 else 0


def _pairs_of_rows(op: OpRecord) -> int:
    """``x: […, p, m]`` against ``y: […, r, m]``: three operations per pair and coordinate."""
    return 3 * output_numel(op) * shape(op, 0)[-1]


def _pairs_unless_matmul(op: OpRecord) -> int:
    return 0 if uses_matmul(op) else _pairs_of_rows(op)


def _pairs_backward(op: OpRecord) -> int:
    """``(grad: one per pair, x: […, m], …)``: three operations per pair and coordinate."""
    return 3 * _first_argument(op) * shape(op, 1)[-1]


def _convolution_bias(op: OpRecord) -> int:
    """The bias gradient is a sum over ``grad``, if asked for."""
    wanted = mask(op, 9 if "_overrideable" in op.name else 10)
    return prod(shape(op, 0)) if wanted[2:] == (True,) else 0


def _linear_bias(op: OpRecord) -> int:
    return prod(shape(op, 1)) if mask(op, 3)[2:] == (True,) else 0


def _qualified(names: frozenset[str], count: ElementCount) -> dict[str, ElementCount]:
    return {name if "." in name else f"aten.{name}": count for name in names}


_RULES: dict[str, ElementCount] = {
    **_qualified(FREE_OPS | FREE_OPS_ELSEWHERE, no_elements),
    **_qualified(WHOLE_TENSOR_OPS | WHOLE_TENSOR_OPS_ELSEWHERE, largest_operand),
    **_qualified(READS_BY_INDEX, _made),
    **_qualified(WRITES_BY_INDEX, _written),
    **_qualified(READS_FIRST_ARGUMENT, _first_argument),
    **_qualified(EMBEDDING_BAGS, _rows_looked_up),
    **_qualified(BATCH_NORMS_WITH_FLAG, _batch_norm),
    **{f"aten.{name}": _weighted(weight) for name, weight in WEIGHTS.items()},
    **_qualified(frozenset({"_fft_c2c", "_fft_c2r", "_fft_r2c"}), _fourier),
    **_qualified(frozenset({"_pdist_forward", "pdist"}), _pairs_of_rows),
    **_qualified(frozenset({"_cdist_forward", "cdist"}), _pairs_unless_matmul),
    **_qualified(frozenset({"_cdist_backward", "_pdist_backward"}), _pairs_backward),
    "aten.convolution_backward": _convolution_bias,
    "aten.convolution_backward_overrideable": _convolution_bias,
    "aten.linear_backward": _linear_bias,
    "aten.mkldnn_linear_backward": _linear_bias,
}
"""Beside a FLOP formula, a rule holds the element-wise part of a matmul-like op."""
