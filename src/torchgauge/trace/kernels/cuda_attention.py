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

from torchgauge.trace.kernels.cpu import additive_mask, check_attention
from torchgauge.trace.torch_internals.chosen_kernels import (
    attention_order_of_the_user,
    enabled_attention,
)

_HALF = (torch.float16, torch.bfloat16)
_FIRST_CUDNN_PREFERRED = TorchVersion("2.9.0")
"""From here on cuDNN's attention comes first on Hopper and data-centre Blackwell, in wheels whose
cuDNN is new enough: 2.9 accepts 9.9, 2.10 wants more than 9.15, which its wheels do not have
(``check_prefer_cudnn_attention``; PyTorch's pull requests 162073 and 171627)."""
_WITHOUT_CUDNN_PREFERENCE = TorchVersion("2.10.0")
_FIRST_CUDNN_9_15 = TorchVersion("2.11.0")
"""Its wheels bring cuDNN 9.19."""
_FIRST_CUDNN_DROPOUT_STEPS = TorchVersion("2.12.0")
"""Refuses dropout that is not a multiple of 1/16 (pull request 174245 of February 2026)."""


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

    Raises:
        RuntimeError: no backend that is switched on can run it.
    """
    can = {
        AttentionBackend.FLASH: _flash_can(case, capability),
        AttentionBackend.EFFICIENT: _efficient_can(case, capability),
        AttentionBackend.CUDNN: _cudnn_can(case, capability, release),
        AttentionBackend.MATH: True,
    }
    enabled = enabled_attention()
    order = attention_order_of_the_user() or _order(capability, release)
    for backend in map(AttentionBackend, order):
        if backend in enabled and can[backend]:
            return backend
    raise RuntimeError("No available kernel. Aborting execution.")


def _order(capability: tuple[int, int], release: TorchVersion) -> tuple[AttentionBackend, ...]:
    """Return what is tried first (``priority_order``); cuDNN comes after math unless preferred."""
    kind = AttentionBackend
    preferring = ((9, 0), (10, 0), (10, 3)) if release >= _FIRST_CUDNN_9_15 else ((9, 0), (10, 0))
    is_gap = _WITHOUT_CUDNN_PREFERENCE <= release < _FIRST_CUDNN_9_15
    if capability in preferring and release >= _FIRST_CUDNN_PREFERRED and not is_gap:
        return kind.CUDNN, kind.FLASH, kind.EFFICIENT, kind.MATH
    return kind.FLASH, kind.EFFICIENT, kind.MATH, kind.CUDNN


def _is_dense(case: AttentionCase, *, ignores_singletons: bool) -> bool:
    """Return whether all three are ``[B, H, L, E]`` with tokens and unit last strides."""
    if any(tensor.dim() != 4 for tensor in case.tensors):
        return False
    unit = all(tensor.stride(-1) == 1 for tensor in case.tensors)
    if not unit and not (ignores_singletons and case.query.shape[-1] == 1):
        return False
    return (
        (case.mask is None or case.mask.stride(-1) == 1)
        and case.query.shape[-2] > 0
        and case.key.shape[-2] > 0
        and len({t.shape[0] for t in case.tensors}) == 1
        and len({t.dtype for t in case.tensors}) == 1
    )


def _heads_fit(case: AttentionCase, *, same_keys: bool = True) -> bool:
    """Return whether the heads are as many, or keys and values divide the query's if allowed."""
    query, key, value = (tensor.shape[1] for tensor in case.tensors)
    if not case.grouped:
        return bool(query == key == value)
    if same_keys and key != value:
        return False
    return bool(query % key == 0 and query % value == 0)


def _flash_can(case: AttentionCase, capability: tuple[int, int]) -> bool:
    size = case.query.shape[-1]
    if case.mask is not None or case.query.dtype not in _HALF or capability < (8, 0):
        return False
    if not _is_dense(case, ignores_singletons=True) or not _heads_fit(case):
        return False
    if not size == case.key.shape[-1] == case.value.shape[-1] or size > 256:
        return False
    if case.is_causal and case.query.shape[-2] != case.key.shape[-2]:
        return False
    small = (8, 6) <= capability <= (8, 9) or capability[0] == 12
    if small and case.needs_gradient:
        return size <= 192 or (size > 224 and not case.dropout)
    return True


