"""All shape rules of operators that every device runs alike, and those that stand alone."""

from __future__ import annotations

from typing import Any

import torch

from torchgauge.trace.shapes.convolution import CONVOLUTION_RULES
from torchgauge.trace.shapes.fourier import FOURIER_RULES
from torchgauge.trace.shapes.kernels import KERNEL_RULES
from torchgauge.trace.shapes.losses import LOSS_RULES
from torchgauge.trace.shapes.normalization import NORMALIZATION_RULES
from torchgauge.trace.shapes.packed import PACKED_RULES
from torchgauge.trace.shapes.readers import READER_RULES
from torchgauge.trace.shapes.rule import Args, Gradients, Kwargs, Rule, Tensors, made
from torchgauge.trace.torch_internals.chosen_kernels import has_early_onednn
from torchgauge.trace.torch_internals.onednn import lstm_workspace_bytes


def _grouped_mm(args: Args, kwargs: Kwargs) -> torch.Tensor:
    """Grouped matmul in any dtype; PyTorch's own meta kernel admits bfloat16 only (2.8–2.13).

    ``[T, K] × [E, K, N] → [T, N]``, and ``[M, T] × [T, N] → [E, M, N]`` for its weight gradient.
    """
    left, right, *rest = args
    offsets = rest[0] if rest else kwargs.get("offs")
    dtype = kwargs.get("out_dtype") or left.dtype
    groups = offsets.shape[0] if isinstance(offsets, torch.Tensor) else 0
    shape: tuple[int, ...]
    if left.dim() == 2 and right.dim() == 2:
        shape = (groups, left.shape[0], right.shape[1])
    elif left.dim() == 3 and right.dim() == 2:
        shape = (left.shape[1], right.shape[1])
    elif left.dim() == 2:
        shape = (left.shape[0], right.shape[2])
    else:
        shape = (left.shape[0], left.shape[1], right.shape[2])
    return made(shape, dtype)


def _onednn_lstm(args: Args, kwargs: Kwargs) -> Gradients:
    """``[T, B, I] → [T, B, H]``, both states ``[B, H]``, and a workspace for the backward.

    Whether gradients may be asked for decides, not whether the layer is trained (``RNN.cpp``).
    """
    source, hidden, cell, size = args[0], args[5], args[6], args[10]
    output = made((*source.shape[:-1], size), source.dtype)
    states = [made(s.shape, s.dtype) for s in (hidden, cell)]
    steps, batch, inputs = source.shape
    if not torch.is_grad_enabled():
        return output, *states, None
    nbytes = lstm_workspace_bytes(steps, batch, inputs, size, is_early=has_early_onednn())
    return output, *states, made(nbytes, torch.uint8)


def _onednn_lstm_backward(args: Args, kwargs: Kwargs) -> Tensors:
    """Gradients of the input, both weights, both biases ``[4 H]`` and the two states."""
    shapes = [tensor.shape for tensor in args[:7]]
    shapes[3] = shapes[4] = args[1].shape[:1]  # of a layer without biases too
    return tuple(made(shape, args[0].dtype) for shape in shapes)


def _clone(args: Args, kwargs: Kwargs) -> Any:
    """Copy of a tensor, contiguous when it was or when that is asked for."""
    source, layout = args[0], kwargs.get("memory_format", torch.preserve_format)
    if layout is torch.contiguous_format or (
        layout is torch.preserve_format and source.is_contiguous()
    ):
        return made(source.shape, source.dtype)
    return NotImplemented


def _mean(args: Args, kwargs: Kwargs) -> Any:
    """Mean over some dimensions of floats; PyTorch's own meta version imports its compiler."""
    source, dims, keeps = (*args, None, None)[:3]
    dtype = kwargs.get("dtype") or source.dtype
    if not dims or not dtype.is_floating_point or not source.is_floating_point():
        return NotImplemented
    gone = {dim % source.dim() for dim in dims if -source.dim() <= dim < source.dim()}
    if len(gone) < len(dims) or source.numel() == 0:  # a dimension twice, or that is not there
        return NotImplemented
    if keeps or kwargs.get("keepdim"):
        return made([1 if i in gone else size for i, size in enumerate(source.shape)], dtype)
    return made([size for i, size in enumerate(source.shape) if i not in gone], dtype)


SHAPE_RULES: dict[str, Rule] = {
    "aten.clone.default": _clone,
    "aten.mean.dim": _mean,
    "aten._grouped_mm.default": _grouped_mm,
    "aten.mkldnn_rnn_layer.default": _onednn_lstm,
    "aten.mkldnn_rnn_layer_backward.default": _onednn_lstm_backward,
    "aten._pack_padded_sequence_backward.default": lambda args, kwargs: made(
        tuple(args[1]),
        args[0].dtype,  # the gradient, the input's shape, batch sizes
    ),
    "aten.native_channel_shuffle.default": lambda args, kwargs: torch.empty_like(args[0]),
    "aten.mkldnn_max_pool2d.default": lambda args, kwargs: torch.ops.aten.max_pool2d_with_indices(
        *args, **kwargs
    )[0],
    **CONVOLUTION_RULES,
    **NORMALIZATION_RULES,
    **LOSS_RULES,
    **PACKED_RULES,
    **READER_RULES,
    **KERNEL_RULES,
    **FOURIER_RULES,
    **{
        f"aten._fused_{name}_.{overload}": lambda args, kwargs: None  # works in place
        for name in ("adam", "adamw", "sgd", "adagrad")
        for overload in ("default", "tensor_lr")
    },
}
"""Rules by operator, overload included."""
