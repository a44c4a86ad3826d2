"""Outputs of kernels that PyTorch knows otherwise, or not at all, without data.

Several of its kernels reuse a block that they had for something else. Each source is a file under
PyTorch's ``aten/src/ATen/native`` (2.6–2.13).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from torchgauge.trace.shapes.layouts import channels_last
from torchgauge.trace.shapes.rule import META, Args, Kwargs, Rule, Tensors, contiguous, made

_SUM, _MAX = 0, 2
"""PyTorch's numbers for what an embedding bag does with its rows; 1 is the mean."""
_FAST = (torch.float32, torch.float16, torch.bfloat16)


def _embedding_bag(args: Args, kwargs: Kwargs, *, with_gradients: bool) -> Any:
    """``[n, d], indices [i], offsets [b] → [b, d]`` and what the backward needs on the CPU.

    That is the bag of each index, unless the fast path is taken, the sizes of the bags, and for
    the maximum the indices of the rows that have it. Source: ``EmbeddingBag.cpp``
    (``make_offset2bag_out``, ``make_bag_size_out``, ``make_max_indices_out``, ``is_fast_path``).
    """
    named = dict(zip(_BAG_ARGUMENTS, args, strict=False)) | kwargs
    weight, indices, offsets = named["weight"], named["indices"], named["offsets"]
    mode, padding = named.get("mode", _SUM), named.get("padding_idx", -1)
    if indices.dim() != 1 or offsets.dim() != 1 or weight.dim() != 2:
        return NotImplemented
    bags = offsets.shape[0] - bool(named.get("include_last_offset"))
    scale = named.get("per_sample_weights")
    is_fast = (
        mode == _SUM
        and weight.dtype in _FAST
        and weight.stride(1) == 1
        and padding < 0
        and (scale is None or scale.stride(0) == 1)
    )
    kind: dict[str, Any] = {"dtype": offsets.dtype, "device": META}
    count = indices.shape[0]
    bag_of_index = torch.empty(0 if is_fast else count + 1, **kind)
    sizes = torch.empty(offsets.shape[0], **kind)
    if mode != _SUM or with_gradients:
        sizes = sizes[:bags]
    return (
        made((bags, weight.shape[1]), weight.dtype),
        bag_of_index if is_fast else bag_of_index[:count],
        sizes,
        torch.empty((bags, weight.shape[1]) if mode == _MAX else sizes.shape, **kind),
    )


_BAG_ARGUMENTS = ("weight", "indices", "offsets", "scale_grad_by_freq", "mode", "sparse",
                  "per_sample_weights", "include_last_offset", "padding_idx")  # fmt: skip


def _in_block(operator: Any) -> Rule:
    """Return the rule of a kernel that resizes what it made in the shape of its input.

    The block keeps the larger size (``col2im_cpu`` in ``Col2Im.cpp``, ``im2col_cpu`` in
    ``Im2Col.cpp``, and the same under ``cuda``).
    """

    def rule(args: Args, kwargs: Kwargs) -> Any:
        source, output = args[0], operator(*args, **kwargs)
        if source.numel() <= output.numel() or output.numel() == 0:
            return output
        block = made(source.numel(), source.dtype)
        return block[: output.numel()].view(output.shape)

    return rule


def _like(position: int) -> Callable[[tuple[Any, ...], dict[str, Any]], torch.Tensor]:
    """Return the rule of an operator whose output has the shape of one of its arguments."""

    def rule(args: Args, kwargs: Kwargs) -> torch.Tensor:
        return torch.empty_like(args[position], memory_format=torch.contiguous_format)

    return rule


def _as_suggested(name: str, position: int = 0) -> Rule:
    """Return the rule of an operator whose result has its channels last where an argument has.

    Sources: ``suggest_memory_format`` in ``ReflectionPad.cpp``, ``ReplicationPadding.cpp``,
    ``MaxUnpooling.cpp``, ``PixelShuffle.cpp`` and ``ChanelShuffle.cpp``.
    """
    operator = getattr(torch.ops.aten, name).default

    def rule(args: Args, kwargs: Kwargs) -> torch.Tensor:
        output: torch.Tensor = operator(*args, **kwargs)
        layout = channels_last(args[position])
        return output if layout is None else output.contiguous(memory_format=layout)

    return rule


