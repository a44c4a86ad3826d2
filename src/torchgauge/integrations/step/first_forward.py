"""Be told of the first forward of a model before it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

OnForward = Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]
"""Gets the model and the positional and keyword arguments of its forward."""


class FirstForward:
    """Calls a function with the first training forward's arguments, then leaves the model alone.

    A forward in evaluation mode is no step of training and passes.
    """

    def __init__(self, model: nn.Module, on_forward: OnForward) -> None:
        self._on_forward = on_forward
        self._handle: Any = model.register_forward_pre_hook(self._hook, with_kwargs=True)

    def _hook(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not model.training:
            return
        self.remove()  # before the analysis, whose copy of the model has its hooks
        self._on_forward(model, args, kwargs)

    def remove(self) -> None:
        """Stop waiting."""
        self._handle.remove()
