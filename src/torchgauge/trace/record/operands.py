"""The arguments of one operator: their specs, and the tensors among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from torchgauge.trace.inspect.describe import SpecTable, argument
from torchgauge.trace.inspect.irregular import dense_parts, is_irregular
from torchgauge.trace.shapes.rule import Args

_SCALARS = (int, float, bool, str, type(None))


class Operands:
    """The arguments of one operator: their specs, and the tensors among them."""

    __slots__ = ("irregular", "is_foreign", "noted", "noted_kwargs", "parts", "tensors")

    def __init__(self, args: Args, kwargs: Mapping[str, Any], specs: SpecTable) -> None:
        self.tensors: list[torch.Tensor] = []
        self.irregular: torch.Tensor | None = None
        """The last sparse or nested tensor."""
        self.parts: list[torch.Tensor] = []
        """The dense tensors inside the sparse and nested ones."""
        self.is_foreign = False
        """Whether a tensor is not on the meta device."""
        self.noted = self._note_all(args, specs)
        """The arguments as plain data."""
        self.noted_kwargs = [(name, self._note(value, specs)) for name, value in kwargs.items()]

    def _note_all(self, values: Sequence[Any], specs: SpecTable) -> tuple[Any, ...]:
        return tuple([self._note(value, specs) for value in values])

    def _note(self, value: Any, specs: SpecTable) -> Any:
        """Return an argument as plain data and remember the tensors in it."""
        if isinstance(value, torch.Tensor):
            if not value.is_meta:
                self.is_foreign = True
            if not is_irregular(value):
                self.tensors.append(value)
                return specs.of_dense(value)
            self.irregular = value
            self.parts += dense_parts(value)
            return specs.of(value)
        if isinstance(value, _SCALARS):
            return value
        if isinstance(value, (list, tuple)):
            return self._note_all(value, specs)
        return argument(value, specs)
