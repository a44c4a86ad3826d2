"""The CPU's own kernels where plain meta tensors would take another path."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from torchgauge.trace.shape_rules import META, channels_last
from torchgauge.trace.torch_internals import cpu_chooses_flash
from torchgauge.trace.virtual import packed_recurrent, recurrent
from torchgauge.trace.virtual.autocast_lists import policies_of
from torchgauge.trace.virtual.base import VirtualDevice
from torchgauge.trace.virtual.losses import ctc_loss
from torchgauge.trace.virtual.packed import pad_packed_sequence

_FLASH_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def takes_flash(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None,
    dropout_p: float,
    enable_gqa: bool,
) -> bool:
    """Return whether the CPU runs its flash attention kernel; it runs the math path otherwise.

    Shapes: query ``[B, H, L, E]``, key ``[B, H, S, E]``, value ``[B, H, S, Ev]``.
    Source: ``select_sdp_backend_cpp`` and ``use_flash_attention_cpp`` in PyTorch's
    ``aten/src/ATen/native/transformers/sdp_utils_cpp.cpp`` (2.6–2.13).
    """
    tensors = (query, key, value)
    if dropout_p > 0.0 or query.dtype not in _FLASH_DTYPES:
        return False
    if any(tensor.dim() != 4 or tensor.stride(-1) != 1 for tensor in tensors):
        return False
    if not query.shape[-1] == key.shape[-1] == value.shape[-1]:
        return False
    if query.shape[-2] == 0 or key.shape[-2] == 0:
        return False
    heads = {tensor.shape[1] for tensor in (tensors if not enable_gqa else tensors[1:])}
    if len(heads) > 1 or len({tensor.shape[0] for tensor in tensors}) > 1:
        return False
    if attn_mask is not None and (attn_mask.requires_grad or attn_mask.dim() not in (2, 4)):
        return False
    return cpu_chooses_flash(grouped=query.shape[1] != key.shape[1])


def check_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None
) -> None:
    """Refuse what PyTorch refuses on every device (``validate_sdpa_input`` in the same file).

    Raises:
        RuntimeError: for tensors of several dtypes or of less than two dimensions.
    """
    tensors = {"query": query, "key": key, "value": value}
    if len({tensor.dtype for tensor in tensors.values()}) > 1:
        given = ", ".join(f"{name}.dtype: {t.dtype}" for name, t in tensors.items())
        raise RuntimeError(
            f"Expected query, key, and value to have the same dtype, but got {given} instead."
        )
    if any(tensor.dim() < 2 for tensor in tensors.values()):
        given = ", ".join(f"{name}.dim: {t.dim()}" for name, t in tensors.items())
        raise RuntimeError(
            "Expected query, key, and value to all be  at least 2 dimensional, but got "
            f"{given} instead."
        )
    if mask is not None and mask.dtype not in (torch.bool, torch.float32, query.dtype):
        raise RuntimeError(
            "Expected attn_mask dtype to be bool or float or to match query dtype, but got "
            f"attn_mask.dtype: {mask.dtype} and  query.dtype: {query.dtype} instead."
        )


def additive_mask(mask: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor | None:
    """Turn a boolean mask into one that is added; a mask of numbers stays as it is.

    Source: ``convert_boolean_attn_mask`` in PyTorch's
    ``aten/src/ATen/native/transformers/attention.cpp`` (2.6–2.13), for every device.
    """
    if mask is None or mask.dtype != torch.bool:
        return mask
    excluded = torch.scalar_tensor(float("-inf"), dtype=dtype, device=mask.device)
    return torch.where(mask, 0.0, excluded)


def scaled_dot_product_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    """Run attention as a CPU would: flash where it can, math elsewhere."""
    aten = torch.ops.aten
    check_attention(query, key, value, attn_mask)
    attn_mask = additive_mask(attn_mask, query.dtype)
    if takes_flash(query, key, value, attn_mask, dropout_p, enable_gqa):
        result: torch.Tensor = aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, dropout_p, is_causal, attn_mask=attn_mask, scale=scale
        )[0]
        return result
    output: torch.Tensor = aten._scaled_dot_product_attention_math(
        query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
    )[0]
    return output


def batch_norm(
    source: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    running_mean: torch.Tensor | None,
    running_var: torch.Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> torch.Tensor:
    """Normalise ``[N, C, ...]`` with the CPU's one kernel for training and evaluation.

    Source: ``_batch_norm_impl_index`` in PyTorch's ``aten/src/ATen/native/Normalization.cpp``,
    which makes an empty reserve first.
    """
    reserve = torch.empty(0, dtype=torch.uint8, device=source.device)
    result: torch.Tensor = torch.ops.aten.native_batch_norm(
        source, weight, bias, running_mean, running_var, training, momentum, eps
    )[0]
    del reserve
    return result


def group_norm(
    source: torch.Tensor,
    num_groups: int,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> torch.Tensor:
    """Normalise groups of ``[N, C, ...]``; the CPU keeps a channels-last layout.

    Source: ``group_norm`` in PyTorch's ``aten/src/ATen/native/group_norm.cpp``.
    """
    batch, channels = source.shape[:2]
    if channels % num_groups:
        raise RuntimeError(
            f"Expected number of channels in input to be divisible by num_groups, but got input "
            f"of shape {list(source.shape)} and num_groups={num_groups}"
        )
    layout = channels_last(source) or torch.contiguous_format
    positions = source.numel() // max(1, batch * channels)
    result: torch.Tensor = torch.ops.aten.native_group_norm(
        source.contiguous(memory_format=layout),
        weight, bias, batch, channels, positions, num_groups, eps,
    )[0]  # fmt: skip
    return result


def scaled_mm(args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
    """Return the shape of an FP8 product; the CPU takes operands in any order.

    Source: ``_scaled_mm_out_cpu`` in PyTorch's ``aten/src/ATen/native/Blas.cpp`` (2.13). Its meta
    kernel asks for what CUDA asks for.
    """
    left, right = args[:2]
    if left.shape[1] != right.shape[0]:
        raise RuntimeError(
            f"mat1 and mat2 shapes cannot be multiplied ({left.shape[0]}x{left.shape[1]} and "
            f"{right.shape[0]}x{right.shape[1]})"
        )
    dtype = kwargs.get("out_dtype") or (args[6] if len(args) > 6 else None) or left.dtype
    return torch.empty((left.shape[0], right.shape[1]), dtype=dtype, device=META)


KERNELS: dict[str, Callable[..., Any]] = {
    "batch_norm": batch_norm,
    "group_norm": group_norm,
    "_pad_packed_sequence": pad_packed_sequence,
    "ctc_loss.IntList": ctc_loss,
    "scaled_dot_product_attention": scaled_dot_product_attention,
    **recurrent.KERNELS,
    **packed_recurrent.KERNELS,
}
"""Composite operators that the CPU resolves by itself."""

DEVICE = VirtualDevice(
    type="cpu",
    kernels=KERNELS,
    shape_rules={"aten._scaled_mm.default": scaled_mm},
    autocast=policies_of("cpu", torch.__version__),
    foreach=False,
    host_states=False,
)
