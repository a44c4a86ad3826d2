"""Outputs of normalisations.

PyTorch computes their meta versions by element-wise primitives in Python, which takes longer than
all other operators of a CNN together; the shapes are known beforehand.
"""

from __future__ import annotations

import torch

from torchgauge.trace.shapes.layouts import channels_last
from torchgauge.trace.shapes.rule import Args, Gradients, Kwargs, Rule, Tensors, asked_for, made


def _stat_dtype(source: torch.Tensor, weight: torch.Tensor | None) -> torch.dtype:
    """Return the dtype in which a normalisation on the CPU keeps its statistics.

    That of the parameters: float32 for a half-precision input under float32 parameters, half for
    both in half (``is_mixed_type`` in PyTorch's ``aten/src/ATen/native/cpu/mixed_data_type.h``).
    """
    return source.dtype if weight is None else weight.dtype


def check_channels(args: Args) -> None:
    """Refuse a batch norm whose parameters do not have as many channels as its input."""
    source = args[0]
    if source.dim() < 2:
        raise RuntimeError(f"batch norm needs at least 2 dimensions, got {tuple(source.shape)}")
    for tensor in args[1:5]:
        if tensor is not None and tensor.numel() != source.shape[1]:
            raise RuntimeError(
                f"batch norm over {tensor.numel()} channels got {tuple(source.shape)}"
            )


def _batch_norm(args: Args, kwargs: Kwargs) -> Tensors:
    """``[N, C, ...] → [N, C, ...]`` and mean, inverse deviation ``[C]`` (empty in evaluation)."""
    source, training = args[0], args[5]
    check_channels(args)
    dtype, size = _stat_dtype(source, args[1]), source.shape[1] if training else 0
    return _in_its_order(source), made(size, dtype), made(size, dtype)


def _in_its_order(source: torch.Tensor) -> torch.Tensor:
    """Return an image of that shape, contiguous or with its channels last, as it suggests."""
    layout = channels_last(source) or torch.contiguous_format
    return torch.empty_like(source, memory_format=layout)


def _batch_norm_backward(args: Args, kwargs: Kwargs) -> Gradients:
    """Gradients of input, weight and bias, as ``output_mask`` asks."""
    source, weight, mask = args[1], args[2], args[9]
    channel = asked_for(mask[1:], source.shape[1], _stat_dtype(source, weight))
    return _in_its_order(source) if mask[0] else None, *channel


def layer_norm(args: Args, stat_dtype: torch.dtype, name: str = "layer norm") -> Tensors:
    """``[..., *normalized] → [..., *normalized]`` and two statistics ``[..., 1, 1, …]``."""
    source, normalized = args[0], tuple(args[1])
    count = len(normalized)
    outer = source.shape[: source.dim() - count]
    if tuple(source.shape[source.dim() - count :]) != normalized:
        raise RuntimeError(f"{name} over {normalized} got an input of shape {tuple(source.shape)}")
    shape = (*outer, *([1] * count))
    return made(source.shape, source.dtype), made(shape, stat_dtype), made(shape, stat_dtype)


def _layer_norm(args: Args, kwargs: Kwargs) -> Tensors:
    return layer_norm(args, _stat_dtype(args[0], args[2]))


def _layer_norm_backward(args: Args, kwargs: Kwargs) -> Gradients:
    """Gradients of input, weight and bias, as ``output_mask`` asks."""
    source, normalized, mask = args[1], args[2], args[7]
    parts = [
        made(normalized, (source if own is None else own).dtype) if wanted else None
        for own, wanted in zip(args[5:7], mask[1:], strict=True)
    ]
    return made(source.shape, source.dtype) if mask[0] else None, *parts


def _group_norm(args: Args, kwargs: Kwargs) -> Tensors:
    """``[N, C, ...] → [N, C, ...]`` in the input's layout and two statistics ``[N, groups]``."""
    source, shape = args[0], (args[3], args[6])
    dtype = _stat_dtype(source, args[1])
    return torch.empty_like(source), made(shape, dtype), made(shape, dtype)


def _group_norm_backward(args: Args, kwargs: Kwargs) -> Gradients:
    """Gradients of input, weight and bias, as ``output_mask`` asks."""
    source, weight, channels, mask = args[1], args[4], args[6], args[9]
    parts = asked_for(mask[1:], channels, _stat_dtype(source, weight))
    return torch.empty_like(source) if mask[0] else None, *parts


NORMALIZATION_RULES: dict[str, Rule] = {
    "aten.native_batch_norm.default": _batch_norm,
    "aten.native_batch_norm_backward.default": _batch_norm_backward,
    "aten.native_layer_norm.default": _layer_norm,
    "aten.native_layer_norm_backward.default": _layer_norm_backward,
    "aten.native_group_norm.default": _group_norm,
    "aten.native_group_norm_backward.default": _group_norm_backward,
}
