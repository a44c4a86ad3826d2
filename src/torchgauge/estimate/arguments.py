"""How formulas and rules read an ``OpRecord``."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import Final, TypeAlias

from torchgauge.facts.trace import ArgumentValue, OpRecord, TensorSpec

Shape: TypeAlias = tuple[int, ...]
ABSENT: Final = -1
"""Where an argument would stand that an operator does not have."""


class ShapeNotVisibleError(LookupError):
    """A formula needs a shape that the record does not hold (packed weights, an opaque object)."""


def argument(
    op: OpRecord, position: int, name: str = "", default: ArgumentValue = None
) -> ArgumentValue:
    """Return a positional or keyword argument, the default where the call left it out."""
    if 0 <= position < len(op.args):
        return op.args[position]
    return next((value for key, value in op.kwargs if key == name), default)


def tensor(op: OpRecord, position: int) -> TensorSpec:
    """Return a tensor argument."""
    value = argument(op, position)
    if not isinstance(value, TensorSpec):
        raise ShapeNotVisibleError(f"argument {position} of {op.name} is not a plain tensor")
    return value


def shape(op: OpRecord, position: int) -> Shape:
    """Return the shape of a tensor argument."""
    return tensor(op, position).shape


def shapes(op: OpRecord, position: int) -> tuple[Shape, ...]:
    """Return the shapes of a list of tensors, also grouped; absent ones (``None``) are left out."""
    value = argument(op, position)
    if not isinstance(value, tuple):
        raise ShapeNotVisibleError(f"argument {position} of {op.name} is not a list of tensors")
    flat = [part for item in value for part in (item if isinstance(item, tuple) else (item,))]
    specs = [item for item in flat if isinstance(item, TensorSpec)]
    if len(specs) != sum(item is not None for item in flat):
        raise ShapeNotVisibleError(f"argument {position} of {op.name} holds packed objects")
    return tuple(spec.shape for spec in specs)


def integers(op: OpRecord, position: int, name: str = "") -> Shape:
    """Return a list of integers, empty where the call left it out."""
    value = argument(op, position, name)
    return tuple(int(item) for item in as_tuple(value) if isinstance(item, int))


def integer(op: OpRecord, position: int, name: str = "", default: ArgumentValue = None) -> int:
    """Return an integer argument."""
    value = argument(op, position, name, default)
    if not isinstance(value, int):
        raise ShapeNotVisibleError(f"argument {position} of {op.name} is not a number")
    return value


def expanded(factor: Shape, expand: Shape) -> Shape:
    """Return a shape with a dimension of 1 at each of the places ``expand``."""
    sizes, rank = iter(factor), len(factor) + len(expand)
    return tuple(1 if dim in expand else next(sizes) for dim in range(rank))


def mask(op: OpRecord, position: int) -> tuple[bool, ...]:
    """Return an ``output_mask``: which gradients were asked for."""
    return tuple(bool(item) for item in as_tuple(argument(op, position)))


def as_tuple(value: ArgumentValue) -> Iterable[ArgumentValue]:
    """Return the items of a list argument, nothing for an absent one."""
    return value if isinstance(value, tuple) else ()


def real_products(op: OpRecord) -> int:
    """Return how many real multiply-adds one multiply-add of an operator is: 4 if complex, else 1.

    ``(a + bi)(c + di) = (ac − bd) + (ad + bc)i`` and the sum: 4 multiplications, 4 additions.
    Source: LAPACK Working Note 41 (Blackford and Dongarra), appendix C. cuBLAS and MKL multiply
    so, unless their ``3m`` variants are called.
    """
    return 4 if any(tensor.dtype.startswith("complex") for tensor in tensors(op.args)) else 1


def tensors(values: Iterable[ArgumentValue]) -> Iterable[TensorSpec]:
    """Yield the tensors among arguments, those of lists too."""
    for value in values:
        if isinstance(value, TensorSpec):
            yield value
        elif isinstance(value, tuple):
            yield from tensors(value)


def given_tensors(op: OpRecord) -> list[TensorSpec]:
    """Return the tensor arguments, in order, those of lists too."""
    return list(tensors((*op.args, *(value for _, value in op.kwargs))))


def output_shape(op: OpRecord, position: int = 0) -> Shape:
    """Return the shape of one of the outputs."""
    if position >= len(op.outputs):
        raise ShapeNotVisibleError(f"{op.name} returned no tensor at {position}")
    return op.outputs[position].shape


def output_numel(op: OpRecord) -> int:
    """Return the number of elements of the first output."""
    return prod(output_shape(op))