def _efficient_can(case: AttentionCase, capability: tuple[int, int]) -> bool:
    """Return whether the memory-efficient kernel runs; it knows no grouped queries up to 2.13."""
    dtypes = (torch.float32, *_HALF) if capability >= (8, 0) else (torch.float32, torch.float16)
    if case.query.dtype not in dtypes or capability < (5, 0):
        return False
    if not _is_dense(case, ignores_singletons=False):
        return False
    if len({tensor.shape[1] for tensor in case.tensors}) > 1:
        return False
    sizes = case.query.shape[-1], case.value.shape[-1]
    alignment = _alignment(case.query.dtype, capability)
    return sizes[0] == case.key.shape[-1] and all(
        size > 0 and size % alignment == 0 for size in sizes
    )


def _alignment(dtype: torch.dtype, capability: tuple[int, int]) -> int:
    """Return what a head's size must be a multiple of (``minimum_gemm_alignment``)."""
    is_half = dtype in _HALF
    alignment = 4 if capability >= (8, 0) else 1
    if capability >= (8, 0) or (capability >= (7, 0) and is_half):
        alignment = max(alignment, 128 // (16 if is_half else 32))
    return alignment


def _cudnn_can(case: AttentionCase, capability: tuple[int, int], release: TorchVersion) -> bool:
    if capability < (8, 0) or case.query.dtype not in _HALF or _must_be_deterministic():
        return False
    if not _is_dense(case, ignores_singletons=True) or not _heads_fit(case, same_keys=False):
        return False
    sizes = case.query.shape[-1], case.value.shape[-1]
    limit = _cudnn_limit(sizes, capability, release)
    if any(size > limit or size % 8 for size in sizes) or not _cudnn_mask_fits(case):
        return False
    lengths = case.query.shape[-2], case.key.shape[-2]
    if lengths[1] == 1 or (lengths[0] == 1 and (case.dropout or release < _FIRST_CUDNN_PREFERRED)):
        return False
    return release < _FIRST_CUDNN_DROPOUT_STEPS or (case.dropout * 16).is_integer()


def _must_be_deterministic() -> bool:
    """Return ``check_cudnn_deterministic``: whether what varies from run to run is refused."""
    return (
        torch.are_deterministic_algorithms_enabled()
        and not torch.is_deterministic_algorithms_warn_only_enabled()
    )


def _cudnn_limit(sizes: tuple[int, int], capability: tuple[int, int], release: TorchVersion) -> int:
    """Return the largest head (``check_cudnn_tensor_shapes``)."""
    if capability == (9, 0) and release >= _FIRST_CUDNN_PREFERRED:
        return 256
    if capability[0] == 10 and release >= _FIRST_CUDNN_9_15 and sizes == (192, 128):
        return 192
    return 128


def _cudnn_mask_fits(case: AttentionCase) -> bool:
    """Return whether a mask spreads to ``[B, H, L, S]`` and needs no gradient."""
    mask = case.mask
    if mask is None:
        return True
    if mask.requires_grad or mask.dim() not in (2, 4):
        return False
    full = (*case.query.shape[:3], case.key.shape[-2])[-mask.dim() :]
    return all(size in (1, whole) for size, whole in zip(mask.shape, full, strict=True))


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
        check_attention(query, key, value, attn_mask)
        case = AttentionCase(
            query=query, key=key, value=value, mask=attn_mask, dropout=dropout_p,
            is_causal=is_causal, grouped=enable_gqa,
        )  # fmt: skip
        backend = choose(case, capability, release)
        mask = additive_mask(attn_mask, query.dtype)
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


def takes_kernel(capability: tuple[int, int], release: TorchVersion) -> Callable[..., bool]:
    """Return whether the fused fast path of an inference runs flash or efficient attention.

    Source: ``native_multi_head_attention_cuda`` in PyTorch's
    ``aten/src/ATen/native/transformers/cuda/attention.cu`` (2.6–2.13).
    """

    def takes(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> bool:
        case = AttentionCase(
            query=query, key=key, value=value, mask=None, dropout=0.0, is_causal=False,
            grouped=False,
        )  # fmt: skip
        return choose(case, capability, release) in (
            AttentionBackend.FLASH,
            AttentionBackend.EFFICIENT,
        )

    return takes


def _first(results: Any) -> torch.Tensor:
    result: torch.Tensor = results[0]
    return result


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
    """Pad rows to a multiple of 8 where they do not begin at one, and expand to all heads."""
    last = mask.shape[-1]
    if any(stride % 8 for stride in mask.stride()[:-1]):
        mask = functional.pad(mask, (0, 8 - last % 8))[..., :last]
    batch, heads, length = case.query.shape[:3]
    return mask.expand(batch, heads, length, case.key.shape[-2])
