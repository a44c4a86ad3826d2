"""How tensors that are filled with one number pass it on, whatever their size.

A mask of ones, an image of zeros, a batch of equal lengths: each element is the same number, and
what is computed from it often is again. Each rule here answers from that number alone.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch

from torchgauge.trace.operators.op_facts import OpCall
from torchgauge.trace.shapes.rule import Args

ConstantOf: TypeAlias = Callable[[torch.Tensor], "torch.Tensor | None"]
"""Takes a meta tensor; returns the number that fills it (0-dimensional, on the CPU) or ``None``."""
Filled: TypeAlias = "list[tuple[torch.Tensor, torch.Tensor]]"
"""Outputs and the number that fills each."""

PICKS = frozenset(
    ("index_select", "gather", "index", "_unsafe_index", "take", "embedding", "repeat", "flip",
     "roll", "rot90", "unfold", "im2col", "upsample_nearest1d", "upsample_nearest2d",
     "upsample_nearest3d", "_upsample_nearest_exact1d", "_upsample_nearest_exact2d",
     "_upsample_nearest_exact3d", "upsample_linear1d", "upsample_bilinear2d",
     "_upsample_bilinear2d_aa", "upsample_bicubic2d", "_upsample_bicubic2d_aa",
     "upsample_trilinear3d", "adaptive_avg_pool2d", "_adaptive_avg_pool2d",
     "adaptive_avg_pool3d", "_adaptive_avg_pool3d", "adaptive_max_pool2d", "adaptive_max_pool3d",
     "max_pool2d_with_indices", "max_pool3d_with_indices", "pixel_shuffle", "pixel_unshuffle",
     "channel_shuffle", "reflection_pad1d", "reflection_pad2d", "reflection_pad3d",
     "replication_pad1d", "replication_pad2d", "replication_pad3d", "sort", "topk", "kthvalue",
     "cummax", "cummin", "amax", "amin", "max", "min", "mean", "median", "mode", "nanmean",
     "_unsafe_view", "_reshape_copy", "contiguous", "expand_copy", "view_copy", "permute_copy",
     "diagonal_copy")
)  # fmt: skip
"""Operators whose first output is made of elements of their first argument, or of their means."""
_JOINS = frozenset(("cat", "stack"))
_WRITES = frozenset(("copy_", "fill_", "zero_"))
"""In-place operators that do not read what they overwrite."""
_SAMPLE = 64
"""Elements that are compared before all of them are."""
_DROPPED = ("layout", "memory_format", "pin_memory", "non_blocking")


def passed_on(call: OpCall, outputs: list[torch.Tensor], constant_of: ConstantOf) -> Filled | None:
    """Return the outputs that are filled with one number, ``None`` where no rule says so."""
    if not outputs:
        return None
    base, args = call.facts.base, call.args
    number: torch.Tensor | None
    if base in PICKS:
        number = constant_of(args[0])
    elif base in _JOINS:
        number = _same(args[0], constant_of)
    elif base == "constant_pad_nd":
        number = _padded(args, call.kwargs, constant_of)
    elif base in _REDUCTIONS:
        number = _reduced(base, args[0], outputs[0], constant_of)
    elif base == "where" and len(args) == 3:
        number = _chosen(args, constant_of)
    elif call.facts.is_elementwise:
        number = _computed(call, constant_of)
    else:
        return None
    return None if number is None else [(outputs[0], number.to(outputs[0].dtype))]


def as_number(number: Any, dtype: torch.dtype) -> torch.Tensor:
    """Return a number as a 0-dimensional tensor, which must not be written to."""
    return number if isinstance(number, torch.Tensor) else _as_tensor(number, dtype)


@functools.lru_cache(maxsize=256)
def _as_tensor(number: complex, dtype: torch.dtype) -> torch.Tensor:
    return torch.full((), number, dtype=dtype, device="cpu")


def number_that_fills(value: torch.Tensor) -> torch.Tensor | None:
    """Return the one number (0-dimensional) that all elements of a real tensor are, or ``None``."""
    if value.numel() == 0:
        return None
    for dim, stride in enumerate(value.stride()):
        if stride == 0:  # expanded: the same elements again and again
            value = value.narrow(dim, 0, 1)
    first = value[(0,) * value.dim()]
    if value.is_contiguous() and value.numel() > _SAMPLE:
        step = value.numel() // _SAMPLE
        if not bool((value.view(-1)[::step] == first).all()):
            return None
    return first.clone() if bool((value == first).all()) else None


def reinterpreted(number: torch.Tensor, dtype: torch.dtype) -> torch.Tensor | None:
    """Return what a number is to a view of its bytes in another dtype; ``None`` if it varies."""
    if number.dtype == dtype:
        return number
    if number.dtype.itemsize == dtype.itemsize:
        return number.view(dtype)
    if not number.reshape(1).view(torch.uint8).any():
        return torch.zeros((), dtype=dtype, device="cpu")
    return None


def filled_with(base: str, args: Args, kwargs: Mapping[str, Any]) -> Any:
    """Return the number that ``ones``, ``zeros_like``, ``new_full`` and their like fill with."""
    if "ones" in base:
        return 1
    if "zeros" in base:
        return 0
    if "full" in base:
        position = 2 if base == "new_full" else 1
        return kwargs["fill_value"] if "fill_value" in kwargs else args[position]
    return None


def _same(values: Any, constant_of: ConstantOf) -> torch.Tensor | None:
    """Return the number that fills several tensors; empty ones have none and do not matter."""
    numbers = [constant_of(value) for value in values if value.numel()]
    first = numbers[0] if numbers else None
    if first is None or any(n is None or n.dtype != first.dtype or n != first for n in numbers):
        return None
    return first


def _padded(args: Args, kwargs: Mapping[str, Any], constant_of: ConstantOf) -> torch.Tensor | None:
    number = constant_of(args[0])
    value = args[2] if len(args) > 2 else kwargs.get("value", 0)
    only_cut = all(size <= 0 for size in args[1])
    return number if number is not None and (only_cut or number == value) else None


def _chosen(args: Args, constant_of: ConstantOf) -> torch.Tensor | None:
    """Return the number that ``where(condition, a, b)`` takes everywhere."""
    condition = constant_of(args[0])
    if condition is None:
        chosen = [constant_of(a) if isinstance(a, torch.Tensor) else a for a in args[1:]]
        if any(item is None for item in chosen):
            return None
        first, second = (torch.as_tensor(item, device="cpu") for item in chosen)
        return first if first == second else None
    taken = args[1] if condition else args[2]
    if isinstance(taken, torch.Tensor):
        return constant_of(taken)
    return torch.as_tensor(taken, device="cpu")


def _computed(call: OpCall, constant_of: ConstantOf) -> torch.Tensor | None:
    """Run an element-wise operator on one element of each argument."""

    def element(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            raise LookupError
        if not isinstance(value, torch.Tensor):
            return value
        number = constant_of(value)
        if number is None:
            raise LookupError
        return number.reshape((1,) * value.dim()).clone()

    args, target = call.args, call.args[0]
    rest: tuple[Any, ...] = args
    try:
        if call.facts.base in _WRITES:
            one = torch.zeros((1,) * target.dim(), dtype=target.dtype, device="cpu")
            rest = (one, *(element(value) for value in args[1:]))
        else:
            rest = tuple(element(value) for value in args)
        options = {k: element(v) for k, v in call.kwargs.items() if k not in _DROPPED}
    except LookupError:
        return None
    if "device" in options:
        options["device"] = torch.device("cpu")
    result = call.func(*rest, **options)
    return result.reshape(()) if isinstance(result, torch.Tensor) else None


def _reduced(
    base: str, source: torch.Tensor, output: torch.Tensor, constant_of: ConstantOf
) -> torch.Tensor | None:
    number = constant_of(source)
    if number is None or not output.numel():
        return None
    count = source.numel() // output.numel()
    return _REDUCTIONS[base](number, count, output.dtype)


_REDUCTIONS: dict[str, Callable[[torch.Tensor, int, torch.dtype], torch.Tensor]] = {
    "all": lambda number, count, dtype: number != 0,
    "any": lambda number, count, dtype: number != 0,
    "sum": lambda number, count, dtype: number.to(dtype) * count,
    "prod": lambda number, count, dtype: number.to(dtype) ** count,
    "count_nonzero": lambda number, count, dtype: (number != 0) * count,
}
"""By operator: the result of a reduction from the number, and how many of it there are."""
