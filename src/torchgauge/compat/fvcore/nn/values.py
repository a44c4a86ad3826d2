"""What operator handles are given: stand-ins for the values of a TorchScript graph.

fvcore's handles get ``torch._C.Value`` objects. Ours answer the questions that handles ask of
those: ``isCompleteTensor()``, ``type().sizes()``, ``toIValue()``, ``node().inputs()``. There is no
graph behind them, so a handle that walks from a value to the node which made it finds lists alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from torchgauge.facts.trace import ArgumentValue, TensorSpec


@dataclass(frozen=True, slots=True)
class Value:
    """An argument or result of one operator."""

    content: ArgumentValue

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Return the shape of a tensor, ``None`` for anything else."""
        return self.content.shape if isinstance(self.content, TensorSpec) else None

    @property
    def dtype(self) -> torch.dtype | None:
        """Return the dtype of a tensor, ``None`` for anything else."""
        return self.type().dtype()

    def isCompleteTensor(self) -> bool:  # TorchScript's own name
        """Return whether this is a tensor; its shape is always known."""
        return isinstance(self.content, TensorSpec)

    def type(self) -> ValueType:
        """Return the type, which knows the sizes."""
        return ValueType(self.content)

    def toIValue(self) -> ArgumentValue:
        """Return a number, text, flag or list of those; ``None`` for a tensor, as TorchScript."""
        return None if _holds_tensor(self.content) else self.content

    def node(self) -> ValueNode:
        """Return what made it: for a list, a node with the items as inputs."""
        return ValueNode(self.content)


@dataclass(frozen=True, slots=True)
class ValueType:
    """The type of a value."""

    content: ArgumentValue

    def sizes(self) -> list[int] | None:
        """Return the shape of a tensor."""
        return list(self.content.shape) if isinstance(self.content, TensorSpec) else None

    def dim(self) -> int | None:
        """Return the number of dimensions of a tensor."""
        return len(self.content.shape) if isinstance(self.content, TensorSpec) else None

    def dtype(self) -> torch.dtype | None:
        """Return the dtype of a tensor."""
        if not isinstance(self.content, TensorSpec):
            return None
        found: torch.dtype = getattr(torch, self.content.dtype)
        return found

    def kind(self) -> str:
        """Return TorchScript's name of the kind, such as ``TensorType`` or ``ListType``."""
        if isinstance(self.content, tuple):
            return "ListType"
        name = "Tensor" if isinstance(self.content, TensorSpec) else type(self.content).__name__
        return f"{name[0].upper()}{name[1:].removesuffix('Type')}Type"


@dataclass(frozen=True, slots=True)
class ValueNode:
    """What made a value."""

    content: ArgumentValue

    def kind(self) -> str:
        """Return ``prim::ListConstruct`` for a list, ``prim::Constant`` for what is no tensor."""
        if isinstance(self.content, tuple):
            return "prim::ListConstruct"
        return "prim::Param" if isinstance(self.content, TensorSpec) else "prim::Constant"

    def inputs(self) -> list[Value]:
        """Return the items of a list."""
        return values(self.content) if isinstance(self.content, tuple) else []


def values(items: Sequence[ArgumentValue]) -> list[Value]:
    """Return a value per item."""
    return [Value(item) for item in items]


def _holds_tensor(content: ArgumentValue) -> bool:
    if isinstance(content, tuple):
        return any(map(_holds_tensor, content))
    return isinstance(content, TensorSpec)
