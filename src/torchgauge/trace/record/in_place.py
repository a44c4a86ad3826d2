"""What PyTorch computes in place, but never while a dispatch mode is active.

A recorder sees a new tensor each time. Who refers to an operand says what would have happened:

- The engine adds a gradient to the one that it holds already in place if it has the last reference
  to it: ``accumulate`` and ``can_accumulate_inplace`` in ``torch/csrc/autograd/input_buffer.cpp``.
- ``linear`` of an input that is neither 2-D nor contiguous adds the bias to the product in place:
  ``linear`` in ``aten/src/ATen/native/Linear.cpp``, ``isTensorSubclassLike`` in
  ``TensorSubclassLikeUtils.h``.

Sources: PyTorch 2.6–2.13.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch.utils.weak import WeakTensorKeyDictionary

from torchgauge.trace.inspect.geometry import is_dense
from torchgauge.trace.shapes.rule import Args, Kwargs
from torchgauge.trace.torch_internals.autograd import is_python_node, reference_counts
from torchgauge.trace.torch_internals.modes import DispatchMode, without_modes

SUM = torch.ops.aten.add.Tensor
SUM_IN_PLACE = torch.ops.aten.add_.Tensor
_aten = torch.ops.aten
_alias = torch.ops.aten.alias.default
SELECTIONS: dict[Any, Any] = {
    _aten.index_add.default: _aten.index_add_.default,
    _aten.index_put.default: _aten.index_put_.default,
    _aten.scatter_add.default: _aten.scatter_add_.default,
    _aten.scatter.src: _aten.scatter_.src,
    _aten.put.default: _aten.put_.default,
    _aten.masked_scatter.default: _aten.masked_scatter_.default,
}
"""With what the gradient of a selection (``gather``, ``masked_select``, ``x[i]``) fills zeros.

A dispatch mode is shown the operator on the left, all others run that on the right, in place.
Source: ``areAnyTensorSubclassLike`` in PyTorch's
``aten/src/ATen/native/TensorAdvancedIndexing.cpp`` (2.6–2.13).
"""

WRITTEN_OVER: dict[Any, Any] = {_aten.sub.Tensor: _aten.sub_.Tensor, SUM: SUM_IN_PLACE,
                                _aten.mul.Tensor: _aten.mul_.Tensor,
                                _aten.logical_and.default: _aten.logical_and_.default}  # fmt: skip
"""What a formula does to its own temporaries, in place while no dispatch mode is active."""
_WRITE_OVER = frozenset({"BinaryCrossEntropyWithLogitsBackward0", "ClampBackward0"})
"""Backward nodes with such formulas: that and ``clamp_backward`` in PyTorch's
``torch/csrc/autograd/FunctionsManual.cpp`` (2.6–2.13)."""


def as_in_backward(func: Any, args: Args, kwargs: Kwargs, node: Any, *, by_engine: bool) -> Any:
    """Return the operator that a backward node runs while no dispatch mode is active.

    Sums within a hook or a formula are not made ``by_engine``.
    """
    if func is SUM and by_engine and is_last_reference(args, kwargs, node):
        return SUM_IN_PLACE
    if func in SELECTIONS and by_engine and _is_of_selection(func, args, node):
        return SELECTIONS[func]
    if func in WRITTEN_OVER and _is_written_over(args, node):
        return WRITTEN_OVER[func]
    return func


def writes_over(node: Any) -> bool:
    """Return whether a backward node writes results of its formula over its temporaries."""
    return node.name() in _WRITE_OVER


def _is_written_over(args: Args, node: Any) -> bool:
    """Return whether an operator under ``node`` would write its result over its first operand."""
    if torch.is_grad_enabled() or not writes_over(node) or len(args) != 2:
        return False
    old, new = args
    if not isinstance(old, torch.Tensor) or not isinstance(new, torch.Tensor):
        return False
    if old.dtype != new.dtype or torch.broadcast_shapes(old.shape, new.shape) != old.shape:
        return False
    count, storage = reference_counts(old)
    alone, shared = last_reference()
    times = _written_over.get(old, 0)
    if storage != shared or not alone <= count <= alone + times:
        return False
    _written_over[old] = times + 1
    return True


_written_over = WeakTensorKeyDictionary()
"""How often a temporary was written over: a line of a formula holds it once under each result."""
_OVERWRITE_TOO = (_aten.index_put.default, _aten.put.default)
_KEEPS_ITS_MASK = frozenset({"ScatterReduceBackward0", "IndexReduceBackward0"})
"""Nodes that add to a tensor which they go on to need: ``scatter_reduce_backward`` and
``index_reduce_backward`` of the largest and smallest (``FunctionsManual.cpp``)."""


def _is_of_selection(func: Any, args: Args, node: Any) -> bool:
    """Return whether PyTorch's own formulas, not a user's, add to zeros under a backward node.

    The gradient of ``index_put`` and ``put`` themselves overwrites a copy of what comes in, and
    does not accumulate (``derivatives.yaml``).
    """
    if torch.is_grad_enabled() or is_python_node(node) or node.name() in _KEEPS_ITS_MASK:
        return False
    return func not in _OVERWRITE_TOO or args[3:] == (True,)


def is_last_reference(args: Args, kwargs: Kwargs, node: Any) -> bool:
    """Return whether an ``add`` under ``node`` is the engine's, of a gradient it alone holds."""
    if len(args) != 2 or kwargs or torch.is_grad_enabled() or is_python_node(node):
        return False
    old, new = args
    if not isinstance(old, torch.Tensor) or not isinstance(new, torch.Tensor):
        return False
    if (
        old.is_nested
        or new.is_nested
        or old.shape != new.shape
        or old.dtype != new.dtype
        or not is_dense(old)
    ):
        return False
    return reference_counts(old) == last_reference()


@cache
def last_reference() -> tuple[int, int]:
    """Return the counts of a gradient that the engine alone holds, as a dispatch mode sees them.

    Measured, because they depend on how many references the way into Python itself takes; not to
    be called first from inside a dispatch mode, where autograd is off.
    """
    with without_modes(), torch.enable_grad():
        x = torch.ones(2, device="cpu", requires_grad=True)
        total = (x.tanh() * x.sigmoid()).sum()
        mode = _Counter(lambda args: reference_counts(args[0]))
        with mode:
            torch.autograd.grad(total, x)
    return mode.counts


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
    mode = _Counter(_references)
    with without_modes(), torch.no_grad():
        source = torch.ones((2, 3, 4), device="cpu").transpose(0, 1)
        weight, bias = torch.ones((5, 4), device="cpu"), torch.ones(5, device="cpu")
        with mode:
            torch.nn.functional.linear(source, weight, bias)
    return mode.counts


def _references(args: Args) -> tuple[int, int]:
    return sys.getrefcount(args[0]), reference_counts(args[0])[0]


class _Counter(DispatchMode):
    """Notes the references to what is added to, as a dispatch mode sees them."""

    def __init__(self, count: Callable[[Args], tuple[int, int]]) -> None:
        super().__init__()
        self._count = count
        self.counts = (-1, -1)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Args = (), kwargs: Kwargs | None = None
    ) -> Any:
        """Note the references where a sum is formed."""
        if func is SUM:
            self.counts = self._count(args)
        return func(*args, **(kwargs or {}))
