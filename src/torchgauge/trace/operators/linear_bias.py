"""The bias of a linear layer, added in place where PyTorch does so.

``linear`` of an input that is neither 2-D nor contiguous multiplies first and adds the bias to the
product. It does so in place, but never while a dispatch mode is active: a recorder sees a new
tensor. Source: ``linear`` in PyTorch's ``aten/src/ATen/native/Linear.cpp`` and
``isTensorSubclassLike`` in ``TensorSubclassLikeUtils.h`` (2.6–2.13).
"""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

import torch

from torchgauge.trace.shapes.rule import Args, Kwargs
from torchgauge.trace.torch_internals.autograd import reference_counts
from torchgauge.trace.torch_internals.modes import DispatchMode, without_modes

SUM = torch.ops.aten.add.Tensor
_alias = torch.ops.aten.alias.default


def is_bias_of_linear(args: Args, kwargs: Kwargs) -> bool:
    """Return whether an ``add`` is that of a bias to a product that only ``linear`` holds.

    Python code that adds the same holds the product itself, in a variable or on its stack.
    ``vmap`` and the like hold it in C++; there ``linear`` makes a new tensor. To be called where
    nothing but the arguments holds the tensors.
    """
    if len(args) != 2 or kwargs or not all(isinstance(arg, torch.Tensor) for arg in args):
        return False
    if _references(args) != references_in_linear():
        return False
    product, bias = args
    return (
        bias.dim() == 1
        and product.dim() > 0
        and product.dtype == bias.dtype
        and product.layout is torch.strided
        and not product.is_nested
        and bool(product.shape[-1] == bias.shape[0])
    )


def in_place(args: Args) -> tuple[Any, ...]:
    """Return the arguments of the sum in place.

    What is written to is an alias, because autograd wants a new tensor back.
    """
    return (_alias(args[0]), *args[1:])


@cache
def references_in_linear() -> tuple[int, int]:
    """Return how many references Python and C++ have to a product that only ``linear`` holds.

    Measured, because they depend on the way into Python. Not to be called first from inside a
    dispatch mode.
    """
    mode = _Counter()
    with without_modes(), torch.no_grad():
        source = torch.ones((2, 3, 4), device="cpu").transpose(0, 1)
        weight, bias = torch.ones((5, 4), device="cpu"), torch.ones(5, device="cpu")
        with mode:
            torch.nn.functional.linear(source, weight, bias)
    return mode.found


def _references(args: Args) -> tuple[int, int]:
    return sys.getrefcount(args[0]), reference_counts(args[0])[0]


class _Counter(DispatchMode):
    found = (-1, -1)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Args = (), kwargs: Kwargs | None = None
    ) -> Any:
        """Note the references to what the bias is added to."""
        if func is SUM:
            self.found = _references(args)
        return func(*args, **(kwargs or {}))
