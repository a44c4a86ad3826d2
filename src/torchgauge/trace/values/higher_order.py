"""Operators that take functions: what they make, without running the functions."""

from __future__ import annotations

from typing import Any

import torch

from torchgauge.trace.shapes.rule import Args, Kwargs
from torchgauge.trace.torch_internals.higher_order import FLEX_STATISTICS

META = torch.device("meta")


def run_higher_order(func: Any, args: Args, kwargs: Kwargs) -> Any:
    """Return the outputs of a higher-order operator on meta tensors.

    FlexAttention: query ``[B, H, L, E]``, value ``[B, H', S, Ev]`` → output ``[B, H, L, Ev]``,
    log-sum-exp and row maximum ``[B, H, L]``. Everything else runs as it is.
    """
    name = str(func)
    if name == "flex_attention":
        return _flex_attention(args)
    if name == "flex_attention_backward":
        return _flex_attention_backward(args)
    return func(*args, **kwargs)


def _flex_attention(args: Args) -> tuple[torch.Tensor, ...]:
    query, value = args[0], args[2]
    rows = query.shape[:-1]
    output = torch.empty((*rows, value.shape[-1]), dtype=query.dtype, device=META)
    statistics = [
        torch.empty(rows, dtype=torch.float32, device=META) for _ in range(FLEX_STATISTICS)
    ]
    return output, *statistics


def _flex_attention_backward(args: Args) -> tuple[Any, ...]:
    """Gradients of query, key and value; none for what the score function captured."""
    grads = tuple(torch.empty_like(tensor, device=META) for tensor in args[:3])
    return (*grads, ())


class _FlexAttention(torch.autograd.Function):
    """FlexAttention with a backward that is one operator too."""

    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, rest: tuple[Any, ...]
    ) -> Any:
        outputs = torch.ops.higher_order.flex_attention(query, key, value, *rest)
        ctx.save_for_backward(query, key, value, *outputs[:2])
        ctx.rest = rest
        ctx.mark_non_differentiable(*outputs[1:])
        return outputs

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        score_mod, block_mask, scale, kernel_options = ctx.rest[:4]
        gradients = torch.ops.higher_order.flex_attention_backward(
            *ctx.saved_tensors, grads[0], None, score_mod, None, block_mask, scale, kernel_options
        )
        return (*gradients[:3], None)


def flex_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *rest: Any
) -> tuple[torch.Tensor, ...]:
    """Run FlexAttention as one operator forward and one backward.

    ``rest``: score function, block mask, scale, kernel options, captured buffers.
    """
    outputs: tuple[torch.Tensor, ...] = _FlexAttention.apply(  # type: ignore[no-untyped-call]
        query, key, value, rest
    )
    return outputs


def flex_attention_without_gradients(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *rest: Any
) -> tuple[torch.Tensor, ...]:
    """Run FlexAttention on real tensors; the recorder cannot watch how it is differentiated.

    Raises:
        NotImplementedError: a gradient is wanted.
    """
    if torch.is_grad_enabled() and any(t.requires_grad for t in (query, key, value)):
        raise NotImplementedError("FlexAttention trains in a simulated run only")
    outputs: tuple[torch.Tensor, ...] = torch.ops.higher_order.flex_attention(
        query, key, value, *rest
    )
    return outputs
