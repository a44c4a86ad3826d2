"""Scratch memory of attention on CUDA. Shapes: query ``[B, H, L, E]``, key ``[B, K, S, E]``.

Sources: ``flash_attn/flash_api.cpp`` and ``attention_backward.cu`` in PyTorch's
``aten/src/ATen/native/transformers/cuda`` (2.6–2.13).
"""

from __future__ import annotations

from math import prod

from torchgauge.estimate.memory.workspaces.platform import Platform, Rule
from torchgauge.facts.trace import OpRecord, TensorSpec

_FLOAT = 4
_HALF = ("float16", "bfloat16")


def _specs(op: OpRecord, count: int) -> list[TensorSpec]:
    return [value for value in op.args if isinstance(value, TensorSpec)][:count]


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def _flash_backward(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """Sums of the query's gradient in float32, and one float a row; keys expanded when grouped."""
    _, query, key = _specs(op, 3)
    batch, heads, length, size = query.shape
    rows = batch * heads * _up(length, 128)
    padded = _up(size, 32) if size <= 192 else 256
    expanded = 0
    if key.shape[1] != heads:
        expanded = batch * key.shape[2] * heads * size * (key.nbytes // max(1, key.numel))
    return rows * padded * _FLOAT, rows * _FLOAT, expanded, expanded


def _efficient_backward(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """One float a row; for half precision also the gradients' sums in float32."""
    query = _specs(op, 2)[1]
    batch, heads, length = query.shape[:3]
    sums = 0
    if query.dtype in _HALF:
        rows = batch * heads
        sums = rows * _up(length, 64) * query.shape[-1] * _FLOAT
    return batch * heads * _up(length, 32) * _FLOAT, sums


def _cudnn_backward(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """Sums of the query's gradient in float32.

    Assumes: cuDNN keeps what FlashAttention keeps; its workspace is not documented.
    """
    query = _specs(op, 2)[1]
    return prod(query.shape) * _FLOAT, prod(query.shape[:3]) * _FLOAT


RULES: dict[str, Rule] = {
    "aten._scaled_dot_product_flash_attention_backward.default": _flash_backward,
    "aten._scaled_dot_product_efficient_attention_backward.default": _efficient_backward,
    "aten._scaled_dot_product_cudnn_attention_backward.default": _cudnn_backward,
}
"""By operator, overload included."""
