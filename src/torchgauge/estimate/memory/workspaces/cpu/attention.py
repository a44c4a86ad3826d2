"""Scratch memory of attention on the CPU. Shapes: query ``[B, H, L, E]``, key ``[B, K, S, E]``.

Source: ``cpu_flash_attention`` and its backward in PyTorch's
``aten/src/ATen/native/cpu/FlashAttentionKernel.cpp``; ``_safe_softmax`` in
``transformers/attention.cpp`` (2.6–2.13).
"""

from __future__ import annotations

from torchgauge.estimate.memory.workspaces.onednn.products import scratch_bytes
from torchgauge.estimate.memory.workspaces.onednn.strips import Product
from torchgauge.estimate.memory.workspaces.operands import FLOAT, HALF, tensor, up
from torchgauge.estimate.memory.workspaces.platform import Platform
from torchgauge.facts.trace import Layout, OpRecord, TensorSpec

_PACKED_FROM = 64
"""Queries and keys from which on the keys are copied."""
_KEYS = 512
"""Keys that are handled together."""
_QUERIES = ((768, 256), (192, 64), (0, 32))
"""``(queries from, that are handled together)``."""


def _blocks(query: TensorSpec, key: TensorSpec) -> tuple[int, int]:
    queries = query.shape[2]
    together = next(size for least, size in _QUERIES if queries >= least)
    return min(together, queries), min(_KEYS, key.shape[2])


def _sum_width(query: TensorSpec) -> int:
    """Return the bytes of an accumulator: half precision accumulates in float32."""
    return 2 * FLOAT if query.dtype == "float64" else FLOAT


def flash(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """Scores, maxima, sums and results of a block of queries per thread.

    In bfloat16 copies of keys and values in the order of AMX tiles.
    """
    query, key = tensor(op, 0), tensor(op, 1)
    queries, keys = _blocks(query, key)
    rows = queries * (keys + 2 + query.shape[3])
    reduced = queries * keys * 2 if query.dtype in HALF else 0
    packed = 0
    if query.dtype == "bfloat16" and min(query.shape[2], key.shape[2]) >= _PACKED_FROM:
        pairs = up(key.shape[2], 2) * up(query.shape[3], 2)
        packed = 2 * key.shape[0] * key.shape[1] * pairs * 2
        packed += platform.threads * keys * query.shape[3] * 2
    return platform.threads * rows * _sum_width(query), platform.threads * reduced, packed


def flash_backward(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """Scores and their gradient of a block per thread, and a sum per query.

    Before them a copy of the output's gradient in the order of the heads inside of positions,
    unless it comes so (``flash_attention_backward_kernel_impl``).
    """
    gradient, query, key = (tensor(op, position) for position in range(3))
    copied = 0 if Layout.HEADS_INSIDE in op.layouts[0] else gradient.nbytes
    queries, keys = _blocks(query, key)
    scores = platform.threads * 2 * queries * keys
    reduced = scores * 2 if query.dtype in HALF else 0
    scratch = _largest_product(query, key) if reduced else 0
    width = _sum_width(query)
    return copied, scores * width, scratch, platform.threads * queries * width, reduced


def _largest_product(query: TensorSpec, key: TensorSpec) -> int:
    """Return what oneDNN takes for the largest product of two blocks in half precision.

    They are the scores' gradient times the keys, and the transposed scores times the gradient of
    the results; their factor is a tensor of its own (``gemm`` in ``CPUBlas.cpp``).
    """
    queries, keys = _blocks(query, key)
    width, largest = query.shape[3], 0
    for rows in {queries, query.shape[2] % queries} - {0}:
        for depth in {keys, key.shape[2] % keys} - {0}:
            for left, inner, flipped in ((rows, depth, False), (depth, rows, True)):
                product = Product(
                    batch=1, rows=left, depth=inner, columns=width,
                    is_left_transposed=flipped and left > 1, is_right_transposed=False,
                )  # fmt: skip
                largest = max(largest, scratch_bytes(product, query.dtype))
    return largest + FLOAT


def safe_softmax(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """Which scores are minus infinity, which rows are so as a whole, and a zero."""
    scores = tensor(op, 0)
    return scores.numel, scores.numel // max(1, scores.shape[-1]), FLOAT
