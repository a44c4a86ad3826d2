"""Output shapes of element-wise operators, without PyTorch's decompositions in Python.

Most operators of a step are element-wise, and on the meta device many of them are computed by
reference implementations that take a hundred times as long as the answer is worth. The rule here
answers the plain cases and leaves all others to PyTorch.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

from torchgauge.trace.shapes.rule import Args, Kwargs

_BOOLEAN = frozenset(
    ("eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_xor", "logical_not",
     "isnan", "isinf", "isfinite", "isposinf", "isneginf", "signbit", "isin")
)  # fmt: skip
"""Element-wise operators that answer with booleans."""
_OTHER_LAWS = frozenset(
    ("complex", "polar", "angle", "frexp", "clone", "_to_copy", "copy", "to", "conj_physical",
     "mvlgamma")
)  # fmt: skip
"""Tagged element-wise, but their dtype or layout does not follow from their operands' alone."""

_LAYOUT = frozenset(("dtype", "out", "memory_format", "layout"))
_MODES = frozenset(("rounding_mode", "approximate"))
"""Keywords of which a few words are known; PyTorch refuses all others."""
_KNOWN_MODES = (None, "floor", "trunc", "none", "tanh")


def pointwise_rule(name: str) -> Any:
    """Return the rule of an element-wise operator, ``None`` when its dtype follows other laws."""
    base = name.split(".")[1]
    if base in _OTHER_LAWS or base.startswith("__") or name.endswith("out"):
        return None
    if name == "aten.pow.Scalar":  # makes its result contiguous
        return None
    rule: Any = functools.partial(_result, torch.bool if base in _BOOLEAN else None)
    if base.endswith("_"):
        rule = _in_place
    if base in _NEEDED:
        return functools.partial(_checked, rule, _NEEDED[base])
    return rule


def _checked(rule: Any, is_fine: Callable[..., bool], args: Args, kwargs: Kwargs) -> Any:
    """Answer where the arguments are fine; what is wrong with others, PyTorch says."""
    return rule(args, kwargs) if is_fine(*args, **kwargs) else NotImplemented


def _has_bound(source: Any, *bounds: Any, **named: Any) -> bool:
    return any(bound is not None for bound in (*bounds, *named.values()))


_NEEDED: dict[str, Callable[..., bool]] = {
    "clamp": _has_bound,
    "clamp_": _has_bound,
    "where": lambda condition, *values: condition.dtype is torch.bool,
    "masked_fill": lambda source, mask, *values: mask.dtype is torch.bool,
}


def _in_place(args: Args, kwargs: Kwargs) -> Any:
    target = args[0]
    shape = target.shape
    for value in args[1:]:
        if isinstance(value, torch.Tensor) and value.shape != shape and not _fits(value, shape):
            return NotImplemented
    return target


def _result(dtype: torch.dtype | None, args: Args, kwargs: Kwargs) -> Any:
    """Return an empty result, or ``NotImplemented`` when PyTorch has to say what it is.

    Plain means: floating-point operands of one dtype (0-dimensional ones apart), none complex,
    and either all contiguous with shapes that broadcast to the largest one's, or all alike.
    """
    operands = []
    for value in args:
        if isinstance(value, torch.Tensor):
            operands.append(value)
        elif isinstance(value, complex):
            return NotImplemented
    if not operands or not _LAYOUT.isdisjoint(kwargs):
        return NotImplemented
    if not _MODES.isdisjoint(kwargs) and any(kwargs.get(m) not in _KNOWN_MODES for m in _MODES):
        return NotImplemented
    first = largest = operands[0]
    for value in operands[1:]:
        if value.dim() > largest.dim() or (
            value.dim() == largest.dim() and value.numel() > largest.numel()
        ):
            largest = value
    kind, shape = largest.dtype, largest.shape
    if not kind.is_floating_point:
        return NotImplemented
    contiguous = alike = True
    for value in operands:
        if value.dtype is not kind and (value.dim() > 0 or value.dtype.is_complex or not shape):
            return NotImplemented
        if value.shape != shape:
            alike = False
            if not _fits(value, shape):
                return NotImplemented
        elif value.stride() != first.stride():
            alike = False
        if not value.is_contiguous():
            contiguous = False
    if contiguous:
        return torch.empty(shape, dtype=dtype or kind, device="meta")
    if alike:
        return torch.empty_like(first, dtype=dtype or kind)
    return NotImplemented


def _fits(value: torch.Tensor, shape: torch.Size) -> bool:
    """Return whether a tensor broadcasts to ``shape`` without changing it."""
    own = value.shape
    offset = len(shape) - len(own)
    if offset < 0:
        return False
    return all(size in (1, shape[offset + index]) for index, size in enumerate(own))
