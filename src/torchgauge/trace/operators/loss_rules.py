"""Outputs of losses that leave their scalar in the memory of the loss of each element.

The kernels compute the loss of each element into their output, reduce it, and resize the output:
its storage stays as large as it was. Source: ``Loss.cpp`` and ``cuda/Loss.cu`` in PyTorch's
``aten/src/ATen/native`` (2.6–2.13): ``TORCH_META_FUNC(mse_loss)``,
``binary_cross_entropy_out_cpu``, ``soft_margin_loss_out``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

_NONE, _MEAN = 0, 1
"""PyTorch's numbers for a loss that is not reduced, and for one that is averaged."""


def _scalar_in_all(position: int) -> Callable[[tuple[Any, ...], dict[str, Any]], Any]:
    """Return a rule for a loss whose reduction is the argument at ``position``."""

    def rule(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given = args[position] if len(args) > position else kwargs.get("reduction", _MEAN)
        if given == _NONE:
            return NotImplemented
        shape = torch.broadcast_shapes(args[0].shape, args[1].shape)
        dtype = torch.promote_types(args[0].dtype, args[1].dtype)
        whole = torch.empty((max(1, shape.numel()),), dtype=dtype, device="meta")
        return whole.as_strided((), ())

    return rule


LOSS_RULES: dict[str, Callable[[tuple[Any, ...], dict[str, Any]], Any]] = {
    "aten.mse_loss.default": _scalar_in_all(2),
    "aten.smooth_l1_loss.default": _scalar_in_all(2),
    "aten.binary_cross_entropy.default": _scalar_in_all(3),
    "aten.soft_margin_loss.default": _scalar_in_all(2),
}
"""By operator, overload included."""
