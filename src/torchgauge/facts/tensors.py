"""Tensors without their data, and what operators and modules are called with."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Flag, auto
from typing import Any, ClassVar, TypeAlias

from torchgauge.facts.codec.damage import Damage
from torchgauge.facts.codec.quick import made_quickly
from torchgauge.facts.codec.shape import Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """A tensor without its data. ``dtype`` is a torch name without prefix (``"float32"``)."""

    shape: tuple[int, ...]
    dtype: str
    device: str
    nbytes: int
    """Bytes of the elements of this view (numel × element size), not of the storage behind it."""
    stored: int | None = field(default=None, compare=False)
    """Elements that a sparse tensor holds; ``None`` for all others. ``shape`` is the logical one,
    that of a nested tensor its values' (rows of all lengths one after the other)."""

    @property
    def numel(self) -> int:
        """Return the number of elements."""
        count = 1
        for size in self.shape:
            count *= size
        return count


class Layout(Flag):
    """The order of a tensor's elements in memory, by what kernels ask about it.

    A tensor with one channel or of one pixel is contiguous in both orders.
    """

    NONE = 0
    CONTIGUOUS = auto()
    CHANNELS_LAST = auto()
    """``is_contiguous(memory_format=torch.channels_last)``, or its form for volumes."""
    SUGGESTS_CHANNELS_LAST = auto()
    """Results are made with their channels last (``suggest_memory_format``)."""
    MATRIX = auto()
    """BLAS takes its matrices as they are: rows or columns lie one after the other."""
    CONJUGATED = auto()
    """Its numbers are the conjugates of what is in memory."""
    TRANSPOSED = auto()
    """Matrices whose columns lie one after the other, without gaps."""
    HEADS_INSIDE = auto()
    """``[N, heads, positions, size]`` as it comes from ``[N, positions, heads, size]``."""


ArgumentValue: TypeAlias = (
    "TensorSpec | bool | int | float | complex | str | tuple[ArgumentValue, ...] | None"
)
"""An operator's argument: tensors as specs, dtypes and layouts as text, lists as tuples."""


_DEEPEST = 32
"""How many lists may lie in one another in an argument."""
_SIZES = ("nbytes", "stored")
_TEXTS = ("dtype", "device")


def read_arguments(value: Any) -> tuple[Any, ...]:
    """Return an operator's arguments from plain data: a tensor is an object, a tuple is a list.

    Raises:
        Damage: they are something else.
    """
    if not isinstance(value, (list, tuple)):
        raise Damage("", "is not a list")
    return tuple(_argument(item, f"[{index}]") for index, item in enumerate(value))


def read_named_arguments(value: Any) -> tuple[tuple[str, Any], ...]:
    """Return an operator's arguments by name from plain data.

    Raises:
        Damage: they are something else.
    """
    pairs = read_arguments(value)
    for index, pair in enumerate(pairs):
        if not isinstance(pair, tuple) or len(pair) != 2 or not isinstance(pair[0], str):
            raise Damage(f"[{index}]", "is not a name with its value")
    return pairs


def _argument(value: Any, place: str, depth: int = 0) -> Any:
    if depth > _DEEPEST:
        raise Damage("", f"holds more than {_DEEPEST} lists in one another")
    if isinstance(value, (list, tuple)):
        items = enumerate(value)
        return tuple(_argument(item, f"{place}[{index}]", depth + 1) for index, item in items)
    if not isinstance(value, dict):
        if value is None or isinstance(value, (bool, int, float, complex, str)):
            return value
        raise Damage(place, f"is {value!r}, which no operator takes")
    shape: Any = value.get("shape")
    stored = value.get("stored")
    is_tensor = (
        isinstance(shape, (list, tuple))
        and all(_is_size(size) for size in shape)
        and all(isinstance(value.get(name), str) for name in _TEXTS)
        and _is_size(value.get("nbytes"))
        and (stored is None or _is_size(stored))
        and value.keys() <= {"shape", *_TEXTS, *_SIZES}
    )
    if not is_tensor:
        raise Damage(place, "is not a tensor with shape, dtype, device and bytes")
    return TensorSpec(**{**value, "shape": tuple(shape)})


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


@made_quickly
@dataclass(frozen=True, slots=True, kw_only=True)
class NamedValue:
    """One leaf of a module's inputs or outputs.

    ``name`` is the path to the leaf: the parameter's name or position, then keys, fields or
    indices (``"past_key_values.0.1"``). A leaf that is not a tensor has ``tensor=None`` and its
    short text in ``text`` (``"None"``, ``"3"``, ``"'same'"``, ``"<Config>"``).
    """

    name: str
    tensor: TensorSpec | None = None
    text: str = ""
    batch_dims: tuple[tuple[int, int], ...] = ()
    """``(dimension, factor)``: a dimension that is ``factor`` × the batch size."""

    json: ClassVar = Shape(
        names=("name", "shape", "dtype", "device", "nbytes", "batch_dims", "text"),
        sources={"batch_dims": "tensor_batch_dims", "text": "shown_text"},
        left_out=("device", "nbytes", "batch_dims", "text"),
    )

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Return the tensor's shape; this and the others: ``None`` without a tensor."""
        return None if self.tensor is None else self.tensor.shape

    @property
    def dtype(self) -> str | None:
        """Return the tensor's dtype."""
        return None if self.tensor is None else self.tensor.dtype

    @property
    def device(self) -> str | None:
        """Return the tensor's device."""
        return None if self.tensor is None else self.tensor.device

    @property
    def nbytes(self) -> int | None:
        """Return the bytes of the tensor's elements."""
        return None if self.tensor is None else self.tensor.nbytes

    @property
    def tensor_batch_dims(self) -> tuple[tuple[int, int], ...] | None:
        """Return the batch dimensions of a tensor."""
        return None if self.tensor is None else self.batch_dims

    @property
    def shown_text(self) -> str | None:
        """Return the text, ``None`` for a tensor that has none."""
        return self.text if self.text or self.tensor is None else None

    @classmethod
    def from_json(
        cls, *, name: str, shape: tuple[int, ...] | None, text: str | None, **given: Any
    ) -> NamedValue:
        """Return the value from what its JSON holds.

        Raises:
            Damage: a tensor's dtype, device, bytes or batch dimensions are missing.
        """
        if shape is None:
            return cls(name=name, text=text or "")
        for missing in (item for item, value in given.items() if value is None):
            raise Damage(missing, "is missing")
        batch_dims = given.pop("batch_dims")
        tensor = TensorSpec(shape=shape, **given)
        return cls(name=name, text=text or "", tensor=tensor, batch_dims=batch_dims)
