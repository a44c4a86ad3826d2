"""Answers where a real run would decide by chance: small random draws, checks for NaN and zero.

Layers that are dropped at random ask for one number; debugging code asks whether a result is
finite. To run the whole model for real would answer neither better: its numbers are random, too.
"""

from __future__ import annotations

import math
import weakref
from typing import Any

import torch

from torchgauge.trace.inspect.geometry import covers_storage
from torchgauge.trace.operators.op_facts import OpCall
from torchgauge.trace.shapes.rule import Args, Kwargs
from torchgauge.trace.torch_internals.tensors import storage_key
from torchgauge.trace.values.origins import DRAWN
from torchgauge.trace.values.values import ValueStore

_MOST = 16
"""Numbers that a draw may have, to be worth a value."""
_DRAWS = frozenset({
    "rand", "randn", "randint", "uniform_", "normal_", "random_", "bernoulli", "bernoulli_",
    "exponential_", "rand_like", "randint_like",
})  # fmt: skip


def draws(call: OpCall, output: Any) -> bool:
    """Return whether an operator draws a few random numbers from what is known of its arguments."""
    if (
        call.facts.base not in _DRAWS
        or not isinstance(output, torch.Tensor)
        or output.numel() > _MOST
    ):
        return False
    return call.kwargs.get("generator") is None


def draw(values: ValueStore, seed: int, call: OpCall, output: torch.Tensor) -> None:
    """Give the output of an operator numbers that are the same on every machine."""
    if not covers_storage(output):  # the rest of the storage is not drawn
        values.forget(storage_key(output.untyped_storage()))
        return
    func, facts, args, kwargs, _ = call
    generator = torch.default_generator
    before = generator.get_state()
    try:
        generator.manual_seed(seed)
        if facts.base == "bernoulli":
            chances = values.get(args[0])
            if chances is None:
                return
            value = func(chances, *args[1:], **kwargs)
        elif args and isinstance(args[0], torch.Tensor):
            empty = torch.empty(args[0].shape, dtype=args[0].dtype, device="cpu")
            value = func(empty, *args[1:], **{**kwargs, **_device(kwargs)})
        else:
            value = func(*args, **{**kwargs, "device": torch.device("cpu")})
    except (RuntimeError, TypeError):
        values.forget(storage_key(output.untyped_storage()))
        return
    finally:
        generator.set_state(before)
    values.set(output, value.to(output.dtype), origins=DRAWN)


def range_drawn(call: OpCall) -> tuple[int, int] | None:
    """Return the least whole number that is drawn at random and how many there are to choose from.

    Every order of a permutation has the same shapes, and so have many numbers drawn from few.
    """
    base, args = call.facts.base, call.args
    if base == "randperm":
        return 0, int(args[0])
    if base != "randint":
        return None
    bounds = [value for value in args if isinstance(value, int)]
    low, high = (0, *bounds) if len(bounds) == 1 else bounds
    return low, high - low


def _device(kwargs: Kwargs) -> dict[str, Any]:
    return {"device": torch.device("cpu")} if "device" in kwargs else {}


def finite_answer(base: str, args: Args) -> bool | None:
    """Return what a check for NaN or infinity says of finite numbers, ``None`` for other operators.

    ``isfinite`` and ``isinf`` are ``x == x`` and comparisons with infinity (``isfinite`` and
    ``isinf`` in ``aten/src/ATen/native/TensorCompare.cpp``).
    """
    if base in ("isnan", "isinf", "isposinf", "isneginf"):
        return False
    if base not in ("eq", "ne") or len(args) != 2:
        return None
    left, right = args
    is_itself = right is left
    is_infinite = isinstance(right, float) and right == math.inf
    if not (is_itself or is_infinite) or not left.dtype.is_floating_point:
        return None
    return (base == "eq") == is_itself


_MAGNITUDES = frozenset(("linalg_vector_norm", "norm", "linalg_matrix_norm", "abs"))
"""Operators whose results are never negative, and zero for zeros alone."""
_ABOVE = {"gt": True, "ge": True, "ne": True, "lt": False, "le": False, "eq": False}
_TINY = 1e-6
"""Up to which a number is compared with to find out whether a magnitude is zero."""


class Magnitudes:
    """Remember norms and absolute values, which trained numbers do not make zero."""

    def __init__(self) -> None:
        self._made: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def note(self, call: OpCall, output: Any) -> None:
        """Remember the output of an operator that makes magnitudes."""
        if call.facts.base in _MAGNITUDES and isinstance(output, torch.Tensor):
            storage = output.untyped_storage()
            key = storage_key(storage)
            self._made[key] = weakref.ref(storage, lambda _: self._made.pop(key, None))

    def answer(self, call: OpCall) -> bool | None:
        """Return what a comparison of magnitudes with about zero gives, ``None`` for others."""
        base, args = call.facts.base, call.args
        if not self._made or base not in _ABOVE or len(args) != 2:
            return None
        left, right = args
        is_magnitude = isinstance(left, torch.Tensor) and (
            storage_key(left.untyped_storage()) in self._made
        )
        is_zero = isinstance(right, (int, float)) and 0 <= right <= _TINY
        is_always = base in ("ge", "lt") and right == 0
        return _ABOVE[base] if is_magnitude and is_zero and not is_always else None
