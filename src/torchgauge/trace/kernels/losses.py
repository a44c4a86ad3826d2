"""Losses whose own code writes numbers into a tensor that is not there on the meta device."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

_NONE, _MEAN = 0, 1
"""PyTorch's numbers for a loss that is not reduced, and for one that is averaged."""


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
