"""What to time of products: matrix products, attention, recurrent layers."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

import torch

from torchgauge.measure.calibration.case import (
    Case,
    Cold,
    Fresh,
    Spread,
    between,
    channels,
    chosen,
)

aten = torch.ops.aten

MOST_FLOPS: Final = 3e9
"""Of one run: some ten milliseconds on a laptop."""
FEWEST_FLOPS: Final = 2e5
"""Smaller ones take what any operator takes."""
MOST_BYTES: Final = 30e6
"""Of one tensor: larger ones are mapped anew each time, which is counted separately."""


def products() -> Iterator[Case]:
    """Yield all of them, spread over the sizes that networks have."""
    yield from islice(_matrix_products(32, 8192), 400)
    yield from islice(_matrix_products(4, 31), 80)
    yield from islice(_large_weights(), 30)
    yield from islice(_batched_products(), 70)
    for causal in (False, True):
        yield from islice(_attention(causal), 100)
        yield from islice(_attention_backward(causal), 50)
    yield from islice(_recurrent(), 80)


def _matrix_products(least: int, most: int) -> Iterator[Case]:
    """``[m, k] · [k, n]``, with a bias or without; the weight is stored as in ``Linear``.

    The smaller of ``n`` and ``k`` lies between ``least`` and ``most``.
    """
    for rows, columns, inner, bias in Spread(4, seed=1):
        m = between(rows, 1, 4096)
        n, k = channels(columns, least, 8192), channels(inner, least, 8192)
        if (
            min(n, k) <= most
            and FEWEST_FLOPS <= 2.0 * m * n * k <= MOST_FLOPS
            and 4 * m * max(n, k) <= MOST_BYTES
        ):
            yield _linear(m, n, k, has_bias=bias < 0.5)


def _linear(m: int, n: int, k: int, *, has_bias: bool) -> Case:
    x, weight = Fresh((m, k)), Cold((n, k), order=(1, 0))
    if has_bias:
        return Case(op=aten.addmm.default, given=(Cold((n,)), x, weight))
    return Case(op=aten.mm.default, given=(x, weight))


def _large_weights() -> Iterator[Case]:
    """Few rows by weights of many megabytes: reading those is all that counts."""
    for rows, columns, inner, bias in Spread(4, seed=15):
        m, n, k = between(rows, 1, 8), channels(columns, 256, 32_768), channels(inner, 256, 32_768)
        if 1e6 <= n * k <= 4e7:
            yield _linear(m, n, k, has_bias=bias < 0.5)


def _batched_products() -> Iterator[Case]:
    for batch, rows, columns, inner in Spread(4, seed=2):
        b, m = between(batch, 2, 512), between(rows, 1, 1024)
        n, k = between(columns, 4, 1024), between(inner, 4, 1024)
        if (
            FEWEST_FLOPS <= 2.0 * b * m * n * k <= MOST_FLOPS
            and 4 * b * max(m * n, n * k, m * k) <= MOST_BYTES
        ):
            yield Case(op=aten.bmm.default, given=(Fresh((b, m, k)), Fresh((b, k, n))))


def _heads(seed: int) -> Iterator[tuple[Fresh, Fresh]]:
    """Yield queries and keys, ``[1, heads, length, width]``."""
    for heads, queries, keys, width in Spread(4, seed=seed):
        h, q = between(heads, 1, 128), between(queries, 1, 1024)
        k = q if keys < 0.7 else between(keys, 1, 1024)
        e = chosen(width, 16, 32, 64, 96, 128)
        if 4.0 * h * q * k * e <= MOST_FLOPS and h * q * k <= 2e7:
            yield Fresh((1, h, q, e)), Fresh((1, h, k, e))


def _attention(causal: bool) -> Iterator[Case]:
    op = aten._scaled_dot_product_flash_attention_for_cpu.default
    for query, key in _heads(seed=3 + causal):
        yield Case(op=op, given=(query, key, key, 0.0, causal))


def _attention_backward(causal: bool) -> Iterator[Case]:
    op = aten._scaled_dot_product_flash_attention_for_cpu_backward.default
    for query, key in _heads(seed=5 + causal):
        scores = Fresh(query.shape[:-1])
        yield Case(op=op, given=(query, query, key, key, query, scores, 0.0, causal))


def _recurrent() -> Iterator[Case]:
    """One layer of an LSTM (mode 2) in one direction, without gradients."""
    for steps, batch, inputs, hidden in Spread(4, seed=7):
        t, n = between(steps, 4, 256), between(batch, 1, 64)
        i, h = channels(inputs, 32, 1024), channels(hidden, 32, 1024)
        if 8.0 * t * n * h * (i + h) <= MOST_FLOPS:
            weights = Cold((4 * h, i)), Cold((4 * h, h)), Cold((4 * h,)), Cold((4 * h,))
            state = Fresh((n, h))
            rest: tuple[Any, ...] = (False, [], 2, h, 1, True, False, False, False)
            yield Case(
                op=aten.mkldnn_rnn_layer.default,
                given=(Fresh((t, n, i)), *weights, state, state, *rest),
            )
