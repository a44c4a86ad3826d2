"""A model's call as a flat list of tensors, which is what a program is exported with.

Arguments may be nested (dicts, tuples) and hold things that are not tensors; those are kept as they
are. Results are flattened the same way. Each tensor has a name: the argument's, and the path in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from torchgauge.errors import ModelError
from torchgauge.trace.torch_internals.structures import flatten_with_names, unflatten

Leaves = tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """The arguments of a forward: tensors by name, and how to make the call from them again."""

    names: tuple[str, ...]
    tensors: tuple[torch.Tensor, ...]
    leaves: Leaves
    """Every leaf; tensors are ``None`` here and stand in ``tensors``, in order."""
    is_tensor: tuple[bool, ...]
    spec: Any

    def arguments(self, tensors: Sequence[torch.Tensor]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return positional and keyword arguments with ``tensors`` in their places."""
        given = iter(tensors)
        leaves = [
            next(given) if is_tensor else leaf
            for leaf, is_tensor in zip(self.leaves, self.is_tensor, strict=True)
        ]
        args, kwargs = unflatten(leaves, self.spec)
        return args, kwargs


def make_call(args: Sequence[Any], kwargs: Mapping[str, Any], names: Sequence[str]) -> Call:
    """Return the call with these arguments; ``names`` are those of the positional ones."""
    paths, leaves, spec = flatten_with_names((tuple(args), dict(kwargs)))
    is_tensor = tuple(isinstance(leaf, torch.Tensor) for leaf in leaves)
    return Call(
        names=tuple(
            _argument_name(path, names)
            for path, tensor in zip(paths, is_tensor, strict=True)
            if tensor
        ),
        tensors=tuple(leaf for leaf in leaves if isinstance(leaf, torch.Tensor)),
        leaves=tuple(None if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves),
        is_tensor=is_tensor,
        spec=spec,
    )


class FlatModel(nn.Module):
    """A model that takes the tensors of a call and returns the tensors of its result."""

    def __init__(self, model: nn.Module, call: Call) -> None:
        super().__init__()
        self.model = model
        self._call = call

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the tensors in the model's result, in its order."""
        return tuple(tensor for _, tensor in self._named(tensors))

    def names_of_outputs(self, tensors: Sequence[torch.Tensor]) -> tuple[str, ...]:
        """Run the model and return the names of what it returns.

        Raises:
            ModelError: there is no tensor in it.
        """
        with torch.no_grad():
            named = self._named(tensors)
        if not named:
            raise ModelError(
                f"{type(self.model).__name__} returns no tensor, so there is nothing to serve",
                hint="return the tensors that a client wants",
            )
        return tuple(_unique([name for name, _ in named]))

    def _named(self, tensors: Sequence[torch.Tensor]) -> list[tuple[str, torch.Tensor]]:
        args, kwargs = self._call.arguments(tensors)
        paths, leaves, _ = flatten_with_names(self.model(*args, **kwargs))
        return [
            (".".join(path) or "output", leaf)
            for path, leaf in zip(paths, leaves, strict=True)
            if isinstance(leaf, torch.Tensor)
        ]


def _unique(names: Sequence[str]) -> list[str]:
    """Return names of which none stands twice: ``{"a.b": x, "a": {"b": y}}`` has two ``a.b``."""
    found: list[str] = []
    for name in names:
        new, number = name, 1
        while new in found:
            number += 1
            new = f"{name}_{number}"
        found.append(new)
    return found


def _argument_name(path: tuple[str, ...], names: Sequence[str]) -> str:
    kind, first, *rest = path
    if kind == "0":
        index = int(first)
        first = names[index] if index < len(names) else f"input{index}"
    return ".".join((first, *rest))
