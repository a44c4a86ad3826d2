"""Products whose gradient PyTorch computes otherwise without data.

Its formulas look for zeros among the values. Without data, and under a dispatch mode, they take
what is right with zeros too, and several times as large. The gradients here are those of numbers
other than zero. Source: ``cumprod_backward`` and ``prod_backward`` in PyTorch's
``torch/csrc/autograd/FunctionsManual.cpp`` (2.6–2.13), for every device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from torchgauge.trace.torch_internals.autograd import stand_in
from torchgauge.trace.torch_internals.kernels import below_autograd, differentiated
from torchgauge.trace.torch_internals.modes import dispatch_modes, has_transforms

_aten = torch.ops.aten
NO_ZEROS = "gradients of prod and cumprod are those of numbers other than zero"


def _answered(overload: Any, gradient: Callable[..., torch.Tensor], *args: Any, dtype: Any) -> Any:
    """Run an operator, with a gradient of its own where a plain one is asked for."""
    source = args[0]
    if not (torch.is_grad_enabled() and source.requires_grad):
        is_plain = torch.autograd.forward_ad.unpack_dual(source).tangent is None
        if is_plain and not has_transforms():
            with below_autograd():
                return overload(*args, dtype=dtype)
        return differentiated(overload, *args, dtype=dtype)
    if dtype is not None or source.dtype.is_complex or source.numel() <= 1 or has_transforms():
        return differentiated(overload, *args, dtype=dtype)
    with torch.no_grad(), below_autograd():
        output = overload(*args)

    def answers(saved: Sequence[torch.Tensor], grad: torch.Tensor) -> tuple[torch.Tensor]:
        for mode in dispatch_modes():
            if isinstance(noted := getattr(mode, "assumptions", None), list):
                noted.append(NO_ZEROS)
        return (gradient(grad, *saved),)

    return stand_in([output], answers, (source, output), source)


def cumprod(source: torch.Tensor, dim: int, *, dtype: torch.dtype | None = None) -> Any:
    """Multiply along a dimension, each element with all before it."""
    gradient = partial(_of_cumprod, dim=dim)
    return _answered(_aten.cumprod.default, gradient, source, dim, dtype=dtype)


def _of_cumprod(
    grad: torch.Tensor, source: torch.Tensor, output: torch.Tensor, *, dim: int
) -> torch.Tensor:
    if source.shape[dim] == 1:
        return grad
    weighted = output * grad
    is_zero = source == 0
    is_zero.any()
    turned = weighted.flip(dim)
    summed = turned.cumsum(dim)
    turned_back = summed.flip(dim)
    del turned, summed
    return turned_back.div_(source)


def prod(source: torch.Tensor, *, dtype: torch.dtype | None = None) -> Any:
    """Multiply all elements."""
    return _answered(_aten.prod.default, _of_prod, source, dtype=dtype)


def _of_prod(grad: torch.Tensor, source: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    source.eq(0)  # the places of zeros, of which there are none
    return grad * (output / source)


def prod_along(
    source: torch.Tensor, dim: int, keepdim: bool = False, *, dtype: torch.dtype | None = None
) -> Any:
    """Multiply along a dimension."""
    gradient = partial(_of_prod_along, dim=dim, keepdim=keepdim)
    return _answered(_aten.prod.dim_int, gradient, source, dim, keepdim, dtype=dtype)


def _of_prod_along(
    grad: torch.Tensor, source: torch.Tensor, output: torch.Tensor, *, dim: int, keepdim: bool
) -> torch.Tensor:
    if not keepdim:
        grad, output = grad.unsqueeze(dim), output.unsqueeze(dim)
    is_zero = source == 0
    counts = is_zero.sum(dim, True)
    counts.sum()
    return grad * (output / source)


KERNELS: dict[str, Callable[..., Any]] = {
    "cumprod": cumprod,
    "prod": prod,
    "prod.dim_int": prod_along,
}
"""For every device."""
