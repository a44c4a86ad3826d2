"""Scaled dot-product attention of every backend, and the fused transformer fast paths.

Forward: ``q · kᵀ`` and ``p · v``. Backward: five products — the scores again, the gradients of
``p`` and ``v``, then those of ``q`` and ``k`` — because no fused kernel keeps the scores.
Source: Dao, FlashAttention-2 (arXiv:2307.08691), algorithms 1 and 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from torchgauge.estimate.arguments import ABSENT, Shape, argument, integer, shape
from torchgauge.estimate.compute.registry import FlopFormula, register_flop_formula, register_table
from torchgauge.facts.trace import OpRecord


def attention_flops(query: Shape, key: Shape, value: Shape) -> int:
    """Return ``2 · b · h · l · s · (e + f)``.

    Args:
        query: ``[…, h, l, e]``
        key: ``[…, h', s, e]``; fewer heads than the query's are each used several times.
        value: ``[…, h', s, f]``
    """
    return 2 * _score_count(query, key) * (query[-1] + value[-1])


def attention_backward_flops(query: Shape, key: Shape, value: Shape) -> int:
    """Return ``2 · b · h · l · s · (3 e + 2 f)``: three products over ``e``, two over ``f``."""
    return 2 * _score_count(query, key) * (3 * query[-1] + 2 * value[-1])


def _score_count(query: Shape, key: Shape) -> int:
    leading = prod(max(sizes) for sizes in zip(query[:-2], key[:-2], strict=True))
    return leading * query[-2] * key[-2]


def _fused(row: Mapping[str, str]) -> FlopFormula:
    """Return the formula of q, k, v from an argument on, as a row of the table says."""
    flops = attention_backward_flops if row["direction"] == "backward" else attention_flops
    first, lengths_at = int(row["first"]), int(row["lengths"] or ABSENT)
    tokens_first = row["order"] == "tokens-first"

    def formula(op: OpRecord) -> int:
        has_lengths = argument(op, lengths_at) is not None
        if has_lengths and (tokens_first or len(shape(op, first)) != 4):
            return flops(*_jagged(op, first, lengths_at))
        query, key, value = (shape(op, first + place) for place in range(3))
        if tokens_first:
            query, key, value = (
                (batch, heads, tokens, e) for batch, tokens, heads, e in (query, key, value)
            )
        return flops(query, key, value)

    return formula


def _jagged(op: OpRecord, first: int, lengths_at: int) -> tuple[Shape, Shape, Shape]:
    """Return q, k, v as ``[b, h, tokens, e]`` of ``[Σtokens, h, e]``.

    The efficient kernel has ``[1, Σtokens, h, e]``. Four arguments at ``lengths_at`` are the
    offsets of q and k and the longest q and k. The lengths themselves are data, so each sequence
    counts as the longest.
    """
    query, key, value = (shape(op, first + place)[-2:] for place in range(3))
    batch = shape(op, lengths_at)[0] - 1
    q_tokens, k_tokens = integer(op, lengths_at + 2), integer(op, lengths_at + 3)
    return (
        (batch, query[0], q_tokens, query[1]),
        (batch, key[0], k_tokens, key[1]),
        (batch, value[0], k_tokens, value[1]),
    )


register_table(__file__, _fused)


@register_flop_formula("aten._native_multi_head_attention", "aten._triton_multi_head_attention")
def multi_head_attention(op: OpRecord) -> int:
    """``q: [b, l, d]``, ``k, v: [b, s, d]``: projections in and out, attention between.

    ``2 · b · (2 l d² + 2 s d²)`` for the projections and ``4 · b · l · s · d`` for attention.
    """
    return _multi_head_flops(shape(op, 0), shape(op, 1))


@register_flop_formula("aten._transformer_encoder_layer_fwd")
def encoder_layer(op: OpRecord) -> int:
    """``x: [b, l, d]``: self-attention, then layers of width ``f``: ``4 · b · l · d · f``."""
    source = shape(op, 0)
    tokens = prod(source[:-1])
    feed_forward = 2 * tokens * (prod(shape(op, 14)) + prod(shape(op, 16)))
    return _multi_head_flops(source, source) + feed_forward


def _multi_head_flops(query: Shape, key: Shape) -> int:
    batch, targets, width = query
    sources = key[1]
    projections = 2 * batch * (2 * targets + 2 * sources) * width**2
    return projections + 4 * batch * targets * sources * width
