"""The sum of two gradients of one tensor, in place where autograd's engine would make it so.

The engine adds a gradient to the one that it holds already in place if it has the last reference
to it, but never while a dispatch mode is active: what a recorder sees is a new tensor each time.
Source: ``accumulate`` and ``can_accumulate_inplace`` in PyTorch's
``torch/csrc/autograd/input_buffer.cpp`` (2.6–2.13).
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch.utils.weak import WeakTensorKeyDictionary

from torchgauge.trace.shapes.rule import Args, Kwargs
from torchgauge.trace.torch_internals.autograd import is_python_node, reference_counts
from torchgauge.trace.torch_internals.modes import DispatchMode, without_modes

SUM = torch.ops.aten.add.Tensor
SUM_IN_PLACE = torch.ops.aten.add_.Tensor
_aten = torch.ops.aten
SELECTIONS: dict[Any, Any] = {
    _aten.index_add.default: _aten.index_add_.default,
    _aten.index_put.default: _aten.index_put_.default,
    _aten.scatter_add.default: _aten.scatter_add_.default,
    _aten.scatter.src: _aten.scatter_.src,
    _aten.put.default: _aten.put_.default,
}
"""What the gradient of a selection (``index_select``, ``gather``, ``x[i]``) adds to zeros with.

A dispatch mode is shown the operator on the left, all others run that on the right, in place.
Source: ``areAnyTensorSubclassLike`` in PyTorch's
``aten/src/ATen/native/TensorAdvancedIndexing.cpp`` (2.6–2.13).
"""

WRITTEN_OVER: dict[Any, Any] = {_aten.sub.Tensor: _aten.sub_.Tensor, SUM: SUM_IN_PLACE,
                                _aten.mul.Tensor: _aten.mul_.Tensor}  # fmt: skip
"""What a formula does to its own temporaries, in place while no dispatch mode is active."""
_WRITE_OVER = frozenset({"BinaryCrossEntropyWithLogitsBackward0"})
"""Backward nodes with such formulas: ``binary_cross_entropy_with_logits_backward`` in PyTorch's
``torch/csrc/autograd/FunctionsManual.cpp`` (2.6–2.13)."""


def as_in_backward(func: Any, args: Args, kwargs: Kwargs, node: Any, *, by_user: bool) -> Any:
    """Return the operator that a backward node runs while no dispatch mode is active.

    Within a hook, ``by_user``, sums are not the engine's.
    """
    if func is SUM and not by_user and is_last_reference(args, kwargs, node):
        return SUM_IN_PLACE
    if func in SELECTIONS and not by_user and _is_of_selection(func, args, node):
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


def _is_of_selection(func: Any, args: Args, node: Any) -> bool:
    """Return whether PyTorch's own formulas, not a user's, add to zeros under a backward node.

    The gradient of ``index_put`` and ``put`` themselves overwrites a copy of what comes in, and
    does not accumulate (``derivatives.yaml``).
    """
    if torch.is_grad_enabled() or is_python_node(node):
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
        or not _is_dense(old)
    ):
        return False
    return reference_counts(old) == last_reference()


def _is_dense(tensor: torch.Tensor) -> bool:
    """Return whether the elements fill their memory without gaps or overlaps, in any order."""
    if tensor.layout is not torch.strided:
        return False
    extent = 1
    sizes = [(s, n) for s, n in zip(tensor.stride(), tensor.shape, strict=True) if n != 1]
    for stride, size in sorted(sizes):
        if stride != extent:
            return False
        extent *= size
    return True


@cache
def last_reference() -> tuple[int, int]:
    """Return the counts of a gradient that the engine alone holds, as a dispatch mode sees them.

    Measured, because they depend on how many references the way into Python itself takes; not to
    be called first from inside a dispatch mode, where autograd is off.
    """
    with without_modes(), torch.enable_grad():
        x = torch.ones(2, device="cpu", requires_grad=True)
        total = (x.tanh() * x.sigmoid()).sum()
        mode = _Counter()
        with mode:
            torch.autograd.grad(total, x)
    assert mode.found is not None
    return mode.found


class _Counter(DispatchMode):
    found: tuple[int, int] | None = None

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Args = (), kwargs: Kwargs | None = None
    ) -> Any:
        """Note the counts of what is added."""
        if func is SUM:
            self.found = reference_counts(args[0])
        return func(*args, **(kwargs or {}))
