"""Output shapes of kernels that answer otherwise on CUDA than on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from torchgauge.trace.kernels import cuda_recurrent
from torchgauge.trace.operators.shape_rules import META

_HALF = (torch.float16, torch.bfloat16)


def _accumulated(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype that statistics of such tensors have on CUDA (``toAccumulateType``)."""
    return torch.float32 if dtype in _HALF else dtype


def _layer_norm(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[torch.Tensor, ...]:
    """``[..., *normalized] → [..., *normalized]`` and two statistics ``[..., 1, 1, …]``."""
    source, normalized = args[0], tuple(args[1])
    count = len(normalized)
    if tuple(source.shape[source.dim() - count :]) != normalized:
        raise RuntimeError(
            f"normalisation over {normalized} got an input of shape {tuple(source.shape)}"
        )
    shape = (*source.shape[: source.dim() - count], *([1] * count))
    dtype = _accumulated(source.dtype)
    stats = [torch.empty(shape, dtype=dtype, device=META) for _ in range(2)]
    return torch.empty(source.shape, dtype=source.dtype, device=META), *stats


def _rms_norm(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[torch.Tensor, ...]:
    """``[..., *normalized] → [..., *normalized]`` and one statistic ``[..., 1, 1, …]``."""
    return _layer_norm(args, kwargs)[:2]


def _rms_norm_backward(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[torch.Tensor | None, ...]:
    """Gradients of input and weight, as ``output_mask`` asks."""
    source, weight, mask = args[1], args[4], args[5]
    return tuple(
        torch.empty(tensor.shape, dtype=tensor.dtype, device=META)
        if wanted and tensor is not None
        else None
        for tensor, wanted in zip((source, weight), mask, strict=True)
    )


def _native_batch_norm(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[torch.Tensor, ...]:
    """``[N, C, ...] → [N, C, ...]`` and mean, inverse deviation ``[C]`` (empty in evaluation)."""
    source, training = args[0], args[5]
    _check_channels(args)
    size = source.shape[1] if training else 0
    dtype = _accumulated(source.dtype)
    stats = [torch.empty(size, dtype=dtype, device=META) for _ in range(2)]
    return torch.empty_like(source), *stats


def _cudnn_batch_norm(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[torch.Tensor, ...]:
    """``[N, C, ...] → [N, C, ...]``, statistics ``[C]`` in the weight's dtype, an empty reserve."""
    source, weight, training = args[0], args[1], args[5]
    _check_channels(args)
    size = source.shape[1] if training else 0
    stats = [torch.empty(size, dtype=weight.dtype, device=META) for _ in range(2)]
    return torch.empty_like(source), *stats, torch.empty(0, dtype=torch.uint8, device=META)


def _cudnn_batch_norm_backward(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[torch.Tensor, ...]:
    """Gradients of input, weight and bias."""
    source, weight = args[0], args[2]
    parts = [torch.empty(weight.shape, dtype=weight.dtype, device=META) for _ in range(2)]
    return torch.empty_like(source), *parts


def _check_channels(args: tuple[Any, ...]) -> None:
    source = args[0]
    if source.dim() < 2:
        raise RuntimeError(f"batch norm needs at least 2 dimensions, got {tuple(source.shape)}")
    for tensor in args[1:5]:
        if tensor is not None and tensor.numel() != source.shape[1]:
            raise RuntimeError(
                f"batch norm over {tensor.numel()} channels got {tuple(source.shape)}"
            )


def _cudnn_attention(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    """``[N, H, L, E], [N, H, S, E], [N, H, S, V] → [N, H, L, V]``, in the query's order of strides.

    Beside it the log-sum-exp of each row, and the state of the generator of random numbers. The
    meta kernel of 2.6 gives a contiguous output. Source: ``run_cudnn_SDP_fprop`` in PyTorch's
    ``aten/src/ATen/native/cudnn/MHA.cpp`` (``alloc_with_matching_layout``).
    """
    query, key, value = args[:3]
    shape = (*query.shape[:3], value.shape[3])
    order = sorted(range(4), key=query.stride, reverse=True)
    output = torch.empty_permuted(shape, order, dtype=query.dtype, device=META)
    sums = torch.empty((*query.shape[:3], 1), dtype=torch.float32, device=META)
    seed, offset = (torch.empty((), dtype=torch.int64, device=META) for _ in range(2))
    return output, sums, None, None, query.shape[2], key.shape[2], seed, offset, None


SHAPE_RULES: dict[str, Callable[[tuple[Any, ...], dict[str, Any]], Any]] = {
    "aten._fused_rms_norm.default": _rms_norm,
    "aten._scaled_dot_product_cudnn_attention.default": _cudnn_attention,
    "aten._fused_rms_norm_backward.default": _rms_norm_backward,
    "aten.native_layer_norm.default": _layer_norm,
    "aten.native_batch_norm.default": _native_batch_norm,
    "aten.cudnn_batch_norm.default": _cudnn_batch_norm,
    "aten.cudnn_batch_norm_backward.default": _cudnn_batch_norm_backward,
    **cuda_recurrent.SHAPE_RULES,
}
"""Rules by operator; each makes the outputs from ``(args, kwargs)``."""
