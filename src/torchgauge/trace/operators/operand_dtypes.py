"""Checks of operands' dtypes and shapes that real kernels make and meta kernels leave out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from torchgauge.trace.torch_internals.tensors import storage_key

_OPERANDS = {
    "aten.mm.default": 2, "aten.addmm.default": 3, "aten.mv.default": 2, "aten.addmv.default": 3,
    "aten.convolution.default": 3,
}  # fmt: skip
"""How many of the first arguments must be of one dtype. Source: ``addmm_impl_cpu_``, ``addmv``,
``check_input_same_type_as_parameters`` in ``aten/src/ATen/native`` and the CUDA kernels alike; on
meta tensors ``bmm``, ``dot`` and attention do make the check (2.6–2.13)."""

_PARAMETERS = {
    "aten.native_batch_norm.default": slice(1, 5),
    "aten.native_layer_norm.default": slice(2, 4),
    "aten.native_group_norm.default": slice(1, 3),
}
"""Where a normalisation has its parameters and statistics."""
_REDUCED = (torch.bfloat16, torch.float16)
_TARGETS = {
    **{
        f"aten.{base}{suffix}.default": 3
        for base in ("index_add", "index_copy", "index_reduce")
        for suffix in ("", "_")
    },
    **{f"aten.{base}{suffix}.default": 2 for base in ("index_put", "put") for suffix in ("", "_")},
    "aten._index_put_impl_.default": 2,
}
"""At which position stands what is written to places of the first argument: of its dtype, too.
Source: ``TensorAdvancedIndexing.cpp`` (2.6–2.13)."""
_AT_POSITIONS = ("aten.index_add.default", "aten.index_add_.default")


def check_operand_dtypes(name: str, args: Sequence[Any]) -> None:
    """Refuse a product of different dtypes, and what is written at positions of another.

    Sums at positions of another shape are refused as well.

    Raises:
        RuntimeError: names both dtypes or shapes.
    """
    if name in _AT_POSITIONS:
        _check_shapes(*args[:4])
        if name.endswith("_.default"):
            _check_overlap(args[0], args[3])
    if name in _PARAMETERS:
        _check_parameters(args[0], args[_PARAMETERS[name]])
    position = _TARGETS.get(name)
    if position is not None:
        operands: Sequence[Any] = (args[0], args[position])
    elif name in _OPERANDS:
        operands = args[: _OPERANDS[name]]
    else:
        return
    dtypes = [item.dtype for item in operands if isinstance(item, torch.Tensor)]
    for dtype in dtypes:
        if dtype is not dtypes[0]:
            given = ", ".join(str(one).removeprefix("torch.") for one in dtypes)
            raise RuntimeError(
                f"the operands of {name.split('.')[1]} must have the same dtype, got {given}"
            )


def _check_parameters(source: torch.Tensor, parameters: Sequence[Any]) -> None:
    """Refuse parameters of another dtype than the input's or float32 (``mixed_data_type.h``)."""
    for parameter in parameters:
        if not isinstance(parameter, torch.Tensor) or parameter.dtype is source.dtype:
            continue
        if parameter.dtype is not torch.float32:
            raise RuntimeError("mixed dtype: expect parameter to have scalar type of Float")
        if source.dtype not in _REDUCED:
            raise RuntimeError("mixed dtype: all inputs must share same datatype.")


def _check_shapes(
    target: torch.Tensor, dim: int, index: torch.Tensor, source: torch.Tensor
) -> None:
    """Refuse what ``index_func_meta_impl`` in ``TensorAdvancedIndexing.cpp`` refuses."""
    if target.dim() == 0 or source.dim() == 0:
        return
    shapes = [list(target.shape), list(source.shape)]
    for shape in shapes:
        if -len(shape) <= dim < len(shape):
            del shape[dim]
    if shapes[0] != shapes[1]:
        raise RuntimeError(
            "source tensor shape must match self tensor shape, excluding the specified dimension: "
            f"self {list(target.shape)}, source {list(source.shape)}, dimension {dim}"
        )


def _check_overlap(target: torch.Tensor, source: torch.Tensor) -> None:
    """Refuse to write to what is read (``assert_no_overlap`` in ``MemoryOverlap.cpp``)."""
    if storage_key(target.untyped_storage()) != storage_key(source.untyped_storage()):
        return
    if not (target.is_contiguous() and source.is_contiguous()):
        return  # PyTorch does not look closer either
    first, second = sorted((target, source), key=torch.Tensor.storage_offset)
    if first.storage_offset() + first.numel() > second.storage_offset():
        raise RuntimeError(
            "unsupported operation: some elements of the input tensor and the written-to tensor "
            "refer to a single memory location. Please clone() the tensor before performing the "
            "operation."
        )
