"""Scratch memory of attention on CUDA. Shapes: query ``[B, H, L, E]``, key ``[B, K, S, E]``.

Sources: ``flash_attn/flash_api.cpp`` and ``attention_backward.cu`` in PyTorch's
``aten/src/ATen/native/transformers/cuda`` (2.6–2.13).
"""

from __future__ import annotations

from math import prod

from torchgauge.estimate.memory.workspaces.operands import FLOAT, HALF, itemsize, tensor, up
from torchgauge.estimate.memory.workspaces.platform import Platform
from torchgauge.facts.trace import OpRecord


def flash_backward(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """Sums of the query's gradient in float32, and one float a row; keys expanded when grouped."""
    query, key = tensor(op, 1), tensor(op, 2)
    batch, heads, length, size = query.shape
    rows = batch * heads * up(length, 128)
    padded = up(size, 32) if size <= 192 else 256
    expanded = 0
    if key.shape[1] != heads:
        expanded = batch * key.shape[2] * heads * size * itemsize(key)
    return rows * padded * FLOAT, rows * FLOAT, expanded, expanded


def efficient_backward(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """One float a row; for half precision also the gradients' sums in float32."""
    query = tensor(op, 1)
    batch, heads, length = query.shape[:3]
    sums = 0
    if query.dtype in HALF:
        rows = batch * heads
        sums = rows * up(length, 64) * query.shape[-1] * FLOAT
    return batch * heads * up(length, 32) * FLOAT, sums


def cudnn_backward(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """Sums of the query's gradient in float32.

    Assumes: cuDNN keeps what FlashAttention keeps; its workspace is not documented.
    """
    query = tensor(op, 1)
    return prod(query.shape) * FLOAT, prod(query.shape[:3]) * FLOAT
