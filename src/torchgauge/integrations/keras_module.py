"""A model of Keras as a module of torch whose layers can be told apart.

A layer of Keras is a ``torch.nn.Module``, but a model keeps its layers in lists that torch does not
look into.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import torch
from torch import nn


class KerasModule(nn.Module):
    """The training step of a compiled model: layers as modules, a forward that returns the loss."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        for layer in _leaves(model):
            layer.torch_params  # noqa: B018  # makes its parameters known to torch
            self.add_module(_free_name(self, layer.name), layer)
        self.add_module(_free_name(self, "model"), model)

    def forward(self, x: Any, y: Any, sample_weight: Any) -> Any:
        """Return the compiled loss of one batch."""
        model = next(module for module in reversed(self._modules.values()) if module is not None)
        with _computing_on(_device_of(x)):
            output = model(x, training=True)
            return model.compute_loss(x=x, y=y, y_pred=output, sample_weight=sample_weight)  # type: ignore[operator]


@contextmanager
def _computing_on(device: torch.device) -> Iterator[None]:
    """Let Keras take tensors on a device as they are.

    It moves what it computes with to a device of its own, and replaces tensors on "meta" by new
    ones, without a gradient, unless that device equals theirs. ``keras.device`` sets a string,
    which equals no ``torch.device`` (Keras 3.15, ``keras/src/backend/torch/core.py``).
    """
    state: Any = import_module("keras.src.backend.common.global_state")
    before = state.get_global_attribute("torch_device", None)
    state.set_global_attribute("torch_device", device)
    try:
        yield
    finally:
        state.set_global_attribute("torch_device", before)


def _leaves(model: Any) -> Iterator[Any]:
    """Yield the layers that hold no other layer."""
    for layer in model._flatten_layers(include_self=False, recursive=True):
        if not any(True for _ in layer._flatten_layers(include_self=False, recursive=False)):
            yield layer


def _free_name(module: nn.Module, name: str) -> str:
    name = name.replace(".", "_").replace("/", "_")
    while hasattr(module, name):
        name += "_"
    return name


def _device_of(value: Any) -> torch.device:
    leaves = torch.utils._pytree.tree_leaves(value)
    return next(leaf.device for leaf in leaves if isinstance(leaf, torch.Tensor))
