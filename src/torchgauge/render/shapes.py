"""Shapes as text, with the batch dimension named."""

from __future__ import annotations

import re
from collections.abc import Sequence

from torchgauge.facts.trace import NamedValue
from torchgauge.render.page import Cell


def shape_text(value: NamedValue, batch_size: int | None) -> str:
    """Write a leaf's shape; dimensions known to be a multiple of the batch as ``B`` or ``49B``.

    >>> from torchgauge.facts.trace import TensorSpec
    >>> spec = TensorSpec(shape=(2, 3, 8), dtype="float32", device="cpu", nbytes=192)
    >>> shape_text(NamedValue(name="x", tensor=spec, batch_dims=((0, 1),)), 2)
    '[B, 3, 8]'
    >>> shape_text(NamedValue(name="n", text="3"), 2)
    '3'
    """
    if value.tensor is None:
        return value.text or "–"
    factors = dict(value.batch_dims) if batch_size is not None else {}
    return shape_of(value.tensor.shape, factors)


def shape_of(shape: Sequence[int], factors: dict[int, int] | None = None) -> str:
    """Write a shape; ``factors`` holds the dimensions that grow with the batch.

    >>> shape_of((98, 7), {0: 49})
    '[49B, 7]'
    """
    factors = factors or {}
    sizes = [_dimension(size, factors.get(dim)) for dim, size in enumerate(shape)]
    return f"[{', '.join(sizes)}]"


def values_cell(
    values: Sequence[NamedValue], batch_size: int | None, *, all_of_them: bool = False
) -> Cell:
    """Write the leaves of a call's inputs or outputs.

    Several tensors become the first one and ``+2``. Where there is room for it the keys of a dict
    or the fields of a named tuple stand before their shapes; ``all_of_them`` writes every one.
    """
    tensors = [value for value in values if value.tensor is not None]
    if not tensors:
        return Cell((shape_text(values[0], batch_size) if values else "–",))
    shapes = [shape_text(value, batch_size) for value in tensors]
    if len(tensors) == 1:
        return Cell((shapes[0],))
    short = f"{shapes[0]} +{len(shapes) - 1}"
    named = any(not value.name.replace(".", "").isdecimal() for value in tensors)
    if named:
        shapes = [f"{value.name} {shape}" for value, shape in zip(tensors, shapes, strict=True)]
    if all_of_them or (named and len(shapes) <= 3):
        return Cell((", ".join(shapes), short))
    return Cell((short,))


def dtype_text(values: Sequence[NamedValue]) -> str:
    """Write the distinct dtypes of the tensors, in order of appearance."""
    dtypes = dict.fromkeys(value.tensor.dtype for value in values if value.tensor is not None)
    return ", ".join(dtypes) or "–"


_OVERLOAD = re.compile(r"\b(aten\.\w+)\.\w+|\b(\w+\.\w+)\.default\b")


def without_overloads(text: str) -> str:
    """Cut the overload from the operators that a text names.

    >>> without_overloads("aten.add.Tensor in fc"), without_overloads("torchvision.nms.default")
    ('aten.add in fc', 'torchvision.nms')
    """
    return _OVERLOAD.sub(lambda found: found[1] or found[2], text)


def _dimension(size: int, factor: int | None) -> str:
    if factor is None:
        return str(size)
    return "B" if factor == 1 else f"{factor}B"


def named_value(value: NamedValue, batch_size: int | None) -> str:
    """Write a leaf with its name, shape and dtype: ``x [B, 3, 224, 224] float32``."""
    if value.tensor is None:
        return f"{value.name} = {shape_text(value, None)}"
    return f"{value.name} {shape_text(value, batch_size)} {value.tensor.dtype}"
