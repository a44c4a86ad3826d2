"""What shape rules are: functions of an operator's arguments that make its outputs without data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch

META = torch.device("meta")
Args: TypeAlias = tuple[Any, ...]
Kwargs: TypeAlias = dict[str, Any]
Rule: TypeAlias = Callable[[Args, Kwargs], Any]
"""Returns ``NotImplemented`` where PyTorch's own meta kernel is right."""
Tensors: TypeAlias = tuple[torch.Tensor, ...]
Gradients: TypeAlias = tuple[torch.Tensor | None, ...]


def made(shape: Sequence[int] | int, dtype: torch.dtype) -> torch.Tensor:
    """Return a contiguous tensor without data."""
    return torch.empty(shape, dtype=dtype, device=META)


def asked_for(mask: Sequence[bool], shape: Sequence[int] | int, dtype: torch.dtype) -> Gradients:
    """Return a gradient of one shape for each place of ``mask`` that is set."""
    return tuple(made(shape, dtype) if wanted else None for wanted in mask)


def contiguous(operator: Any) -> Rule:
    """Return the rule of an operator with one result, contiguous whatever its arguments are.

    PyTorch's meta kernel hands their order on. Source: ``LEGACY_CONTIGUOUS_MEMORY_FORMAT`` in
    ``Loss.cpp``, ``empty({0})`` in ``GatedLinearUnit.cpp``, no strides in ``SoftMax.cpp``.
    """
    return lambda args, kwargs: operator(*args, **kwargs).contiguous()
