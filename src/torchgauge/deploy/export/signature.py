"""What goes into a packaged program and what comes out: names, shapes, dtypes, ranges. No torch.

A shape holds sizes and, where a size may vary, the name of a dimension or an expression of names
as torch writes it: ``["batch", 3, 224, 224]``, ``["2*batch", "sequence"]``.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from msgspec import Meta, ValidationError, convert, to_builtins

from torchgauge.errors import PackageError
from torchgauge.units import format_number_of

Count = Annotated[int, Meta(ge=0)]
_Name = Annotated[str, Meta(pattern=r"\A[A-Za-z_][A-Za-z0-9_]*\Z")]
_Expression = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_+\-*/(), ]{1,200}\Z")]
Shape = tuple[Count | _Expression, ...]

BATCH = "batch"
"""The name of the dimension along which requests are put together."""

_SHOWN_DIMENSIONS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSignature:
    """One tensor; ``minimum`` and ``maximum`` bound the values of an integer input."""

    name: Annotated[str, Meta(min_length=1)]
    shape: Shape
    dtype: _Name
    minimum: int | None = None
    maximum: int | None = None

    @property
    def shape_text(self) -> str:
        """Return the shape as ``[batch, 3]``."""
        return f"[{', '.join(map(str, self.shape))}]"

    @property
    def batch_dim(self) -> int | None:
        """Return where the batch stands, ``None`` when no dimension is the batch alone."""
        return self.shape.index(BATCH) if BATCH in self.shape else None

    def to_dict(self) -> dict[str, Any]:
        """Return the tensor as plain data."""
        data = {**to_builtins(self), "shape": list(self.shape)}
        return {key: value for key, value in data.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeRange:
    """The sizes that a dynamic dimension may take; ``maximum`` is ``None`` without a limit."""

    minimum: Count = 1
    maximum: Count | None = None

    def __contains__(self, size: int) -> bool:
        return self.minimum <= size and (self.maximum is None or size <= self.maximum)

    def nearest(self, size: int) -> int:
        """Return the size in the range that is nearest.

        >>> SizeRange(minimum=2, maximum=32).nearest(128), SizeRange(minimum=2).nearest(1)
        (32, 2)
        """
        size = max(size, self.minimum)
        return size if self.maximum is None else min(size, self.maximum)

    def __str__(self) -> str:
        return f"{self.minimum}…{'' if self.maximum is None else self.maximum}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """Inputs and outputs in the order of the program's arguments and results."""

    inputs: tuple[TensorSignature, ...]
    outputs: tuple[TensorSignature, ...]
    dimensions: Mapping[_Name, SizeRange] = field(default_factory=dict)
    """The ranges of the dynamic dimensions, by name."""

    @property
    def can_batch(self) -> bool:
        """Return whether requests can be put together: every tensor has a batch dimension."""
        return all(t.batch_dim is not None for t in (*self.inputs, *self.outputs))

    def to_dict(self) -> dict[str, Any]:
        """Return the signature as plain data."""
        return {
            "inputs": [tensor.to_dict() for tensor in self.inputs],
            "outputs": [tensor.to_dict() for tensor in self.outputs],
            "dimensions": to_builtins(self.dimensions),
        }


class ShapeMismatch(ValueError):
    """A tensor whose shape the signature does not allow; the message says what it wants."""


def bind_shape(
    tensor: TensorSignature,
    shape: tuple[int, ...],
    dimensions: Mapping[str, SizeRange],
    bound: dict[str, int],
) -> None:
    """Check a shape and add the sizes of its dynamic dimensions to ``bound``.

    Raises:
        ShapeMismatch: another rank, another size, a size out of range, or one that disagrees
            with an earlier input.

    >>> x = TensorSignature(name="x", shape=("batch", 3), dtype="float32")
    >>> sizes = {}
    >>> bind_shape(x, (4, 3), {"batch": SizeRange()}, sizes); sizes
    {'batch': 4}
    """
    check_rank(tensor, shape)
    wanted = tensor.shape_text
    for index, (want, got) in enumerate(zip(tensor.shape, shape, strict=True)):
        if isinstance(want, int):
            if want != got:
                raise ShapeMismatch(
                    f"{tensor.name} has size {got} in dimension {index}, the model takes {want} "
                    f"of {wanted}"
                )
            continue
        if want not in dimensions:  # an expression of others: ``check_expressions``
            continue
        if got not in dimensions[want]:
            raise ShapeMismatch(
                f"{tensor.name} has size {got} in dimension {index} ({want}), the model takes "
                f"{dimensions[want]}"
            )
        if bound.setdefault(want, got) != got:
            raise ShapeMismatch(
                f"{tensor.name} has {want} = {got}, an earlier input has {bound[want]}"
            )


