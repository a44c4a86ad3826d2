"""Losses that do otherwise than PyTorch's meta kernels say.

Some leave their scalar in the memory of the loss of each element.

The kernels compute the loss of each element into their output, reduce it, and resize the output:
its storage stays as large as it was. Source: ``Loss.cpp`` and ``cuda/Loss.cu`` in PyTorch's
``aten/src/ATen/native`` (2.6–2.13): ``TORCH_META_FUNC(mse_loss)``,
``binary_cross_entropy_out_cpu``, ``soft_margin_loss_out``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from torchgauge.trace.shapes.rule import Args, Kwargs, Rule, contiguous, made

_NONE, _MEAN = 0, 1
"""PyTorch's numbers for a loss that is not reduced, and for one that is averaged."""


def _scalar_in_all(position: int) -> Rule:
    """Return a rule for a loss whose reduction is the argument at ``position``."""

    def rule(args: Args, kwargs: Kwargs) -> Any:
        given = args[position] if len(args) > position else kwargs.get("reduction", _MEAN)
        if given == _NONE:
            return NotImplemented
        shape = torch.broadcast_shapes(args[0].shape, args[1].shape)
        dtype = torch.promote_types(args[0].dtype, args[1].dtype)
        whole = made((max(1, shape.numel()),), dtype)
        return whole.as_strided((), ())

    return rule


LOSS_RULES: dict[str, Rule] = {
    "aten.mse_loss.default": _scalar_in_all(2),
    "aten.smooth_l1_loss.default": _scalar_in_all(2),
    "aten.binary_cross_entropy.default": _scalar_in_all(3),
    "aten.soft_margin_loss.default": _scalar_in_all(2),
    **{
        f"aten.{name}.default": contiguous(getattr(torch.ops.aten, name).default)
        for name in ("mse_loss_backward", "smooth_l1_loss_backward", "huber_loss_backward")
    },
}
"""By operator, overload included."""


def ctc_loss(
    scores: torch.Tensor,
    targets: torch.Tensor,
    input_lengths: Sequence[int],
    target_lengths: Sequence[int],
    blank: int = 0,
    reduction: int = _MEAN,
    zero_infinity: bool = False,
) -> torch.Tensor:
    """Run the CTC loss of scores ``[T, N, C]`` with its lengths as numbers.

    The same operators in the same order as ``ctc_loss`` in PyTorch's
    ``aten/src/ATen/native/LossCTC.cpp``.
    """
    loss: torch.Tensor = torch.ops.aten._ctc_loss(
        scores, targets.to(torch.int64), input_lengths, target_lengths, blank, zero_infinity
    )[0]
    if zero_infinity:
        zero = torch.zeros((), dtype=loss.dtype, device=loss.device)
        loss = torch.where(loss == math.inf, zero, loss)
    if reduction == _NONE:
        return loss
    if reduction != _MEAN:
        return loss.sum()
    lengths = torch.tensor(target_lengths, dtype=loss.dtype, device=loss.device).clamp_min(1)
    return (loss / lengths).mean()
