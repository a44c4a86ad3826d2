"""Scaled dot-product attention of every backend, and the fused transformer fast paths.

Forward: ``q · kᵀ`` and ``p · v``. Backward: five products — the scores again, the gradients of
``p`` and ``v``, then those of ``q`` and ``k`` — because no fused kernel keeps the scores.
Source: Dao, FlashAttention-2 (arXiv:2307.08691), algorithms 1 and 2.
"""

from __future__ import annotations

from math import prod

from torchgauge.estimate.compute.formulas.arguments import (
    Shape,
    argument,
    integer,
    shape,
)
from torchgauge.estimate.compute.registry import names, register_flop_formula
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


@register_flop_formula(
    *names("""
        aten.scaled_dot_product_attention aten._scaled_dot_product_attention_math
        aten._scaled_dot_product_attention_math_for_mps aten._scaled_dot_product_cudnn_attention
        aten._scaled_dot_product_efficient_attention aten._scaled_dot_product_flash_attention
        aten._scaled_dot_product_flash_attention_for_cpu
        aten._scaled_dot_product_fused_attention_overrideable aten._triton_scaled_dot_attention
        flex_attention
    """),
)
def attention(op: OpRecord) -> int:
    """``(q, k, v, …)``, heads before tokens: ``2 · b · h · l · s · (e + f)``.

    FlexAttention counts dense too: its block mask is data.
    """
    return attention_flops(shape(op, 0), shape(op, 1), shape(op, 2))


@register_flop_formula(
    *names("""
        aten._scaled_dot_product_cudnn_attention_backward
        aten._scaled_dot_product_efficient_attention_backward
        aten._scaled_dot_product_flash_attention_backward
        aten._scaled_dot_product_flash_attention_for_cpu_backward
        aten._scaled_dot_product_fused_attention_overrideable_backward
    """),
)
def attention_backward(op: OpRecord) -> int:
    """``(grad, q, k, v, …)``: ``2 · b · h · l · s · (3 e + 2 f)``."""
    return attention_backward_flops(shape(op, 1), shape(op, 2), shape(op, 3))


@register_flop_formula("flex_attention_backward")
def flex_attention_backward(op: OpRecord) -> int:
    """``(q, k, v, out, …)``: ``2 · b · h · l · s · (3 e + 2 f)``, dense."""
    return attention_backward_flops(shape(op, 0), shape(op, 1), shape(op, 2))


@register_flop_formula(
    "aten._flash_attention_forward",
    "aten._efficient_attention_forward",
)
def tokens_first_attention(op: OpRecord) -> int:
    """As ``attention`` with tokens before heads, or jagged (see ``_heads_first``)."""
    lengths_at = 3 if "_flash_" in op.name else 4  # the efficient one has a bias before them
    return attention_flops(*_heads_first(op, 0, lengths_at))


@register_flop_formula("aten._flash_attention_forward_no_dropout_inplace")
def inplace_tokens_first_attention(op: OpRecord) -> int:
    """As ``tokens_first_attention`` after the output, ``(out, q, k, v, …)``."""
    return attention_flops(*_heads_first(op, 1, 4))


@register_flop_formula(
    "aten._flash_attention_backward",
    "aten._efficient_attention_backward",
)
def tokens_first_attention_backward(op: OpRecord) -> int:
    """As ``attention_backward`` with tokens before heads, or jagged (see ``_heads_first``)."""
    return attention_backward_flops(*_heads_first(op, 1, 6))


@register_flop_formula("aten._cudnn_attention_forward")
def cudnn_attention(op: OpRecord) -> int:
    """As ``attention``, or jagged (see ``_heads_first``)."""
    if argument(op, 4) is None:
        return attention(op)
    return attention_flops(*_heads_first(op, 0, 4))


@register_flop_formula("aten._cudnn_attention_backward")
def cudnn_attention_backward(op: OpRecord) -> int:
    """As ``attention_backward``, or jagged: three dimensions instead of four."""
    if len(shape(op, 1)) == 4:
        return attention_backward(op)
    return attention_backward_flops(*_heads_first(op, 1, 9))


def _heads_first(op: OpRecord, first: int, lengths_at: int) -> tuple[Shape, Shape, Shape]:
    """Return q, k, v as ``[b, h, tokens, e]``.

    They arrive as ``[b, tokens, h, e]``; or jagged as ``[Σtokens, h, e]`` (the efficient kernel:
    ``[1, Σtokens, h, e]``) with four arguments at ``lengths_at``: the offsets of q and k and the
    longest q and k. The lengths themselves are data, so each sequence counts as the longest.
    """
    query, key, value = (shape(op, first + position) for position in range(3))
    if argument(op, lengths_at) is None:
        return _swap(query), _swap(key), _swap(value)
    batch = shape(op, lengths_at)[0] - 1
    q_tokens, k_tokens = integer(op, lengths_at + 2), integer(op, lengths_at + 3)
    return (
        (batch, query[-2], q_tokens, query[-1]),
        (batch, key[-2], k_tokens, key[-1]),
        (batch, value[-2], k_tokens, value[-1]),
    )


def _swap(tensor: Shape) -> Shape:
    batch, tokens, heads, width = tensor
    return (batch, heads, tokens, width)


@register_flop_formula(
    "aten._native_multi_head_attention",
    "aten._triton_multi_head_attention",
)
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
