"""Which attention kernel a CUDA device runs, and what it allocates around it.

Source: ``aten/src/ATen/native/transformers/cuda/sdp_utils.cpp``, ``sdp_utils_cpp.h`` and
``attention.cpp`` in PyTorch, 2.6–2.13. Shapes: query ``[B, H, L, E]``, key ``[B, Hk, S, E]``,
value ``[B, Hk, S, Ev]``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from math import sqrt
from typing import Any

import torch
from torch.nn import functional
from torch.torch_version import TorchVersion

from torchgauge.trace.torch_internals import enabled_attention

_HALF = (torch.float16, torch.bfloat16)
_FIRST_EFFICIENT_GQA = TorchVersion("2.12.0")
"""Before, the memory-efficient kernel refused fewer key heads than query heads."""
_FIRST_CUDNN_PREFERRED = TorchVersion("2.10.0")
"""From here on cuDNN's attention comes first on Hopper and data-centre Blackwell."""


class AttentionBackend(StrEnum):
    """The implementations of scaled-dot-product attention on CUDA."""

    FLASH = "flash"
    EFFICIENT = "efficient"
    CUDNN = "cudnn"
    MATH = "math"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionCase:
    """What the choice of a kernel depends on."""

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    mask: torch.Tensor | None
    dropout: float
    is_causal: bool
    grouped: bool
    """Whether the caller allows fewer key heads than query heads."""

    @property
    def tensors(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return query, key and value."""
        return self.query, self.key, self.value

    @property
    def needs_gradient(self) -> bool:
        """Return whether a backward will follow."""
        return torch.is_grad_enabled() and any(t.requires_grad for t in self.tensors)


def choose(
    case: AttentionCase, capability: tuple[int, int], release: TorchVersion
) -> AttentionBackend:
    """Return the kernel that a device of that compute capability runs.

    Backends that ``torch.nn.attention.sdpa_kernel`` switched off are left out.
    """
    if capability[0] in (9, 10) and release >= _FIRST_CUDNN_PREFERRED:
        order = ("cudnn", "flash", "efficient")
    else:
        order = ("flash", "efficient", "cudnn")
    allowed = {
        "flash": _flash_can(case, capability),
        "efficient": _efficient_can(case, capability, release),
        "cudnn": _cudnn_can(case, capability),
    }
    enabled = enabled_attention()
    for name in order:
        if name in enabled and allowed[name]:
            return AttentionBackend(name)
    return AttentionBackend.MATH


def _is_dense(case: AttentionCase) -> bool:
    """Return whether all three are ``[B, H, L, E]`` with sizes above zero and unit last stride."""
    return (
        all(t.dim() == 4 and (t.stride(-1) == 1 or t.shape[-1] == 1) for t in case.tensors)
        and case.query.shape[-2] > 0
        and case.key.shape[-2] > 0
        and len({t.shape[0] for t in case.tensors}) == 1
        and len({t.dtype for t in case.tensors}) == 1
    )


def _heads_fit(case: AttentionCase, *, supports_grouped: bool) -> bool:
    heads = case.query.shape[1], case.key.shape[1], case.value.shape[1]
    if len(set(heads)) == 1:
        return True
    return supports_grouped and case.grouped and heads[1] == heads[2] and heads[0] % heads[1] == 0


def _flash_can(case: AttentionCase, capability: tuple[int, int]) -> bool:
    size = case.query.shape[-1]
    if case.mask is not None or case.query.dtype not in _HALF or capability < (8, 0):
        return False
    if not _is_dense(case) or not _heads_fit(case, supports_grouped=True):
        return False
    if not size == case.key.shape[-1] == case.value.shape[-1] or size > 256:
        return False
    if case.is_causal and case.query.shape[-2] != case.key.shape[-2]:
        return False
    small = (8, 6) <= capability <= (8, 9) or capability[0] == 12
    if small and case.needs_gradient:
        return size <= 192 or (size > 224 and not case.dropout)
    return True


def _efficient_can(case: AttentionCase, capability: tuple[int, int], release: TorchVersion) -> bool:
    dtypes = (torch.float32, *_HALF) if capability >= (8, 0) else (torch.float32, torch.float16)
    if case.query.dtype not in dtypes or capability < (5, 0):
        return False
    grouped = release >= _FIRST_EFFICIENT_GQA
    if not _is_dense(case) or not _heads_fit(case, supports_grouped=grouped):
        return False
    size = case.query.shape[-1]
    alignment = _alignment(case.query.dtype, capability)
    return (
        size == case.key.shape[-1]
        and size % alignment == 0
        and case.value.shape[-1] % alignment == 0
    )


def _alignment(dtype: torch.dtype, capability: tuple[int, int]) -> int:
    """Return what a head's size must be a multiple of (``minimum_gemm_alignment``)."""
    is_half = dtype in _HALF
    alignment = 4 if capability >= (8, 0) else 1
    if capability >= (8, 0) or (capability >= (7, 0) and is_half):
        alignment = max(alignment, 128 // (16 if is_half else 32))
    return alignment


def _cudnn_can(case: AttentionCase, capability: tuple[int, int]) -> bool:
    dtypes = _HALF if capability >= (8, 0) else (torch.float16,)
    sizes = case.query.shape[-1], case.value.shape[-1]
    return (
        capability >= (8, 0)
        and case.query.dtype in dtypes
        and _is_dense(case)
        and _heads_fit(case, supports_grouped=True)
        and all(size <= 128 and size % 8 == 0 for size in sizes)
        and case.key.shape[-2] != 1
        and (case.dropout * 16).is_integer()
        and not (case.dropout and case.query.shape[-2] == 1)
    )


def attention(capability: tuple[int, int], release: TorchVersion) -> Callable[..., torch.Tensor]:
    """Return ``scaled_dot_product_attention`` as a device of that capability runs it."""

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
        case = AttentionCase(
            query=query, key=key, value=value, mask=attn_mask, dropout=dropout_p,
            is_causal=is_causal, grouped=enable_gqa,
        )  # fmt: skip
        backend = choose(case, capability, release)
        mask = _additive(attn_mask, query.dtype)
        options = {"scale": scale}
        if backend is AttentionBackend.FLASH:
            return _flash(query, key, value, dropout_p, is_causal, scale)
        if backend is AttentionBackend.EFFICIENT:
            return _efficient(case, mask, options)
        if backend is AttentionBackend.CUDNN:
            return _first(torch.ops.aten._scaled_dot_product_cudnn_attention(
                query, key, value, mask, case.needs_gradient, dropout_p, is_causal, False, **options
            ))  # fmt: skip
        return _first(torch.ops.aten._scaled_dot_product_attention_math(
            query, key, value, mask, dropout_p, is_causal, enable_gqa=enable_gqa, **options
        ))  # fmt: skip

    return scaled_dot_product_attention


def _first(results: Any) -> torch.Tensor:
    result: torch.Tensor = results[0]
    return result


def _additive(mask: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor | None:
    """Turn a boolean mask into one that is added (``convert_boolean_attn_mask``)."""
    if mask is None or mask.dtype != torch.bool:
        return mask
    zero = torch.scalar_tensor(0.0, dtype=dtype, device=mask.device)
    return torch.where(mask.logical_not(), float("-inf"), zero)


def _flash(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    dropout: float,
    is_causal: bool,
    scale: float | None,
) -> torch.Tensor:
    """Pad the heads to a multiple of 8, as the kernel wants them, and cut the result."""
    size = query.shape[-1]
    if size % 8:
        pad = 8 - size % 8
        query, key, value = (functional.pad(t, (0, pad)) for t in (query, key, value))
        scale = 1 / sqrt(size) if scale is None else scale
    output = _first(torch.ops.aten._scaled_dot_product_flash_attention(
        query, key, value, dropout, is_causal, False, scale=scale
    ))  # fmt: skip
    return output[..., :size] if output.shape[-1] != size else output


def _efficient(
    case: AttentionCase, mask: torch.Tensor | None, options: dict[str, float | None]
) -> torch.Tensor:
    if mask is not None:
        mask = _aligned_mask(mask, case)
    return _first(torch.ops.aten._scaled_dot_product_efficient_attention(
        case.query, case.key, case.value, mask, case.needs_gradient, case.dropout, case.is_causal,
        **options,
    ))  # fmt: skip


def _aligned_mask(mask: torch.Tensor, case: AttentionCase) -> torch.Tensor:
    """Pad the last dimension to a multiple of 8 where it is none, and expand to all heads."""
    last = mask.shape[-1]
    if last % 8:
        mask = functional.pad(mask, (0, 8 - last % 8))[..., :last]
    batch, heads, length = case.query.shape[:3]
    return mask.expand(batch, heads, length, case.key.shape[-2])
