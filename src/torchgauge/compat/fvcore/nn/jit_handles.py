"""Handles: functions ``(inputs, outputs) -> count`` of one operator, as fvcore defines them.

Those of matrix products and convolutions are torchgauge's formulas. The element-wise ones follow
fvcore's convention, operations per element: https://github.com/facebookresearch/fvcore,
``fvcore/nn/jit_handles.py`` and ``flop_count.py`` (0.1.5).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from math import prod
from typing import Any, TypeAlias

from torchgauge.estimate.compute.flops import op_cost
from torchgauge.facts.trace import ArgumentValue, OpRecord, Phase, TensorSpec

Handle: TypeAlias = Callable[[list[Any], list[Any]], "Counter[str] | float"]

_NORM, _AFFINE_NORM = 4, 5
"""Operations per element that fvcore puts down for a normalisation ("a rough estimate")."""
_FOLDED_NORM, _AFFINE_FOLDED_NORM = 1, 2
"""The same for a batch norm with fixed statistics: a scale, and a shift."""


def get_shape(val: Any) -> list[int] | None:
    """Return the shape of a value, ``None`` for what is no tensor."""
    return val.type().sizes() if val.isCompleteTensor() else None


def generic_activation_jit(op_name: str | None = None) -> Handle:
    """Return a handle that counts the elements of the first output, under a name if given."""

    def count(inputs: list[Any], outputs: list[Any]) -> Counter[str] | float:
        elements = _numel(outputs[0])
        return elements if op_name is None else Counter({op_name: elements})

    return count


def _product(name: str, *, positions: slice = slice(None), counts_as: str = "") -> Handle:
    """Return a handle that counts MACs with the formula of one of torchgauge's operators."""

    def count(inputs: list[Any], outputs: list[Any]) -> Counter[str] | float:
        record = OpRecord(
            index=0,
            name=name,
            args=tuple(_content(value) for value in inputs[positions]),
            kwargs=(),
            outputs=tuple(_spec(value) for value in outputs),
            call=-1,
            phase=Phase.FORWARD,
        )
        cost = op_cost(record)
        assert cost is not None, name
        macs = cost.flops // 2
        return Counter({counts_as: macs}) if counts_as else macs

    return count


addmm_flop_jit = _product("aten.addmm.default")
bmm_flop_jit = _product("aten.bmm.default")
linear_flop_jit = _product("aten.linear.default")
matmul_flop_jit = _product("aten.matmul.default")
einsum_flop_jit = _product("aten.einsum.default")
conv_flop_jit = _product("aten.convolution.default", positions=slice(9), counts_as="conv")


def elementwise_flop_counter(input_scale: float = 1, output_scale: float = 0) -> Handle:
    """Return a handle for ``input_scale`` per element read + ``output_scale`` per element made."""

    def count(inputs: list[Any], outputs: list[Any]) -> float:
        read = input_scale * _numel(inputs[0]) if input_scale else 0
        return read + (output_scale * _numel(outputs[0]) if output_scale else 0)

    return count


def norm_flop_counter(affine_arg_index: int) -> Handle:
    """Return a handle for a normalisation whose weight is at a position of the inputs."""

    def count(inputs: list[Any], outputs: list[Any]) -> float:
        is_affine = get_shape(inputs[affine_arg_index]) is not None
        return _numel(inputs[0]) * (_AFFINE_NORM if is_affine else _NORM)

    return count


def batchnorm_flop_jit(inputs: list[Any], outputs: list[Any]) -> Counter[str] | float:
    """Count a batch norm: as a normalisation in training, as a scale and shift else."""
    if inputs[5].toIValue():
        return norm_flop_counter(1)(inputs, outputs)
    is_affine = get_shape(inputs[1]) is not None
    return _numel(inputs[0]) * (_AFFINE_FOLDED_NORM if is_affine else _FOLDED_NORM)


def _numel(value: Any) -> int:
    return prod(get_shape(value) or ())


def _content(value: Any) -> ArgumentValue:
    """Return a value as an argument of a record, tensors in lists included."""
    if value.isCompleteTensor():
        return _spec(value)
    if value.node().kind() == "prim::ListConstruct":
        return tuple(_content(item) for item in value.node().inputs())
    found: ArgumentValue = value.toIValue()
    return found


def _spec(value: Any) -> TensorSpec:
    shape = tuple(get_shape(value) or ())
    return TensorSpec(shape=shape, dtype="float32", device="meta", nbytes=4 * prod(shape))