def _geqrf(args: Args, kwargs: Kwargs) -> Tensors:
    """``[…, m, n] → […, m, n]`` in columns, and ``[…, min(m, n)]`` (``BatchLinearAlgebra.cpp``)."""
    *batch, rows, columns = args[0].shape
    factors = made((*batch, columns, rows), args[0].dtype).mT
    return factors, made((*batch, min(rows, columns)), args[0].dtype)


def _fractional_max_pool3d(args: Args, kwargs: Kwargs) -> tuple[torch.Tensor, torch.Tensor]:
    """``[…, c, t, h, w] → […, c, *output_size]`` and as many indices."""
    source, output_size = args[0], args[2]
    shape = (*source.shape[:-3], *output_size)
    return (made(shape, source.dtype), made(shape, torch.int64))


def _multilabel_margin_loss(args: Args, kwargs: Kwargs) -> tuple[torch.Tensor, torch.Tensor]:
    """``[…, c] → […]`` or a scalar, and the targets (``LossMultiLabelMargin.cpp``)."""
    source, target = args[0], args[1]
    reduction = args[2] if len(args) > 2 else kwargs["reduction"]
    is_batch = reduction == 0 and target.dim() > 1
    shape = source.shape[:1] if is_batch else ()
    return made(shape, source.dtype), made(target.shape, source.dtype)


def _histogram(args: Args, kwargs: Kwargs) -> tuple[torch.Tensor, torch.Tensor]:
    """Counts of ``bins``, given as a number or by edges, and the edges (``Histogram.cpp``)."""
    source, bins = args[0], args[1] if len(args) > 1 else kwargs.get("bins", 100)
    count = bins.shape[0] - 1 if isinstance(bins, torch.Tensor) else bins
    return made(count, source.dtype), made(count + 1, source.dtype)


def _grid_of_counts(args: Args, kwargs: Kwargs) -> torch.Tensor:
    """Counts of each combination of ``bins``, given as numbers or by their edges."""
    source, bins = args[0], args[1]
    shape = [b.shape[0] - 1 if isinstance(b, torch.Tensor) else b for b in bins]
    return made(shape, source.dtype)


def _batch_norm_of_the_cpu(args: Args, kwargs: Kwargs) -> Any:
    """In evaluation no statistics are returned (``batch_norm_cpu`` in ``Normalization.cpp``)."""
    _, *saved = torch.ops.aten._native_batch_norm_legit.default(*args, **kwargs)
    layout = channels_last(args[0]) or torch.contiguous_format
    output = torch.empty_like(args[0], memory_format=layout)
    return output, *(saved if args[5] else (made(0, of.dtype) for of in saved))


