"""Output shapes of kernels that answer otherwise on CUDA than on the CPU."""

from __future__ import annotations

from typing import Any

import torch

from torchgauge.trace.kernels import cuda_recurrent
from torchgauge.trace.shapes.normalization import check_channels, layer_norm
from torchgauge.trace.shapes.rule import META, Args, Gradients, Kwargs, Rule, Tensors, made

_HALF = (torch.float16, torch.bfloat16)


def _accumulated(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype that statistics of such tensors have on CUDA (``toAccumulateType``)."""
    return torch.float32 if dtype in _HALF else dtype


def _layer_norm(args: Args, kwargs: Kwargs) -> Tensors:
    return layer_norm(args, _accumulated(args[0].dtype), "normalisation")


def _rms_norm(args: Args, kwargs: Kwargs) -> Tensors:
    """``[..., *normalized] → [..., *normalized]`` and one statistic ``[..., 1, 1, …]``."""
    return _layer_norm(args, kwargs)[:2]


def _rms_norm_backward(args: Args, kwargs: Kwargs) -> Gradients:
    """Gradients of input and weight, as ``output_mask`` asks."""
    source, weight, mask = args[1], args[4], args[5]
    return tuple(
        made(tensor.shape, tensor.dtype) if wanted and tensor is not None else None
        for tensor, wanted in zip((source, weight), mask, strict=True)
    )


def _native_batch_norm(args: Args, kwargs: Kwargs) -> Tensors:
    """``[N, C, ...] → [N, C, ...]`` and mean, inverse deviation ``[C]`` (empty in evaluation)."""
    source, training = args[0], args[5]
    check_channels(args)
    size = source.shape[1] if training else 0
    dtype = _accumulated(source.dtype)
    stats = [made(size, dtype) for _ in range(2)]
    return torch.empty_like(source), *stats


def _cudnn_batch_norm(args: Args, kwargs: Kwargs) -> Tensors:
    """``[N, C, ...] → [N, C, ...]``, statistics ``[C]`` in the weight's dtype, an empty reserve."""
    source, weight, training = args[0], args[1], args[5]
    check_channels(args)
    size = source.shape[1] if training else 0
    stats = [made(size, weight.dtype) for _ in range(2)]
    return torch.empty_like(source), *stats, made(0, torch.uint8)


def _cudnn_batch_norm_backward(args: Args, kwargs: Kwargs) -> Tensors:
    """Gradients of input, weight and bias."""
    source, weight = args[0], args[2]
    parts = [made(weight.shape, weight.dtype) for _ in range(2)]
    return torch.empty_like(source), *parts


def _cudnn_attention(args: Args, kwargs: Kwargs) -> tuple[Any, ...]:
    """``[N, H, L, E], [N, H, S, E], [N, H, S, V] → [N, H, L, V]``, in the query's order of strides.

    Also the log-sum-exp of each row, and the state of the random number generator. The
    meta kernel of 2.6 gives a contiguous output. Source: ``run_cudnn_SDP_fprop`` in PyTorch's
    ``aten/src/ATen/native/cudnn/MHA.cpp`` (``alloc_with_matching_layout``).
    """
    query, key, value = args[:3]
    shape = (*query.shape[:3], value.shape[3])
    order = sorted(range(4), key=query.stride, reverse=True)
    output = torch.empty_permuted(shape, order, dtype=query.dtype, device=META)
    sums = made((*query.shape[:3], 1), torch.float32)
    seed, offset = (made((), torch.int64) for _ in range(2))
    return output, sums, None, None, query.shape[2], key.shape[2], seed, offset, None


SHAPE_RULES: dict[str, Rule] = {
    "aten._fused_rms_norm.default": _rms_norm,
    "aten._scaled_dot_product_cudnn_attention.default": _cudnn_attention,
    "aten._fused_rms_norm_backward.default": _rms_norm_backward,
    "aten.native_layer_norm.default": _layer_norm,
    "aten.native_batch_norm.default": _native_batch_norm,
    "aten.cudnn_batch_norm.default": _cudnn_batch_norm,
    "aten.cudnn_batch_norm_backward.default": _cudnn_batch_norm_backward,
    "aten._linalg_svd.default": lambda args, kwargs: NotImplemented,  # as PyTorch: by rows
    **cuda_recurrent.SHAPE_RULES,
}
"""Rules by operator; each makes the outputs from ``(args, kwargs)``."""
