"""Output shapes of kernels whose own meta versions are slow or refuse dtypes that devices run.

PyTorch computes the meta version of normalisations by decomposing them into element-wise
primitives in Python, which takes longer than all other ops of a CNN together; the shapes are
known beforehand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from torchgauge.facts.trace import Layout
from torchgauge.trace.inspect.bitsandbytes import BITSANDBYTES_RULES
from torchgauge.trace.operators.fourier import FOURIER_RULES
from torchgauge.trace.operators.kernel_rules import KERNEL_RULES
from torchgauge.trace.operators.loss_rules import LOSS_RULES
from torchgauge.trace.operators.packed_rules import PACKED_RULES
from torchgauge.trace.operators.reader_rules import READER_RULES
from torchgauge.trace.torch_internals.chosen_kernels import has_early_onednn
from torchgauge.trace.torch_internals.onednn import lstm_workspace_bytes

META = torch.device("meta")


def _stat_dtype(source: torch.Tensor, weight: torch.Tensor | None) -> torch.dtype:
    """Return the dtype in which a normalisation on the CPU keeps its statistics.

    That of the parameters: float32 for a half-precision input under float32 parameters, half for
    both in half (``is_mixed_type`` in PyTorch's ``aten/src/ATen/native/cpu/mixed_data_type.h``).
    """
    return source.dtype if weight is None else weight.dtype


def _batch_norm(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[torch.Tensor, ...]:
    """``[N, C, ...] → [N, C, ...]`` and mean, inverse deviation ``[C]`` (empty in evaluation)."""
    source, training = args[0], args[5]
    if source.dim() < 2:
        raise RuntimeError(f"batch norm needs at least 2 dimensions, got {tuple(source.shape)}")
    channels = source.shape[1]
    for tensor in args[1:5]:
        if tensor is not None and tensor.numel() != channels:
            raise RuntimeError(
                f"batch norm over {tensor.numel()} channels got {tuple(source.shape)}"
            )
    dtype = _stat_dtype(source, args[1])
    size = channels if training else 0
    stats = [torch.empty(size, dtype=dtype, device=META) for _ in range(2)]
    return _in_its_order(source), *stats


def _in_its_order(source: torch.Tensor) -> torch.Tensor:
    """Return an image of that shape, contiguous or with its channels last, as it suggests."""
    layout = channels_last(source) or torch.contiguous_format
    return torch.empty_like(source, memory_format=layout)


def _batch_norm_backward(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[torch.Tensor | None, ...]:
    """Gradients of input, weight and bias, as ``output_mask`` asks."""
    source, weight, mask = args[1], args[2], args[9]
    dtype = _stat_dtype(source, weight)
    channel = [
        torch.empty(source.shape[1], dtype=dtype, device=META) if wanted else None
        for wanted in mask[1:]
    ]
    return _in_its_order(source) if mask[0] else None, *channel


def _layer_norm(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[torch.Tensor, ...]:
    """``[..., *normalized] → [..., *normalized]`` and two statistics ``[..., 1, 1, …]``."""
    source, normalized = args[0], tuple(args[1])
    count = len(normalized)
    if tuple(source.shape[source.dim() - count :]) != normalized:
        raise RuntimeError(
            f"layer norm over {normalized} got an input of shape {tuple(source.shape)}"
        )
    shape = (*source.shape[: source.dim() - count], *([1] * count))
    dtype = _stat_dtype(source, args[2])
    stats = [torch.empty(shape, dtype=dtype, device=META) for _ in range(2)]
    return torch.empty(source.shape, dtype=source.dtype, device=META), *stats


def _layer_norm_backward(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[torch.Tensor | None, ...]:
    """Gradients of input, weight and bias, as ``output_mask`` asks."""
    source, normalized, mask = args[1], args[2], args[7]
    parts = [
        torch.empty(normalized, dtype=(own if own is not None else source).dtype, device=META)
        if wanted
        else None
        for own, wanted in zip(args[5:7], mask[1:], strict=True)
    ]
    grad = torch.empty(source.shape, dtype=source.dtype, device=META) if mask[0] else None
    return grad, *parts


def _group_norm(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[torch.Tensor, ...]:
    """``[N, C, ...] → [N, C, ...]`` in the input's layout and two statistics ``[N, groups]``."""
    source, weight, batch, groups = args[0], args[1], args[3], args[6]
    dtype = _stat_dtype(source, weight)
    stats = [torch.empty((batch, groups), dtype=dtype, device=META) for _ in range(2)]
    return torch.empty_like(source), *stats


def _group_norm_backward(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[torch.Tensor | None, ...]:
    """Gradients of input, weight and bias, as ``output_mask`` asks."""
    source, weight, channels, mask = args[1], args[4], args[6], args[9]
    dtype = source.dtype if weight is None else weight.dtype
    parts = [
        torch.empty(channels, dtype=dtype, device=META) if wanted else None for wanted in mask[1:]
    ]
    return torch.empty_like(source) if mask[0] else None, *parts


def _convolution(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A convolution answers in the layout in which the kernel works.

    PyTorch's meta kernel knows the shape; it forgets the layout of some (depthwise) convolutions.
    """
    source, weight = args[:2]
    if args[6] and source.dim() == weight.dim() and source.shape[1] != weight.shape[0]:
        raise RuntimeError(
            f"Given transposed=1, weight of size {list(weight.shape)}, expected input"
            f"{list(source.shape)} to have {weight.shape[0]} channels, but got {source.shape[1]} "
            "channels instead"
        )
    try:
        output = torch.ops.aten.convolution.default(*args, **kwargs)
    except RuntimeError:
        _check_that_the_kernel_fits(*args[:2], *args[3:8])
        raise
    if not output.numel():
        _check_that_the_kernel_fits(*args[:2], *args[3:8])
    layout = _convolution_layout(source, weight)
    return output if layout is None else output.contiguous(memory_format=layout)


def _check_that_the_kernel_fits(
    source: torch.Tensor,
    weight: torch.Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
) -> None:
    """Refuse an input too small for the kernel in PyTorch's words; its meta kernel of 2.6 does not.

    Source: ``check_shape_forward`` in ``aten/src/ATen/native/Convolution.cpp`` and
    ``slow_conv_transpose2d_shape_check`` in ``NaiveConvolutionTranspose2d.cpp`` (2.6–2.13).

    Raises:
        RuntimeError: the output would have no pixel.
    """
    count = source.dim() - 2
    stride, padding, dilation, output_padding = (
        tuple(given) * (count // len(given))
        for given in (stride, padding, dilation, output_padding)
    )
    sizes = source.shape[2:]
    kernel = [d * (size - 1) + 1 for d, size in zip(dilation, weight.shape[2:], strict=True)]
    if transposed:
        made = [
            (size - 1) * step - 2 * pad + width + more
            for size, step, pad, width, more in zip(
                sizes, stride, padding, kernel, output_padding, strict=True
            )
        ]
        if min(made, default=1) < 1:
            raise RuntimeError(
                f"Given input size per channel: {_by(sizes)}. Calculated output size per channel: "
                f"{_by(made)}. Output size is too small"
            )
        return
    padded = [size + 2 * pad for size, pad in zip(sizes, padding, strict=True)]
    if any(size < width for size, width in zip(padded, kernel, strict=True)):
        raise RuntimeError(
            f"Calculated padded input size per channel: {_by(padded)}. Kernel size: {_by(kernel)}. "
            "Kernel size can't be greater than actual input size"
        )


def _by(sizes: Sequence[int]) -> str:
    return f"({' x '.join(map(str, sizes))})"


def _convolution_backward(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[torch.Tensor | None, ...]:
    """Gradients of input, weight and bias, as ``output_mask`` asks, in the layout of the forward.

    A weight whose gradient has another layout gets a copy of it; PyTorch's meta kernels follow
    other laws than the CPU, and others in 2.6 than in 2.13.
    """
    source, weight, mask = args[1], args[2], args[10]
    layout = _convolution_layout(source, weight) or torch.contiguous_format
    grads = [
        torch.empty(of.shape, dtype=of.dtype, device=META, memory_format=layout) if wanted else None
        for of, wanted in zip((source, weight), mask, strict=False)
    ]
    channels = args[0].shape[1]
    bias = torch.empty(channels, dtype=weight.dtype, device=META) if mask[2] else None
    return *grads, bias


def _convolution_layout(source: torch.Tensor, weight: torch.Tensor) -> torch.memory_format | None:
    """Return channels last when the input or the weight is: oneDNN works so, and answers so.

    Not for double precision in three dimensions, which oneDNN leaves to another kernel.
    """
    if source.dim() == 5 and source.dtype is torch.float64:
        return None
    return channels_last(source) or channels_last(weight)


def channels_last(tensor: torch.Tensor) -> torch.memory_format | None:
    """Return the layout of images or volumes with their channels last, ``None`` for others.

    What strides say, as ``suggest_memory_format`` in PyTorch's ``c10/core/MemoryFormat.h`` reads
    them: a tensor with one channel, or of one pixel, is contiguous in both layouts.
    """
    if tensor.dim() not in _CHANNELS_LAST:
        return None
    layout, order = _CHANNELS_LAST[tensor.dim()]
    sizes, strides = tensor.shape, tensor.stride()
    if strides[1] == 0:
        return None
    least = 0
    for dim in order:
        if sizes[dim] == 0 or strides[dim] < least or (dim == 0 and least == strides[1]):
            return None
        least = strides[dim] * sizes[dim]
    return layout


def layout_of(tensor: torch.Tensor) -> Layout:
    """Return what kernels ask about the order of a tensor's elements in memory."""
    if tensor.layout is not torch.strided:
        return Layout.NONE
    key = (tensor.shape, tensor.stride(), tensor.is_conj())
    known = _layouts.get(key)
    if known is None:
        if len(_layouts) >= _LAYOUTS:
            _layouts.clear()
        known = _layouts[key] = _look_at(tensor)
    return known


_LAYOUTS = 10_000
_layouts: dict[tuple[Any, ...], Layout] = {}
"""By shape, strides and whether a tensor is a conjugate: nothing else decides a layout."""


def _look_at(tensor: torch.Tensor) -> Layout:
    layout = Layout.NONE
    if tensor.is_contiguous():
        layout |= Layout.CONTIGUOUS
    if tensor.dim() in _CHANNELS_LAST:
        if tensor.is_contiguous(memory_format=_CHANNELS_LAST[tensor.dim()][0]):
            layout |= Layout.CHANNELS_LAST
        if channels_last(tensor) is not None:
            layout |= Layout.SUGGESTS_CHANNELS_LAST
        if tensor.dim() == 4 and tensor.transpose(1, 2).is_contiguous():
            layout |= Layout.HEADS_INSIDE
    elif tensor.dim() in (2, 3):
        if _is_matrix(tensor):
            layout |= Layout.MATRIX
        if tensor.stride(-1) != 1 and tensor.mT.is_contiguous():
            layout |= Layout.TRANSPOSED
    if tensor.is_conj():
        layout |= Layout.CONJUGATED
    return layout


def _is_matrix(tensor: torch.Tensor) -> bool:
    """Return whether BLAS takes a matrix as it is: as rows, or transposed as columns.

    It reads conjugates of what is transposed only. The condition is that of ``addmm_impl_cpu_``.
    """
    *_, height, width = tensor.shape
    *_, down, right = tensor.stride()
    by_rows = right == 1 and down >= max(1, width) and not tensor.is_conj()
    return by_rows or (down == 1 and right >= max(1, height))


_CHANNELS_LAST = {
    4: (torch.channels_last, (1, 3, 2, 0)),
    5: (torch.channels_last_3d, (1, 4, 3, 2, 0)),
}
"""By number of dimensions: the layout, and its dimensions from the innermost to the outermost."""


def _grouped_mm(args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
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
    return torch.empty(shape, dtype=dtype, device=META)


def _onednn_lstm(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[torch.Tensor | None, ...]:
    """``[T, B, I] → [T, B, H]``, both states ``[B, H]``, and a workspace for the backward.

    Whether gradients may be asked for decides, not whether the layer is trained (``RNN.cpp``).
    """
    source, hidden, cell, size = args[0], args[5], args[6], args[10]
    output = torch.empty((*source.shape[:-1], size), dtype=source.dtype, device=META)
    states = [torch.empty(s.shape, dtype=s.dtype, device=META) for s in (hidden, cell)]
    steps, batch, inputs = source.shape
    if not torch.is_grad_enabled():
        return output, *states, None
    nbytes = lstm_workspace_bytes(steps, batch, inputs, size, is_early=has_early_onednn())
    return output, *states, torch.empty(nbytes, dtype=torch.uint8, device=META)


def _onednn_lstm_backward(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[torch.Tensor, ...]:
    """Gradients of the input, both weights, both biases ``[4 H]`` and the two states."""
    shapes = [tensor.shape for tensor in args[:7]]
    shapes[3] = shapes[4] = args[1].shape[:1]  # of a layer without biases too
    return tuple(torch.empty(shape, dtype=args[0].dtype, device=META) for shape in shapes)


def _clone(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Copy of a tensor, contiguous when it was or when that is asked for."""
    source, layout = args[0], kwargs.get("memory_format", torch.preserve_format)
    if layout is torch.contiguous_format or (
        layout is torch.preserve_format and source.is_contiguous()
    ):
        return torch.empty(source.shape, dtype=source.dtype, device=META)
    return NotImplemented


def _like_first(args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
    """One tensor like the first argument."""
    return torch.empty_like(args[0])


def _max_pool_without_indices(args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
    """``[N, C, H, W] → [N, C, H', W']``."""
    output: torch.Tensor = torch.ops.aten.max_pool2d_with_indices(*args, **kwargs)[0]
    return output


def _in_place(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Make nothing: a fused optimizer updates its lists in place."""


def _pack_padded_backward(args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
    """Gradient of a packed sequence: ``args`` are the gradient, the input's shape, batch sizes."""
    return torch.empty(tuple(args[1]), dtype=args[0].dtype, device=META)


SHAPE_RULES: dict[str, Callable[[tuple[Any, ...], dict[str, Any]], Any]] = {
    "aten.clone.default": _clone,
    "aten.native_batch_norm.default": _batch_norm,
    "aten.native_batch_norm_backward.default": _batch_norm_backward,
    "aten.native_layer_norm.default": _layer_norm,
    "aten.native_layer_norm_backward.default": _layer_norm_backward,
    "aten.convolution.default": _convolution,
    "aten.convolution_backward.default": _convolution_backward,
    "aten.native_group_norm.default": _group_norm,
    "aten.native_group_norm_backward.default": _group_norm_backward,
    "aten._grouped_mm.default": _grouped_mm,
    "aten.mkldnn_rnn_layer.default": _onednn_lstm,
    "aten.mkldnn_rnn_layer_backward.default": _onednn_lstm_backward,
    "aten._pack_padded_sequence_backward.default": _pack_padded_backward,
    "aten.native_channel_shuffle.default": _like_first,
    "aten.mkldnn_max_pool2d.default": _max_pool_without_indices,
    **LOSS_RULES,
    **PACKED_RULES,
    **BITSANDBYTES_RULES,
    **READER_RULES,
    **KERNEL_RULES,
    **FOURIER_RULES,
    **{
        f"aten._fused_{name}_.{overload}": _in_place
        for name in ("adam", "adamw", "sgd", "adagrad")
        for overload in ("default", "tensor_lr")
    },
}
"""Rules by operator; each makes the outputs from ``(args, kwargs)``."""