def check_rank(tensor: TensorSignature, shape: tuple[int, ...]) -> None:
    """Check the number of dimensions.

    Raises:
        ShapeMismatch: another one.
    """
    if len(shape) == len(tensor.shape):
        return
    shown = f", {list(shape)}" if len(shape) <= _SHOWN_DIMENSIONS else ""
    raise ShapeMismatch(
        f"{tensor.name} has {format_number_of(len(shape), 'dimension')}{shown}; "
        f"the model takes {len(tensor.shape)}, {tensor.shape_text}"
    )


def check_expressions(tensor: TensorSignature, shape: Shape, bound: Mapping[str, int]) -> None:
    """Check the sizes that follow from others, when those of all inputs are in ``bound``.

    Raises:
        ShapeMismatch: another size. What is not understood here is left to the program.

    >>> y = TensorSignature(name="y", shape=("2*b", 3), dtype="float32")
    >>> check_expressions(y, (5, 3), {"b": 2})  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    torchgauge.deploy.export.signature.ShapeMismatch: y has size 5 in ..., the model takes 2*b = 4
    """
    for index, (want, got) in enumerate(zip(tensor.shape, shape, strict=True)):
        if isinstance(want, int) or want in bound:
            continue
        if (wanted := size_of(want, bound)) is not None and wanted != got:
            raise ShapeMismatch(
                f"{tensor.name} has size {got} in dimension {index}, the model takes {want} = "
                f"{wanted}"
            )


def numbers_in(tensor: TensorSignature, sizes: Mapping[str, int]) -> int:
    """Return how many numbers a tensor holds with these sizes of the dynamic dimensions.

    >>> y = TensorSignature(name="y", shape=("batch", "2*length - 1", 5), dtype="float32")
    >>> numbers_in(y, {"batch": 3, "length": 4})
    105
    """
    count = 1
    for size in tensor.shape:
        count *= size if isinstance(size, int) else max(_value(size, sizes), 1)
    return count


def item_bytes(dtype: str) -> int:
    """Return the bytes of one number.

    >>> item_bytes("float16"), item_bytes("int64"), item_bytes("bool")
    (2, 8, 1)
    """
    bits = re.search(r"\d+", dtype)
    return max(int(bits.group()) // 8, 1) if bits else 1


_OPERATORS: Mapping[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: lambda a, b: a // max(b, 1),
    ast.Div: lambda a, b: a // max(b, 1),
}
_LARGEST_SIZE = 2**40


def _value(expression: str, sizes: Mapping[str, int]) -> int:
    """Return the value of an expression of sizes; of one that is not understood, the largest."""
    value = size_of(expression, sizes)
    return max(sizes.values(), default=1) if value is None else value


def size_of(expression: str, sizes: Mapping[str, int]) -> int | None:
    """Return the value of an expression of sizes; ``None`` for one that is not understood.

    >>> size_of("2*length - 1", {"length": 4}), size_of("Mod(length, 2)", {"length": 4})
    (7, None)
    """

    def of(node: ast.AST) -> int:
        if isinstance(node, ast.Constant) and isinstance(node.value, int):
            return node.value
        if isinstance(node, ast.Name) and node.id in sizes:
            return sizes[node.id]
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            value = _OPERATORS[type(node.op)](of(node.left), of(node.right))
            return max(-_LARGEST_SIZE, min(value, _LARGEST_SIZE))
        raise ValueError(expression)

    try:
        return of(ast.parse(expression, mode="eval").body)
    except (ValueError, SyntaxError, RecursionError):
        return None


# ---------------------------------------------------------------------------- reading


def signature_from_dict(data: Any) -> Signature:
    """Read what ``to_dict`` wrote.

    Raises:
        PackageError: something is missing or of a wrong kind.
    """
    try:
        return convert(data, Signature)
    except ValidationError as error:
        raise PackageError(
            f"the signature of the package cannot be read: {error}",
            hint="package the model again: torchgauge package",
        ) from error