def _heads_of_qkv(args: Args, kwargs: Kwargs) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """``[B, T, 3 D]`` to three of ``[B, heads, T, D / heads]`` in one block of memory.

    Source: ``transform_bias_rescale_qkv_cpu`` in ``transformers/attention.cpp`` (2.6–2.13).
    """
    projected, _, heads = args
    batch, length, width = projected.shape
    sizes = (3 * batch, heads, length, width // 3 // heads)
    query, key, value = projected.new_empty(sizes).split(batch)
    return query, key, value


def _by_columns(operator: Any, args: Args, kwargs: Kwargs) -> Any:
    """Return what an operator makes, its last matrix column by column, as LAPACK writes it.

    Without data PyTorch answers as cuSOLVER: ``Vh`` of a singular value decomposition by rows
    (``svd_uses_cusolver`` in ``BatchLinearAlgebra.cpp``). What slices a few rows of it and makes
    them contiguous copies them on the CPU, and keeps all of it on such a GPU.
    """
    *others, last = operator(*args, **kwargs)
    if last.dim() < 2:  # no vectors were asked for
        return (*others, last)
    by_columns = torch.empty(last.mT.shape, dtype=last.dtype, device=META).stride()
    strides = (*by_columns[:-2], by_columns[-1], by_columns[-2])
    return (*others, torch.empty_strided(last.shape, strides, dtype=last.dtype, device=META))


KERNEL_RULES: dict[str, Rule] = {
    "aten._linalg_svd.default": partial(_by_columns, torch.ops.aten._linalg_svd.default),
    "aten.linalg_eig.default": partial(_by_columns, torch.ops.aten.linalg_eig.default),
    "aten.col2im.default": _in_block(torch.ops.aten.col2im.default),
    "aten.im2col.default": _in_block(torch.ops.aten.im2col.default),
    "aten.mish_backward.default": lambda args, kwargs: torch.empty_like(args[1]),
    "aten.geqrf.default": _geqrf,
    "aten.fractional_max_pool3d.default": _fractional_max_pool3d,
    "aten.fractional_max_pool3d_backward.default": _like(1),
    "aten.multi_margin_loss_backward.default": _like(1),
    "aten.multilabel_margin_loss_forward.default": _multilabel_margin_loss,
    "aten.multilabel_margin_loss_backward.default": _like(1),
    "aten.histogram.bin_ct": _histogram,
    "aten.histogram.bins_tensor": _histogram,
    "aten._histogramdd_bin_edges.default": lambda args, kwargs: [
        made(count + 1, args[0].dtype) for count in args[1]
    ],
    "aten._histogramdd_from_bin_cts.default": _grid_of_counts,
    "aten._histogramdd_from_bin_tensors.default": _grid_of_counts,
    "aten._transform_bias_rescale_qkv.default": _heads_of_qkv,
    "aten._masked_softmax.default": _like(0),
    **{
        f"aten.{name}.default": contiguous(getattr(torch.ops.aten, name).default)
        for name in ("glu_backward", "_softmax_backward_data", "_log_softmax_backward_data")
    },
    **{
        f"aten.{name}.default": _as_suggested(name)
        for name in ("replication_pad2d", "replication_pad3d")
    },
}
"""Rules for all devices, by operator; each makes the outputs from ``(args, kwargs)``."""


def _scaled_mm(args: Args, kwargs: Kwargs) -> torch.Tensor:
    """``[m, k] × [k, n]`` in FP8; the CPU takes operands in any order.

    Source: ``_scaled_mm_out_cpu`` in ``Blas.cpp`` (2.13). Its meta kernel asks for what CUDA wants.
    """
    left, right = args[:2]
    if left.shape[1] != right.shape[0]:
        raise RuntimeError(
            f"mat1 and mat2 shapes cannot be multiplied ({left.shape[0]}x{left.shape[1]} and "
            f"{right.shape[0]}x{right.shape[1]})"
        )
    dtype = kwargs.get("out_dtype") or (args[6] if len(args) > 6 else None) or left.dtype
    return made((left.shape[0], right.shape[1]), dtype)


def _attention_of_the_cpu(args: Args, kwargs: Kwargs) -> Any:
    """``[B, h, T, E]`` and logarithms of sums ``[B, h, T]``, float64 where the operands are.

    Source: ``toOpMathType`` in ``transformers/attention.cpp``; the meta kernel of 2.6 says float32.
    """
    if args[0].dtype is not torch.float64:
        return NotImplemented
    op = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
    output, sums = op(*args, **kwargs)
    return output, torch.empty_like(sums, dtype=torch.float64)


CPU_RULES: dict[str, Rule] = {
    "aten._embedding_bag.default": partial(_embedding_bag, with_gradients=True),
    "aten._embedding_bag_forward_only.default": partial(_embedding_bag, with_gradients=False),
    "aten._native_batch_norm_legit.default": _batch_norm_of_the_cpu,
    "aten._scaled_mm.default": _scaled_mm,
    "aten._scaled_dot_product_flash_attention_for_cpu.default": _attention_of_the_cpu,
    **{
        f"aten.{name}.default": _as_suggested(name)
        for name in (
            "reflection_pad2d",
            "reflection_pad3d",
            "max_unpool2d",
            "pixel_shuffle",
            "pixel_unshuffle",
            "channel_shuffle",
        )
    },
    **{
        f"aten.{name}_backward.default": _as_suggested(f"{name}_backward", 1)
        for name in (
            "reflection_pad2d",
            "reflection_pad3d",
            "replication_pad2d",
            "replication_pad3d",
        )
    },
}
"""Rules for the CPU alone."""
